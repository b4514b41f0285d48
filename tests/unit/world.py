"""A database that is only a dictionary, and the vault that records it: what a fold must give is known at every cut.

`World` does random things op by op to plain lists of rows, notes the state after each commit, and writes what a
recorder would write: versions of rows, truncations, schema versions, images, in segments and runs cut anyhow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pyarrow as pa

from ballast.vault import signing
from ballast.vault.batch import Batch
from ballast.vault.buckets import bucket_of
from ballast.vault.records import (
    ByColumn,
    Column,
    Cut,
    Genesis,
    Image,
    Relation,
    RunRef,
    SchemaVersion,
    Segment,
    Shared,
    Timeline,
    Truncation,
)
from ballast.vault.run import sort_rows, write_run
from ballast.vault.vault import Vault

BUCKETS = 3
TENANTS = ("a", "b", "ü", "c")
TEXTS = ("", "x", "y", "long value " * 3, "1", "2")

Values = dict[int, str | None]
State = dict[int, tuple[Relation, Counter[tuple[str | None, bytes]]]]
"""Relation number to the relation and its lines by tenant."""


def field_of(value: str | None) -> bytes:
    return b"\\N" if value is None else value.encode()


def line_of(relation: Relation, values: Values) -> bytes:
    return b"\t".join(field_of(values[a]) for a in relation.row_columns) + b"\n"


def key_of(relation: Relation, values: Values) -> bytes:
    return b"\t".join(field_of(values[a]) for a in relation.key) if relation.key else line_of(relation, values)[:-1]


def tenant_of(relation: Relation, values: Values) -> str | None:
    return values[relation.tenant.attnum] if isinstance(relation.tenant, ByColumn) else None


def relation(number: int, key: tuple[int, ...], *, shared: bool = False) -> Relation:
    columns = tuple(Column(a, f"c{a}", "text") for a in (1, 2, 3, 4))
    rule = Shared() if shared else ByColumn(1)
    name = f"table{number}"
    return Relation(number, 1000 + number, "public", name, "public", name, columns, (1, 2, 3, 4), key, rule)


@dataclass
class World:
    """See the module. `dice` decides everything."""

    folder: Path
    dice: Random
    relations: dict[int, Relation] = field(default_factory=dict)
    rows: dict[int, list[Values]] = field(default_factory=dict)
    lsn: int = 1000
    timeline: int = 1
    version: int = 0
    states: dict[Cut, State] = field(default_factory=dict)
    pending: list[dict[str, Any]] = field(default_factory=list)
    truncations: list[Truncation] = field(default_factory=list)
    sealed: int = 1000
    attnum: int = 4
    commits: list[tuple[int, int, int]] = field(default_factory=list)
    past: list[tuple[Cut, dict[int, Relation], dict[int, list[Values]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state_dir = self.folder / "state"
        key = signing.create_key(self.state_dir / signing.KEY_FILE)
        genesis = Genesis(1, "v", key.public, BUCKETS, "test")
        self.vault = Vault.create(self.folder / "vault", genesis, state_dir=self.state_dir)
        self.consecutive = self.dice.random() < 0.5
        self.relations = {
            1: relation(1, (1, 2)),
            2: relation(2, ()),
            3: relation(3, (2,), shared=True),
            4: relation(4, (2,)),
        }
        self.rows = {number: [] for number in self.relations}
        for _ in range(self.dice.randrange(3)):
            self.transaction(unrecorded=True)
        self.vault.append(Timeline(1, "1", "shop", 180000, "s", "p", self.lsn))
        self.schema(0)
        self.image(None)

    # --- what the server does

    def transaction(self, *, unrecorded: bool = False) -> None:
        """A few random operations and a commit."""
        self.lsn += self.dice.randrange(1, 20)
        self.seq = 0
        self.emitted: list[dict[str, Any]] = []
        for _ in range(self.dice.randrange(1, 7)):
            self.operation(ddl=not unrecorded)
        if not unrecorded:
            self.pending += self.emitted
            self.commits.append((self.timeline, self.lsn, self.seq))
        # A commit record is longer than a byte: no cut lies one past its beginning.
        self.lsn += self.dice.randrange(2, 10)
        if unrecorded:
            self.truncations = []
            self.sealed = self.lsn
        self.note()

    def note(self) -> None:
        cut = Cut(self.timeline, self.lsn)
        self.states[cut] = self.state()
        self.past.append((cut, self.relations, {n: [dict(row) for row in rows] for n, rows in self.rows.items()}))

    def state(self) -> State:
        return {
            number: (form, Counter((tenant_of(form, row), line_of(form, row)) for row in self.rows[number]))
            for number, form in self.relations.items()
        }

    def operation(self, *, ddl: bool) -> None:
        self.seq += 1
        number = self.dice.choice(list(self.relations))
        chance = self.dice.random()
        if chance < 0.4:
            self.insert(number)
        elif chance < 0.75:
            self.update(number)
        elif chance < 0.88:
            self.delete(number)
        elif chance < 0.92:
            self.truncate()
        elif ddl:
            self.alter(number)

    def insert(self, number: int) -> None:
        form = self.relations[number]
        values: Values = {a: self.dice.choice((*TEXTS, None)) for a in form.row_columns}
        values[1] = self.dice.choice((*TENANTS, None) if form.key != (1, 2) else TENANTS)
        values[2] = str(self.dice.randrange(6))
        if form.key and key_of(form, values) in {key_of(form, row) for row in self.rows[number]}:
            return
        self.rows[number].append(values)
        self.emit(number, "I", values)

    def update(self, number: int) -> None:
        form = self.relations[number]
        if not self.rows[number]:
            return
        place = self.dice.randrange(len(self.rows[number]))
        old = self.rows[number][place]
        new = dict(old)
        for a in form.row_columns:
            if a > 2 and self.dice.random() < 0.5:
                new[a] = self.dice.choice((*TEXTS, None))
        if self.dice.random() < 0.3:
            new[1] = self.dice.choice(TENANTS)
        if self.dice.random() < 0.3:
            new[2] = str(self.dice.randrange(6))
        others = self.rows[number][:place] + self.rows[number][place + 1 :]
        if form.key and key_of(form, new) in {key_of(form, row) for row in others}:
            return
        self.rows[number][place] = new
        # Unchanged large values do not come with an update, but a table without a key sends the old row whole.
        patchable = [a for a in form.row_columns if a > 2 and new[a] == old[a]]
        missing = [a for a in patchable if form.key and self.dice.random() < 0.6]
        moved = key_of(form, old) != key_of(form, new) or tenant_of(form, old) != tenant_of(form, new)
        if moved or not form.key:
            self.emit(number, "D", old)
            if self.consecutive:
                self.seq += 1
            self.emit(number, "P" if missing else "I", new, missing, before=old)
        else:
            self.emit(number, "P" if missing else "U", new, missing)

    def delete(self, number: int) -> None:
        if self.rows[number]:
            self.emit(number, "D", self.rows[number].pop(self.dice.randrange(len(self.rows[number]))))

    def truncate(self) -> None:
        gone = tuple(n for n in self.relations if self.dice.random() < 0.4)
        if gone:
            self.truncations.append(Truncation(self.lsn, self.seq, gone))
            for number in gone:
                self.rows[number] = []

    def alter(self, number: int) -> None:
        form = self.relations[number]
        chance = self.dice.random()
        if chance < 0.35:
            attnum = self.attnum = self.attnum + 1
            filled = self.dice.random() < 0.6
            default = self.dice.choice(("dflt", "")) if filled else None
            column = Column(attnum, f"c{attnum}", "text", has_missing=filled, missing=default)
            form = msgspec.structs.replace(
                form, columns=(*form.columns, column), row_columns=(*form.row_columns, attnum)
            )
            for row in self.rows[number]:
                row[attnum] = default
        elif chance < 0.55:
            droppable = [a for a in form.row_columns if a > 2]
            if not droppable:
                return
            gone = self.dice.choice(droppable)
            form = msgspec.structs.replace(
                form,
                columns=tuple(c for c in form.columns if c.attnum != gone),
                row_columns=tuple(a for a in form.row_columns if a != gone),
            )
            for row in self.rows[number]:
                del row[gone]
        elif chance < 0.65:
            columns = tuple(msgspec.structs.replace(c, name=c.name + "_") if c.attnum == 3 else c for c in form.columns)
            form = msgspec.structs.replace(form, columns=columns)
        else:
            form = msgspec.structs.replace(form, key=self.dice.choice(((1, 2), (2, 1), (2,), ())))
            keys = [key_of(form, row) for row in self.rows[number]]
            if form.key and (len(set(keys)) < len(keys) or any(b"\\N" in key for key in keys)):
                return
        self.relations = {**self.relations, number: form}
        self.schema(self.seq)

    def emit(
        self, number: int, op: str, values: Values, missing: list[int] | None = None, before: Values | None = None
    ) -> None:
        form = self.relations[number]
        shown = {a: None if a in (missing or ()) else v for a, v in values.items()}
        with_before = op == "P" and before is not None
        self.emitted.append(
            {
                "tenant": tenant_of(form, values),
                "relation": number,
                "key": key_of(form, values),
                "timeline": self.timeline,
                "lsn": self.lsn,
                "seq": self.seq,
                "op": op,
                "committed_at": 0,
                "schema": self.version,
                "row": b"" if op == "D" else line_of(form, shown),
                "missing": missing if op == "P" else None,
                "before_key": key_of(form, before) if with_before and before else None,
                "before_tenant": tenant_of(form, before) if with_before and before else None,
            }
        )

    # --- what the recorder does

    def schema(self, seq: int) -> None:
        self.version += 1
        with Batch(self.vault.store, self.state_dir, "schema", self.timeline, self.lsn, self.lsn) as batch:
            ref = batch.put("relations", "json", msgspec.json.encode(tuple(self.relations.values())))
            self.vault.append(SchemaVersion(self.version, self.timeline, self.lsn, seq, ref, "test"))
            batch.done()

    def runs(self, batch: Batch, rows: list[dict[str, Any]], bucket: int | None) -> tuple[RunRef, ...]:
        if not rows:
            return ()
        path = self.folder / "new.parquet"
        facts = write_run(path, sort_rows(table_of(rows)))
        return (facts.ref(batch.put("run", "parquet", path), bucket),)

    def seal(self) -> None:
        """Everything since the last segment, as a segment of a few runs."""
        if self.sealed == self.lsn:
            return
        parts: list[list[dict[str, Any]]] = [[] for _ in range(self.dice.randrange(1, 4))]
        for row in self.pending:
            self.dice.choice(parts).append(row)
        with Batch(self.vault.store, self.state_dir, "segment", self.timeline, self.sealed, self.lsn) as batch:
            runs = tuple(run for part in parts for run in self.runs(batch, part, None))
            self.vault.append(
                Segment(
                    self.timeline,
                    self.sealed,
                    self.lsn,
                    None,
                    None,
                    runs,
                    None,
                    tuple(self.truncations),
                    (),
                    len(self.pending),
                )
            )
            batch.done()
        self.sealed, self.pending, self.truncations = self.lsn, [], []

    def image(self, relations: tuple[int, ...] | None) -> None:
        """Whole rows of these relations (None: of all) as of now."""
        self.note()
        with Batch(self.vault.store, self.state_dir, "image", self.timeline, self.lsn, self.lsn) as batch:
            runs: list[RunRef] = []
            for bucket in range(-1, BUCKETS):
                self.emitted = []
                self.seq = 0
                for number in relations or self.relations:
                    for values in self.rows[number]:
                        if bucket_of(tenant_of(self.relations[number], values), BUCKETS) == bucket:
                            self.emit(number, "I", values)
                runs += self.runs(batch, self.emitted, bucket)
            self.vault.append(Image(self.timeline, self.lsn, self.version, relations, tuple(runs), (), "test"))
            batch.done()

    def fork(self) -> None:
        """A new timeline from here on, whose LSNs start low again."""
        self.seal()
        fork = self.lsn
        self.lsn = self.sealed = self.dice.randrange(10, 2000)
        self.timeline += 1
        self.vault.append(
            Timeline(self.timeline, str(self.timeline), "shop", 180000, "s", "p", self.lsn, self.timeline - 1, fork)
        )
        self.note()

    def lose(self) -> None:
        """A new timeline that goes on from an earlier commit: what came after it is a side branch."""
        self.seal()
        begin = self.vault.index.recorded_from(self.timeline)
        left = [p for p in self.past if p[0].timeline == self.timeline and begin is not None and p[0].lsn >= begin]
        cut, self.relations, rows = self.dice.choice(left)
        self.rows = {n: [dict(row) for row in lines] for n, lines in rows.items()}
        self.lsn = self.sealed = self.dice.randrange(10, 2000)
        self.timeline += 1
        begun = Timeline(self.timeline, str(self.timeline), "shop", 180000, "s", "p", self.lsn, cut.timeline, cut.lsn)
        self.schema(0)
        self.vault.append(begun)
        self.note()

    # --- what can be asked

    def cuts(self) -> list[Cut]:
        """Every cut with a known state that the vault can give."""
        index = self.vault.index
        found = []
        for cut in self.states:
            begin = index.recorded_from(cut.timeline)
            if begin is not None and begin <= cut.lsn <= index.recorded_until(cut.timeline):
                found.append(cut)
        return found


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    from ballast.vault.run import RUN_SCHEMA

    schema = RUN_SCHEMA.set(RUN_SCHEMA.get_field_index("op"), pa.field("op", pa.string()))
    return pa.Table.from_pylist(rows, schema=schema)


__all__ = ["BUCKETS", "TENANTS", "State", "World", "relation", "replace", "table_of"]
