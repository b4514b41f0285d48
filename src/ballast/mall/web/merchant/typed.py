"""What was typed into a merchant's form: amounts, numbers, moments. What cannot be read is refused by name, and the form is
shown again as it was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from litestar.datastructures import FormMultiDict

from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import Form

_CHINA = ZoneInfo("Asia/Shanghai")
"""What a promotion's button says: no more of it; go on with it."""


def filled(values: Mapping[str, object]) -> Form:
    """A form as if it had been sent with these values; lists fill fields of one name, None none."""
    pairs: list[tuple[str, object]] = []
    for name, value in values.items():
        many = value if isinstance(value, list | tuple) else [] if value is None else [value]
        pairs += [(name, str(one)) for one in many]
    return Form(FormMultiDict(pairs))


def yuan(sent: Form, name: str) -> int:
    """An amount in fen. Refused where there is none."""
    return parse_yuan(sent.text(name))


def yuan_or_none(sent: Form, name: str) -> int | None:
    """An amount in fen; None where the field is empty."""
    return yuan(sent, name) if sent.text(name) else None


def whole(sent: Form, name: str) -> int:
    """A whole number."""
    typed = sent.text(name)
    if not typed.isascii() or not typed.removeprefix("-").isdigit() or len(typed) > 10:
        raise Refused("form.number", f"{typed!r} is no whole number.", "Correct it.", text=typed)
    return int(typed)


def whole_or_none(sent: Form, name: str) -> int | None:
    """A whole number; None where the field is empty."""
    return whole(sent, name) if sent.text(name) else None


def moment(sent: Form, name: str) -> datetime:
    """A moment on a Chinese clock, as `<input type="datetime-local">` sends it."""
    typed = sent.text(name)
    try:
        read = datetime.fromisoformat(typed)
        if read.tzinfo is not None or not 2000 <= read.year <= 2200:
            raise ValueError(typed)
        return read.replace(tzinfo=_CHINA)
    except ValueError:
        raise Refused("form.moment", f"{typed!r} is no date and time.", "Write 2026-11-11T00:00.", text=typed) from None


def typed_moment(at: datetime) -> str:
    """As the field shows it."""
    return at.astimezone(_CHINA).strftime("%Y-%m-%dT%H:%M")


def ids(sent: Form, name: str) -> tuple[UUID, ...]:
    """The ids of all fields of this name, each once; what is none is left out."""
    found: dict[UUID, None] = {}
    for text in sent.texts(name):
        try:
            found[UUID(text)] = None
        except ValueError:
            continue
    return tuple(found)
