"""Lists of ids as PostgreSQL reads them: at once, where psycopg finds out the type and the form of each element by itself."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.abc import DumperKey
from psycopg.adapt import Dumper, PyFormat
from psycopg.types.array import ListDumper

_UUIDS = 2951
"""The type `uuid[]`."""


class Ids(Dumper):
    """Of a list that has ids only."""

    oid = _UUIDS

    def dump(self, obj: list[UUID]) -> bytes:
        """As text."""
        return b"{%s}" % ",".join([one.hex for one in obj]).encode()


class Lists(ListDumper):
    """Any other list is psycopg's to write."""

    def get_key(self, obj: list[Any], format: PyFormat) -> DumperKey:
        """As psycopg's, whose own for lists of ids (with a NULL among them) is another."""
        return (self.cls, Ids) if _ids_only(obj) else super().get_key(obj, format)

    def upgrade(self, obj: list[Any], format: PyFormat) -> Any:
        """As psycopg's."""
        return Ids(self.cls, self._tx) if _ids_only(obj) else super().upgrade(obj, format)


def _ids_only(obj: list[Any]) -> bool:
    return set(map(type, obj)) == {UUID}
