"""What an intake holds: one entry for each thing that was accepted while the database was away, chained by hashes.

An entry is one line of JSON. Its hash covers the hash of the entry before it, so that nothing in the middle can be changed or
taken out unnoticed; the first of a file names the last of the file before it (`BEGINNING` in the very first).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from ballast.errors import BallastError, IntegrityError

BEGINNING = "0" * 64
HOME, MERGED, AWAY = "ballast.home", "ballast.merged", "ballast.away"
"""Kinds of the sentinel's own entries: a tenant goes home, and nothing more of it is accepted here; what was accepted of it is
merged there; it is away again."""

_COMMITS_WITHIN = timedelta(minutes=1)
"""Of what is in the intake, in the lifeboat."""


class Offered(msgspec.Struct, frozen=True):
    """Something to be accepted."""

    tenant: Annotated[str, msgspec.Meta(min_length=1)]
    key: Annotated[str, msgspec.Meta(min_length=1)]
    """Idempotency key: within its tenant, and for ever, it names this one thing."""
    kind: Annotated[str, msgspec.Meta(min_length=1)]
    """What the application calls it, such as `checkout`."""
    payload: Any
    """JSON: all that is needed to do it again by the application's own rules."""
    made_at: Annotated[datetime, msgspec.Meta(tz=True)]
    urgent: bool = False
    """It must be taken in even where the disk is full: the reserve is there for it (a payment for an accepted order)."""


class Entry(msgspec.Struct, frozen=True):
    """What was accepted."""

    number: int
    """From 1 on, without holes, in the order of acceptance."""
    tenant: str
    key: str
    kind: str
    payload: Any
    made_at: datetime
    before: str
    """Hash of the entry before it."""
    hash: str

    def line(self) -> bytes:
        """As it stands in the file."""
        return msgspec.json.encode(self) + b"\n"


class Taken(msgspec.Struct, frozen=True):
    """An answer to an offer: the entry, and whether its key was taken by an earlier offer already, whose entry it then is."""

    entry: Entry
    repeated: bool


class IntakeFull(BallastError):
    """The intake's disk has no room: what was offered is not accepted, and nothing of it is kept."""


class Closed(BallastError):
    """The tenant has gone home: what was offered belongs there, and nothing of it is kept here."""


_entries = msgspec.json.Decoder(Entry)


def chained(offered: Offered, number: int, before: str) -> Entry:
    """The entry that follows the one with the hash `before`."""
    # Through JSON and back, so that it is hashed as it will be read.
    payload = msgspec.json.decode(msgspec.json.encode(offered.payload))
    made_at = msgspec.json.decode(msgspec.json.encode(offered.made_at), type=datetime)
    digest = _digest(number, offered.tenant, offered.key, offered.kind, payload, made_at, before)
    return Entry(number, offered.tenant, offered.key, offered.kind, payload, made_at, before, digest)


def read_chain(data: bytes, number: int, before: str, where: str) -> Iterator[Entry]:
    """The entries of whole lines, of which the first must be `number` and follow `before`.

    IntegrityError names the first that was changed, or where one is missing."""
    for line in data.splitlines():
        try:
            entry = _entries.decode(line)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"{where}: entry {number} cannot be read: {error}",
                "Take the file from the store's copy, where it is whole; never mend it by hand.",
            ) from error
        ours = _digest(entry.number, entry.tenant, entry.key, entry.kind, entry.payload, entry.made_at, entry.before)
        if (entry.number, entry.before, entry.hash) != (number, before, ours):
            raise IntegrityError(
                f"{where}: entry {number} is not what was accepted, or one before it is missing",
                "Compare it with the store's copy; what follows this entry cannot be trusted.",
            )
        yield entry
        number, before = number + 1, entry.hash


def _digest(number: int, tenant: str, key: str, kind: str, payload: Any, made_at: datetime, before: str) -> str:
    said = msgspec.json.encode((number, tenant, key, kind, payload, made_at, before), order="deterministic")
    return hashlib.sha256(said).hexdigest()


def before_the_last(entries: Sequence[Entry]) -> int:
    """Number after which those stand, in order of acceptance, that may not have been committed when the lifeboat ended. Pure."""
    since = entries[-1].made_at - _COMMITS_WITHIN if entries else None
    return next((entry.number - 1 for entry in entries if since is not None and entry.made_at >= since), 0)


def open_entries(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """What was accepted and is not merged at home, by tenant, in order. Pure."""
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind == MERGED:
            found.pop(entry.tenant, None)
        elif entry.kind not in (HOME, AWAY):
            found[entry.tenant].append(entry)
    return dict(found)
