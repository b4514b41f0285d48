"""Items as they are written down, and the function made of several."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import psycopg
import pytest

from ballast.recovery import CannotApply, Handlers, MergeError, MergeItem, read_items

ITEM = MergeItem("42", "a1", "order", {"b": 1, "a": [1.5, "x"]}, datetime(2026, 3, 1, 10, 55, tzinfo=UTC))
CONN = cast("psycopg.Connection[Any]", None)


def test_a_file_gives_back_its_items_in_order(tmp_path: Path) -> None:
    path = tmp_path / "intake.jsonl"
    second = msgspec.structs.replace(ITEM, key="a2", payload=None)
    path.write_bytes(b"\n\n".join(map(msgspec.json.encode, (ITEM, second))))
    assert list(read_items(path)) == [ITEM, second]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"tenant": "42", "key": "a1", "kind": "order", "payload": {}}',
        b'{"tenant": "42", "key": "", "kind": "order", "payload": {}, "made_at": "2026-03-01T18:55:00+08:00"}',
        b'{"tenant": "42", "key": "a\\u0000", "kind": "order", "payload": {}, "made_at": "2026-03-01T18:55:00+08:00"}',
        b'{"tenant": "42", "key": "a1", "kind": "order", "payload": {}, "made_at": "2026-03-01T18:55:00"}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "intake.jsonl"
    path.write_bytes(msgspec.json.encode(ITEM) + b"\n" + line + b"\n")
    with pytest.raises(MergeError, match="line 2 is no item"):
        list(read_items(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="cannot be read"):
        list(read_items(tmp_path / "none"))


def test_two_spellings_of_one_payload_are_one_item_and_another_payload_is_not() -> None:
    again = msgspec.structs.replace(ITEM, payload={"a": [1.5, "x"], "b": 1}, made_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert again.digest() == ITEM.digest()
    assert msgspec.structs.replace(ITEM, payload={"a": [1.5, "y"], "b": 1}).digest() != ITEM.digest()
    assert msgspec.structs.replace(ITEM, kind="refund").digest() != ITEM.digest()


def test_handlers_go_by_kind() -> None:
    seen = []
    intake = Handlers()

    @intake.of("order")
    def take_order(conn: object, item: MergeItem) -> None:
        seen.append(item.key)

    intake(CONN, ITEM)
    assert seen == ["a1"]
    with pytest.raises(CannotApply, match="no handler is registered for items of kind 'refund'"):
        intake(CONN, msgspec.structs.replace(ITEM, kind="refund"))
    with pytest.raises(MergeError, match="two handlers"):
        intake.of("order")(take_order)
