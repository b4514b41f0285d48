"""Sealed secrets open by the same key and purpose only."""

from __future__ import annotations

import pytest

from ballast.errors import ConfigError
from ballast.mall.safe import Safe

SECRET = "s" * 64


def test_what_was_sealed_opens_in_another_process_with_the_same_secret_and_purpose_only() -> None:
    sealed = Safe(SECRET, "webhook").seal("whsec_漢")
    assert "whsec" not in sealed
    assert Safe(SECRET, "webhook").open(sealed) == "whsec_漢"
    for other in (Safe("t" * 64, "webhook"), Safe(SECRET, "second factor")):
        with pytest.raises(ConfigError, match="does not open"):
            other.open(sealed)
    with pytest.raises(ConfigError):
        Safe(SECRET, "webhook").open(sealed[:-4] + "AAA=")


def test_the_same_text_is_never_sealed_to_the_same() -> None:
    safe = Safe(SECRET, "webhook")
    assert safe.seal("x") != safe.seal("x")
