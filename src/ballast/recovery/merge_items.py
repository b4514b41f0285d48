"""What is handed back: rows that a tenant produced elsewhere meanwhile, as items that the application knows how to apply."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg

from ballast.errors import BallastError


class MergeError(BallastError):
    """Items cannot be merged as asked. What was applied before stays, and the same call goes on from there."""


class CannotApply(BallastError):
    """Raised by a handler for an item that its rules forbid: the item is kept with this reason, and the others go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class MergeItem(msgspec.Struct, frozen=True):
    """One thing that happened elsewhere."""

    tenant: Annotated[str, msgspec.Meta(min_length=1, pattern="^[^\x00]*$")]
    key: Annotated[str, msgspec.Meta(min_length=1, pattern="^[^\x00]*$")]
    """Idempotency key: within its tenant, and for ever, it names this one thing."""
    kind: Annotated[str, msgspec.Meta(min_length=1, pattern="^[^\x00]*$")]
    """What the application calls it, such as `order`."""
    payload: Any
    """JSON: what a handler needs to know."""
    made_at: Annotated[datetime, msgspec.Meta(tz=True)]

    def digest(self) -> bytes:
        """SHA-256 of kind and payload: two items of one key must be the same thing."""
        return hashlib.sha256(msgspec.json.encode((self.kind, self.payload), order="deterministic")).digest()


Handler = Callable[[psycopg.Connection[Any], MergeItem], bool | None]
"""Applies one item by the connection it is given, inside a transaction that it neither commits nor rolls back. True: it could not
be done, and the application keeps it for people to decide; given the same once more it says whether it keeps it still.

CannotApply, or what the database refuses, keeps the item; any other exception stops the merge."""


class Handlers:
    """A handler made of several, one a kind:

    intake = Handlers()

    @intake.of("order")
    def take_order(conn, item): ...
    """

    def __init__(self) -> None:
        self._by_kind: dict[str, Handler] = {}

    def of(self, kind: str) -> Callable[[Handler], Handler]:
        """Registers the decorated function for items of this kind."""

        def register(handler: Handler) -> Handler:
            if kind in self._by_kind:
                raise MergeError(f"two handlers for items of kind {kind!r} are registered", "One of them must go.")
            self._by_kind[kind] = handler
            return handler

        return register

    def __call__(self, conn: psycopg.Connection[Any], item: MergeItem) -> bool | None:
        """Applies the item; CannotApply if nobody is registered for its kind."""
        if item.kind not in self._by_kind:
            raise CannotApply(f"no handler is registered for items of kind {item.kind!r}")
        return self._by_kind[item.kind](conn, item)


_decoder = msgspec.json.Decoder(MergeItem)


def read_items(path: Path) -> Iterator[MergeItem]:
    """The items of a file of JSON lines, in its order; empty lines are passed over. MergeError names a line that is none."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _item(line, f"{path}, line {number}")
    except OSError as error:
        raise MergeError(f"{path} cannot be read: {error.strerror or error}") from error


def _item(line: bytes, where: str) -> MergeItem:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MergeError(
            f"{where} is no item: {error}.",
            'An item is one line such as {"tenant": "42", "key": "a1", "kind": "order", "payload": {…}, "made_at":'
            ' "2026-03-01T18:55:00+08:00"}.',
        ) from error
