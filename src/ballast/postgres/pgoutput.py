"""The messages of PostgreSQL's logical replication plugin `pgoutput`, decoded one at a time.

Protocol versions 1 and 2 without streaming, text format: "Logical Replication Message Formats" in PostgreSQL's
documentation. This is the plain reading of that page. Rows in bulk go through `tuples`, which is tested against
this module; what comes seldom (transactions, relations, messages, truncations) is read with it everywhere.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final

import msgspec

from ballast.errors import FormatError

EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01 UTC; this is that moment in Unix microseconds."""

_U8 = struct.Struct(">B")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_U64 = struct.Struct(">Q")
_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")


class Unchanged(Enum):
    """A large value that an UPDATE did not touch: the stream says only that it is as it was."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED

Value = bytes | None | Unchanged
"""A value's text in UTF-8, null, or not sent."""
Tuple = tuple[Value, ...]


class Begin(msgspec.Struct, frozen=True):
    """A transaction starts. `final_lsn` is where its commit record lies: its place in the history."""

    final_lsn: int
    commit_ts_us: int
    """Unix microseconds, by the server's clock."""
    xid: int


class Commit(msgspec.Struct, frozen=True):
    """A transaction is complete. `commit_lsn` equals its Begin's `final_lsn`; `end_lsn` is a cut right after it."""

    commit_lsn: int
    end_lsn: int
    commit_ts_us: int


class Origin(msgspec.Struct, frozen=True):
    """The transaction was applied from elsewhere."""

    commit_lsn: int
    name: str


class RelationColumn(msgspec.Struct, frozen=True):
    """A column as Relation describes it."""

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool
    """It belongs to the replica identity. With identity FULL: every column does."""


class Relation(msgspec.Struct, frozen=True):
    """What the tuples of `oid` look like from here on, until the next such message of this session."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    """`d` default, `n` nothing, `f` full, `i` index."""
    columns: tuple[RelationColumn, ...]


class Type(msgspec.Struct, frozen=True):
    """Names a type that is not built in."""

    oid: int
    schema: str
    name: str


class Insert(msgspec.Struct, frozen=True):
    """A new row."""

    oid: int
    new: Tuple


class Update(msgspec.Struct, frozen=True):
    """A changed row. `old` is there if identity columns changed (all others are null then), or if `old_is_full`."""

    oid: int
    new: Tuple
    old: Tuple | None = None
    old_is_full: bool = False


class Delete(msgspec.Struct, frozen=True):
    """A row is gone. Unless `old_is_full`, only identity columns are set."""

    oid: int
    old: Tuple
    old_is_full: bool


class Truncate(msgspec.Struct, frozen=True):
    """All rows of these relations are gone. Those reached by CASCADE are in the list."""

    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class Message(msgspec.Struct, frozen=True):
    """What somebody said with pg_logical_emit_message."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


LogicalMessage = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | Message


def decode(message: bytes | memoryview) -> LogicalMessage:
    """One pgoutput message. FormatError if it is cut short, too long, of an unknown kind, or in binary format."""
    reader = _Reader(bytes(message))
    try:
        decoded = _decode(reader)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise _broken(f"is cut short or garbled ({e})", reader) from e
    if reader.at != len(reader.data):
        raise _broken(f"has {len(reader.data) - reader.at} bytes after its end", reader)
    return decoded


def unix_us(postgres_us: int) -> int:
    """Microseconds since 2000-01-01 as microseconds since 1970-01-01."""
    return postgres_us + EPOCH_US


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self.data, self.at)[0]
        self.at += form.size
        return value

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def char(self) -> str:
        return chr(self.number(_U8))

    def take(self, size: int) -> bytes:
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise IndexError(f"{size} bytes announced, {len(self.data) - self.at} left")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def string(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise IndexError("a string without its end")
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text


def _decode(r: _Reader) -> LogicalMessage:
    match r.char():
        case "I":
            oid = r.number(_U32)
            _expect(r, "N")
            return Insert(oid, _tuple(r))
        case "U":
            return _update(r)
        case "D":
            oid = r.number(_U32)
            kind = _expect(r, "KO")
            return Delete(oid, _tuple(r), kind == "O")
        case "B":
            final_lsn, at, xid = r.numbers(_BEGIN)
            return Begin(final_lsn, unix_us(at), xid)
        case "C":
            _, commit_lsn, end_lsn, at = r.numbers(_COMMIT)
            return Commit(commit_lsn, end_lsn, unix_us(at))
        case "R":
            return _relation(r)
        case "Y":
            return Type(r.number(_U32), r.string() or "pg_catalog", r.string())
        case "T":
            count, flags = r.number(_U32), r.number(_U8)
            return Truncate(tuple(r.number(_U32) for _ in range(count)), bool(flags & 1), bool(flags & 2))
        case "M":
            flags, lsn, prefix = r.number(_U8), r.number(_U64), r.string()
            return Message(bool(flags & 1), lsn, prefix, r.take(r.number(_I32)))
        case "O":
            return Origin(r.number(_U64), r.string())
        case kind:
            raise _broken(f"is of the unknown kind {kind!r}", r)


def _update(r: _Reader) -> Update:
    oid = r.number(_U32)
    kind = _expect(r, "KON")
    old = None
    if kind != "N":
        old = _tuple(r)
        _expect(r, "N")
    return Update(oid, _tuple(r), old, kind == "O")


def _relation(r: _Reader) -> Relation:
    oid, schema, name, identity = r.number(_U32), r.string() or "pg_catalog", r.string(), r.char()
    columns = []
    for _ in range(r.number(_U16)):
        is_key = bool(r.number(_U8) & 1)
        column = r.string()
        columns.append(RelationColumn(column, r.number(_U32), r.number(_I32), is_key))
    return Relation(oid, schema, name, identity, tuple(columns))


def _tuple(r: _Reader) -> Tuple:
    values: list[Value] = []
    for _ in range(r.number(_U16)):
        match r.char():
            case "t":
                values.append(r.take(r.number(_I32)))
            case "n":
                values.append(None)
            case "u":
                values.append(UNCHANGED)
            case kind:
                raise _broken(f"holds a value of kind {kind!r}; only text was asked for", r)
    return tuple(values)


def _expect(r: _Reader, kinds: str) -> str:
    kind = r.char()
    if kind not in kinds:
        raise _broken(f"has {kind!r} where one of {kinds!r} belongs", r)
    return kind


def _broken(how: str, r: _Reader) -> FormatError:
    return FormatError(
        f"A replication message {how}, at byte {r.at} of {len(r.data)}; it starts {r.data[:16].hex(' ')}.",
        do="If it comes from the spool, check its disk; else the server speaks a protocol that Ballast does not know.",
    )
