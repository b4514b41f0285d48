"""Deeds: each kind can be done again, and no secret stands in any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from ballast.mall import again
from ballast.mall.deed_kinds import KINDS, Answered, CartSet
from ballast.mall.ids import new_id

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    return (field.name for field in msgspec.structs.fields(kind))


def test_each_kind_has_a_name_and_somebody_who_does_it_again() -> None:
    assert set(KINDS.values()) == set(again._DOING)
    assert len(set(KINDS.values())) == len(KINDS)


def test_of_tokens_and_passwords_there_are_hashes_only() -> None:
    secret = re.compile(r"token|password|secret")
    named = {name for kind in KINDS.values() for name in _fields(kind) if secret.search(name)}
    assert named == {"token_hash", "password_hash"}


def test_a_deed_is_the_same_after_it_was_written_down() -> None:
    for deed in (
        CartSet(new_id(), new_id(), 3, NOW),
        Answered("order:1", "k", b"\x00\xff", "{}", NOW),
    ):
        (kind,) = (name for name, one in KINDS.items() if one is type(deed))
        assert again.read(kind, msgspec.json.decode(msgspec.json.encode(deed))) == deed


def test_what_is_no_deed_is_named() -> None:
    with pytest.raises(again.UnknownDeed, match="'levitated' is no kind"):
        again.read("levitated", {})
    with pytest.raises(again.UnknownDeed, match="no cart_set"):
        again.read("cart_set", {"owner_id": 7})
