"""What happened to one row, told version by version. Pure: rows of runs and events in order go in, versions come out.

A row is followed by its values, each under the number of its column (for partitions: the number in the partitioned
table), which survive renaming and the move to another partition. A version of which something is not
recorded is told with what is known of it; nothing here fails because the record is incomplete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ballast.postgres.copytext import NULL, unescape
from ballast.postgres.lsn import format_lsn
from ballast.vault.layout import absent
from ballast.vault.records import Relation

Place = tuple[int, int, int]
"""Timeline, commit LSN, sequence; of an image (timeline, cut, 0)."""

What = Literal[
    "image",  # an image has it so: the first sighting, or other than the changes before had it
    "insert",
    "update",
    "delete",
    "truncate",  # the whole table was emptied
    "drop",  # the table was dropped
    "absent",  # it should be there, but a later image does not have it
]


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column's text before and after: None is null; where there was no row, or it is not known, it is left out."""

    column: str
    before: str | UnsetType | None = UNSET
    after: str | UnsetType | None = UNSET


class RowVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a row, and how it came about."""

    what: What
    timeline: int
    lsn: int
    seq: int
    position: str
    """timeline/X/Y, for people and for `--at`: a cut at it leaves this version out (at an image's it takes it in)."""
    committed_at: datetime | None
    """Commit time by production's clock; None for images."""
    xid: int | None = None
    actor: str | None = None
    """Who, if the application said so."""
    tag: str | None = None
    """The DDL command of its transaction, if there was one."""
    table: str
    relation: int
    """Number of the table; a table that was created again has another."""
    tenant: str | None
    key: dict[str, str | None]
    key_was: dict[str, str | None] | None = None
    """The key under which the version before stood, if that was another."""
    tenant_was: str | UnsetType | None = UNSET
    """The tenant whose it was before, if it was another's."""
    values: dict[str, str | None] | None
    """The whole row from here on, as far as it is known; None: no row."""
    changed: tuple[Changed, ...]
    note: str = ""


class Row(msgspec.Struct, frozen=True):
    """A row as it stands: what each column holds as a field of a COPY line, None where that is not known."""

    form: Relation
    fields: Mapping[int, bytes | None]

    def as_in(self, form: Relation) -> Mapping[int, bytes | None]:
        """Its fields as another version of the table has them."""
        if form == self.form:
            return self.fields
        own = numbers(form)
        return {own[a]: self.fields.get(own[a], absent(form, a)) for a in form.row_columns}


class Event(msgspec.Struct, frozen=True):
    """Something that concerns the row at a place. `row`: a row of a run as a dict; else the whole table is meant."""

    place: Place
    what: Literal["row", "image", "imaged", "truncate", "drop"]
    """`image`: a row of an image; `imaged`: here an image of the whole table was taken."""
    form: Relation
    schema: int
    """Version of the structure that `form` is of."""
    row: Mapping[str, Any] | None = None
    beside: bytes | None = None
    """Of a delete: the key of the row that came right after it; of an insert: of the one that was deleted right before
    it, in the same transaction. So an update of the key looks, and so may a DELETE and an INSERT."""

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Sorts events: the delete that comes with an insert at the same place is before it."""
        first = self.row is not None and self.row["op"] == "D"
        return (*self.place, 0 if first else 2 if self.what == "imaged" else 1)


Before = Callable[[Mapping[str, Any]], tuple[list[RowVersion], Row | None]]
"""For a patch whose key or tenant changed: the versions of the row until then, and the row itself."""


def numbers(form: Relation) -> dict[int, int]:
    """Column numbers of a table to those of the partitioned table that it is part of (otherwise the same)."""
    if not form.root_attnums:
        return {column.attnum: column.attnum for column in form.columns}
    return {c.attnum: root or -c.attnum for c, root in zip(form.columns, form.root_attnums, strict=True)}


def key_numbers(form: Relation) -> tuple[int, ...]:
    """The key's columns by those numbers."""
    own = numbers(form)
    return tuple(own[attnum] for attnum in form.key)


def fields_of(line: bytes, form: Relation) -> dict[int, bytes | None]:
    """A line's fields by those numbers."""
    own = numbers(form)
    fields = line.removesuffix(b"\n").split(b"\t")
    return {own[attnum]: field for attnum, field in zip(form.row_columns, fields, strict=True)}


def text(field: bytes) -> str | None:
    """A field's text; None is null."""
    return None if field == NULL else unescape(field).decode(errors="replace")


def key_texts(key: bytes, form: Relation) -> dict[str, str | None]:
    """The `key` of a row by column name; empty where the table has no key."""
    names = {column.attnum: column.name for column in form.columns}
    return {names[a]: text(f) for a, f in zip(form.key, key.split(b"\t"), strict=False)} if form.key else {}


class Story:
    """The versions of one row, from its events in order."""

    def __init__(self, tenant: str | None, before: Before, row: Row | None = None) -> None:
        """`row`: what stands before the first event."""
        self._tenant, self._before, self.row = tenant, before, row
        self.versions: list[RowVersion] = []
        self.ends: list[tuple[int, Row | None]] = []
        """Where the row was gone: how many versions there were then, and the row as it was last."""
        self._imaged: Place | None = None

    def tell(self, events: Iterable[Event]) -> None:
        """Add what these events say, in the order of their places."""
        for event in sorted(events, key=lambda event: event.order):
            if event.row is not None:
                self._tell_row(event, event.row)
            elif self.row is not None and (event.what != "imaged" or self._imaged != event.place):
                what: What = "absent" if event.what == "imaged" else event.what  # type: ignore[assignment]
                note = "it was there before, and no delete is recorded" if what == "absent" else ""
                self._end(event, what, note)

    def _tell_row(self, event: Event, row: Mapping[str, Any]) -> None:
        if row["op"] == "D":
            note = "" if self.row is not None else "the version before it is not recorded"
            if event.beside is not None:
                note = f"{_named(event)} came right after it in the same transaction: perhaps this row with another key"
            self._end(event, "delete", note)
            return
        fields = fields_of(row["row"], event.form)
        before, was = self.row, None
        if row["op"] == "P":
            if row["before_key"] is not None:
                earlier, before = self._before(row)
                self.versions += earlier
                was = row["before_key"]
            fields = self._filled(fields, event.form, row["missing"] or (), before)
        elif before is None and not event.form.key:
            before = self._taken_back(event)
        now = Row(event.form, fields)
        if event.what == "image":
            self._imaged = event.place
            if before is not None and before.as_in(event.form) == fields:
                self.row = now
                return
        what: What = "image" if event.what == "image" else "insert" if before is None and row["op"] == "I" else "update"
        note = ""
        if what == "update" and before is None:
            note = "the version before it is not recorded"
        elif what == "image" and self.versions:
            note = "not so in the changes before it"
        elif event.beside is not None and before is None:
            note = f"{_named(event)} was deleted right before it in the same transaction: perhaps this row's former key"
        version = self._version(event, what, before, now, note)
        if was is not None:
            tenant_was = row["before_tenant"]
            version = msgspec.structs.replace(
                version,
                key_was=key_texts(was, event.form) if was != row["key"] else None,
                tenant_was=tenant_was if tenant_was != row["tenant"] else UNSET,
            )
        self.versions.append(version)
        self.row = now

    def _end(self, event: Event, what: What, note: str) -> None:
        self.versions.append(self._version(event, what, self.row, None, note))
        self.ends.append((len(self.versions), self.row))
        self.row = None

    def _taken_back(self, event: Event) -> Row | None:
        """Without a key, an update comes as a delete and an insert: the row of the delete right before this insert."""
        last = self.versions[-1] if self.versions else None
        if last is None or last.what != "delete":
            return None
        timeline, lsn, seq = event.place
        if (last.timeline, last.lsn) != (timeline, lsn) or last.seq not in (seq - 1, seq):
            return None
        self.versions.pop()
        return self.ends.pop()[1]

    def _filled(
        self, fields: dict[int, bytes | None], form: Relation, missing: Sequence[int], before: Row | None
    ) -> dict[int, bytes | None]:
        own = numbers(form)
        older = before.as_in(form) if before is not None else {}
        return {**fields, **{own[attnum]: older.get(own[attnum]) for attnum in missing}}

    def _version(self, event: Event, what: What, before: Row | None, now: Row | None, note: str) -> RowVersion:
        timeline, lsn, seq = event.place
        row, form = event.row, event.form
        names = {numbers(form)[column.attnum]: column.name for column in form.columns}
        values = None
        if now is not None:
            values = {names[n]: text(f) for n, f in now.fields.items() if f is not None}
        return RowVersion(
            what=what,
            timeline=timeline,
            lsn=lsn,
            seq=seq,
            position=f"{timeline}/{format_lsn(lsn)}",
            committed_at=row["committed_at"] if row is not None and event.what == "row" else None,
            table=form.qualified,
            relation=form.number,
            tenant=self._tenant,
            key=key_texts(row["key"], form) if row is not None else _key_shown(before, form, names),
            values=values,
            changed=_changes(before, now, form, names),
            note=note,
        )


def _key_shown(row: Row | None, form: Relation, names: Mapping[int, str]) -> dict[str, str | None]:
    fields = row.as_in(form) if row is not None else {}
    return {names[n]: text(field) for n in key_numbers(form) if (field := fields.get(n)) is not None}


def _named(event: Event) -> str:
    assert event.beside is not None
    return ", ".join(f"{name} = {value}" for name, value in key_texts(event.beside, event.form).items())


def _changes(before: Row | None, now: Row | None, form: Relation, names: Mapping[int, str]) -> tuple[Changed, ...]:
    old = before.as_in(form) if before is not None else {}
    new = now.fields if now is not None else {}
    changed = []
    for number in old if now is None else new:
        was, is_ = (UNSET if f is None else text(f) for f in (old.get(number), new.get(number)))
        if was != is_ or before is None or now is None:
            changed.append(Changed(names[number], was, is_))
    return tuple(changed)
