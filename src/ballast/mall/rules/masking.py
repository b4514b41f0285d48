"""Personal data for those who do not need it: enough to tell two people apart, too little to reach either."""

from __future__ import annotations

import re

_LONG_DIGITS = re.compile(r"\d{5,}")


def phone(number: str) -> str:
    """The first three and the last four digits: "138****5678"; of a short one the last two."""
    if len(number) >= 8:
        return f"{number[:3]}{'*' * (len(number) - 7)}{number[-4:]}"
    return f"{'*' * max(0, len(number) - 2)}{number[-2:]}" if number else ""


def email(address: str) -> str:
    """The first character and the domain: "l***@example.com"."""
    name, at, domain = address.partition("@")
    return f"{name[:1]}***@{domain}" if at else ("***" if address else "")


def name(full: str) -> str:
    """The first character, which in Chinese is the family name: "林**"."""
    return f"{full[:1]}**" if full else ""


def street(text: str) -> str:
    """Nothing of it: province, city and district say where orders come from."""
    return "***" if text else ""


def text(free: str) -> str:
    """A note without the numbers by which somebody could be called: five digits in a row or more."""
    return _LONG_DIGITS.sub(lambda found: "*" * len(found[0]), free)
