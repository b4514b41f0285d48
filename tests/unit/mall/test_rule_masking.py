"""Who does not need personal data sees too little of it to reach anybody."""

from __future__ import annotations

import pytest

from ballast.mall.rules import masking


@pytest.mark.parametrize(
    ("number", "seen"),
    [("13812345678", "138****5678"), ("+8613812345678", "+86*******5678"), ("110", "*10"), ("1", "1"), ("", "")],
)
def test_a_phone_number_keeps_its_ends(number: str, seen: str) -> None:
    assert masking.phone(number) == seen


def test_names_addresses_and_numbers_in_notes_are_hidden() -> None:
    assert masking.name("林小雨") == "林**"
    assert masking.name("") == ""
    assert masking.email("lin@example.com") == "l***@example.com"
    assert masking.email("") == ""
    assert masking.street("龙井路 1 号") == "***"
    assert masking.text("请打 13812345678，放门口 302") == "请打 ***********，放门口 302"
