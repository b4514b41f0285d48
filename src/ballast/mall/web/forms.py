"""Reading what a form sent. What no page of ours can send is a bad request, not a fault."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request
from litestar.datastructures import FormMultiDict
from litestar.exceptions import ClientException, NotFoundException


class Form:
    """The fields of a form."""

    def __init__(self, fields: FormMultiDict) -> None:
        self._fields = fields

    def text(self, name: str, most: int = 200) -> str:
        """A text without the blanks around it, cut at `most` characters; "" where it is missing."""
        value = self._fields.get(name, "")
        return value.replace("\x00", "").strip()[:most] if isinstance(value, str) else ""

    def secret(self, name: str) -> str:
        """A password, as it was typed."""
        value = self._fields.get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str, missing: int = 0) -> int:
        """A whole number, `missing` where nothing is there. ClientException for anything else."""
        value = self.text(name)
        try:
            number = int(value) if value else missing
        except ValueError:
            raise ClientException(f"{name} is no number") from None
        if abs(number) > 10**12:
            raise ClientException(f"{name} is too large")
        return number

    def id(self, name: str) -> UUID:
        """An id. NotFoundException for what is none."""
        return read_id(self.text(name))

    def texts(self, name: str) -> list[str]:
        """All fields of this name."""
        return [value for value in self._fields.getall(name, []) if isinstance(value, str)]


async def form(request: Request[Any, Any, Any]) -> Form:
    """The form of a POST. ClientException where a part of it is in a charset that nobody knows."""
    try:
        return Form(await request.form())
    except LookupError as error:
        raise ClientException("unknown charset") from error


def read_id(text: str) -> UUID:
    """An id that came in a text. NotFoundException for what is none."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundException from None
