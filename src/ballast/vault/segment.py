"""A spool file's messages made into rows of runs, in bounded memory. No file, no server: chunks in, tables out.

Rows are decoded in bulk. What says how they are to be read (Begin, Commit, Relation, logical messages, TRUNCATE) is looked at
one by one: a Relation message or a message of the event triggers that changes the structure ends a stretch, and the rows
after it are decoded by the new one and carry the new schema version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.errors import FormatError, IntegrityError
from ballast.postgres import pgoutput
from ballast.postgres.copytext import escape
from ballast.postgres.tuples import TEXT, UNKNOWN, Layouts, RowBatch, RowLayout, decode_rows, split_messages
from ballast.vault import registry as ddl
from ballast.vault.lineage import SEPARATOR, Families, Lineage, Unknown, on_leaf, parent_space, values_of
from ballast.vault.records import MANY, ByColumn, Relation, SequenceState, Truncation, Via
from ballast.vault.registry import Change, Registry
from ballast.vault.sequences import PREFIX as SEQUENCES
from ballast.vault.sequences import Told
from ballast.vault.tables import UNRECORDED
from ballast.vault.token import is_ours, outside, taken_apart
from ballast.vault.transactions import TRANSACTIONS_SCHEMA

FLUSH_ROWS = 100_000
FLUSH_BYTES = 16 << 20
"""Of large rows so much goes into a run: they are in memory a few times over while they are sorted and written."""
_DDL, _SEQUENCES, _ACTOR = ddl.PREFIX.encode(), SEQUENCES.encode(), b"ballast.actor"
_ACTOR_BYTES = 1000
"""An actor is a note of the application's, which anybody may write."""
_MOST_BESIDE = 4
"""So many versions of a segment begin for what only dumps tell; whoever may COMMENT on anything can have them made for ever."""
_B, _C, _I, _U, _D, _R, _M, _T, _Y = b"BCIUDRMTY"
_LOOKED_AT = np.isin(np.arange(256), [_R, _M, _T, _Y])
_ROWS = np.isin(np.arange(256), [_I, _U, _D])
_OP_NAMES = pa.array(["I", "U", "P", "D"])
_OP_CODES = np.zeros(256, np.int8)
_OP_CODES[list(b"IUPD")] = range(4)
_EPOCH_US = pgoutput.EPOCH_US


class Structure(msgspec.Struct, frozen=True):
    """A schema version that begins inside the segment."""

    lsn: int
    seq: int
    change: Change


class Doubt(msgspec.Struct, frozen=True):
    """Rows of these relations in the vault are not exact from here on, until they are imaged again."""

    lsn: int
    relations: tuple[int, ...]
    reason: str


class Reader:
    """Reads the chunks of one spool file in order. Tables go to `on_rows` as soon as they are large enough."""

    def __init__(
        self,
        registry: Registry,
        version: int,
        lineage: Lineage,
        *,
        timeline: int,
        own: set[int],
        on_rows: Callable[[pa.Table], None],
        on_structure: Callable[[Structure], int],
        tokens: tuple[str, ...],
    ) -> None:
        """`own`: oids of our own tables as far as they are known, added to. `on_structure` gives the version's number.
        `tokens`: what messages must carry to be believed."""
        self._tokens = tokens
        self._registry, self._version, self._lineage = registry, version, lineage
        self._timeline, self._own = timeline, own
        self._on_rows, self._on_structure = on_rows, on_structure
        self._types: dict[int, str] = {}
        self._announced: dict[int, bytes] = {}
        self._lsn = self._xid = self._committed_us = self._seq = 0
        self._tables: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._transactions: list[pa.Table] = []
        self._notes: dict[int, dict[str, str]] = {}
        self.truncations: list[Truncation] = []
        self.sequences: dict[tuple[str, str], SequenceState] = {}
        self.doubts: list[Doubt] = []
        self.incomplete = False
        """The structure is not fully known: the server's catalog must be read."""
        self.forged: list[int] = []
        """Where something was said in our name that is not ours: the commit, or the message's own place outside of any."""
        self.unreadable = ""
        """Why a message of ours could not be read."""
        self.changes = 0
        self._begun_at = self._beside = 0
        """Where a schema version last began in this segment, and how many did for what only dumps tell."""
        self._is_many = False
        """The last of them stands for whatever came after it …"""
        self._latest = Structure(0, 0, Change(""))
        """… up to this."""
        self._restructure()

    def feed(self, payload: bytes) -> None:
        """The next chunk. FormatError, IntegrityError where it is not what the server sends."""
        starts, ends, kinds = split_messages(payload)
        buffer = np.frombuffer(payload, np.uint8)
        chunk = _Chunk(buffer, starts, ends, kinds)
        begin = 0
        for at in np.flatnonzero(_LOOKED_AT[kinds]).tolist():
            message = buffer[starts[at] : ends[at]].tobytes()
            if kinds[at] == _T:
                continue  # only its place in the order matters: taken with the stretch
            if self._changes_nothing(kinds[at], message):
                continue
            self._stretch(chunk, begin, at)
            self._look_at(kinds[at], message)
            begin = at + 1
        self._stretch(chunk, begin, len(starts))

    def finish(self) -> pa.Table | None:
        """Hands out the last rows; gives the transactions, None if there are none."""
        if self._is_many:  # from the last of them on a dump can be exact again
            self._on_structure(self._latest)
        self._flush()
        if not self._transactions:
            return None
        table = pa.concat_tables(self._transactions).combine_chunks()
        if not self._notes:
            return table
        lsns = table["lsn"].to_pylist()
        for index, name in ((5, "actor"), (6, "tag")):
            values = pa.array([self._notes.get(lsn, {}).get(name) for lsn in lsns], pa.string())
            table = table.set_column(index, TRANSACTIONS_SCHEMA.field(name), values)
        return table

    # What is looked at one by one

    def _changes_nothing(self, kind: int, message: bytes) -> bool:
        """Whether it is a Relation message that came before, as it comes again after every invalidation."""
        return kind == _R and self._announced.get(int.from_bytes(message[1:5])) == message

    def _look_at(self, kind: int, message: bytes) -> None:
        if kind == _Y:
            told = pgoutput.decode(message)
            assert isinstance(told, pgoutput.Type)
            self._types[told.oid] = f"{told.schema}.{told.name}" if told.schema else told.name
        elif kind == _R:
            relation = pgoutput.decode(message)
            assert isinstance(relation, pgoutput.Relation)
            self._announced[relation.oid] = message
            if relation.schema in UNRECORDED:
                self._own.add(relation.oid)
            elif (change := self._registry.relation(relation, self._types)) is not None:
                self._take(change)
        else:
            self._hear(message)

    def _hear(self, message: bytes) -> None:
        """What is said in the stream. Whatever it is, the rows go on."""
        told = taken_apart(message, 0, (_DDL, _SEQUENCES, _ACTOR))
        if told is None:
            if (lsn := outside(message, 0, (_DDL, _SEQUENCES))) is not None:
                self.forged.append(lsn)
            return
        prefix, content = told
        if prefix == _ACTOR:
            self._notes.setdefault(self._lsn, {})["actor"] = content[:_ACTOR_BYTES].decode(errors="replace")
        elif not is_ours(content, self._tokens):
            self.forged.append(self._lsn)
        elif prefix == _DDL:
            self._hear_ddl(content)
        else:
            self._hear_sequences(content)

    def _hear_ddl(self, content: bytes) -> None:
        try:
            told = ddl.decode(content)
        except FormatError as error:
            self.unreadable, self.incomplete = str(error), True
            return
        if told.tag:
            self._notes.setdefault(self._lsn, {})["tag"] = told.tag
        self._take(self._registry.ddl(told))

    def _hear_sequences(self, content: bytes) -> None:
        try:
            told = msgspec.json.decode(content, type=Told)
        except (msgspec.MsgspecError, UnicodeError) as error:
            self.unreadable = f"a {SEQUENCES} message cannot be read: {error}"
            return
        for state in told.sequences:
            self.sequences[state.schema, state.name] = state

    def _take(self, change: Change) -> None:
        self._seq += 1
        # Policies, rights and their like are in dumps alone, and a dump is one of a version. No cut lies inside of a transaction:
        # one is enough for it. After some in a segment one stands for whatever follows, until relations change or to the last.
        if change.changes_relations:
            self._is_many = False
            self._begin(change)
        elif change.beside and self._lsn != self._begun_at:
            self._latest = Structure(self._lsn, self._seq + 1, change)
            if not self._is_many:
                self._beside += 1
                self._is_many = self._beside > _MOST_BESIDE
                self._begin(msgspec.structs.replace(change, reason=MANY, command=None) if self._is_many else change)
        self.incomplete |= change.incomplete
        if change.rewritten:
            self.doubts.append(
                Doubt(self._lsn, change.rewritten, f"{change.reason} rewrote rows that the stream does not show")
            )
        if change.unrecorded:
            self.doubts.append(Doubt(self._lsn, change.unrecorded, "UNLOGGED: its changes do not come through"))

    def _begin(self, change: Change) -> None:
        self._version = self._on_structure(Structure(self._lsn, self._seq, change))
        self._begun_at = self._lsn
        self._restructure()

    def _restructure(self) -> None:
        relations = self._registry.relations
        self._relations: list[Relation] = list(relations)
        self._families = Families(relations)
        self._layouts = Layouts([layout_of(relation) for relation in relations])
        self._known = np.array(sorted(relation.oid for relation in relations), np.int64)
        self._numbers = np.array([relation.number for relation in relations] or [0], np.int32)
        width = max((len(relation.row_columns) for relation in relations), default=1) or 1
        self._attnums = np.zeros((max(len(relations), 1), width), np.int16)
        for i, relation in enumerate(relations):
            self._attnums[i, : len(relation.row_columns)] = relation.row_columns
        self._of_families = np.array(
            [isinstance(r.tenant, Via) or r.oid in self._families.parents for r in relations] or [False]
        )

    # Rows in bulk

    def _stretch(self, chunk: _Chunk, begin: int, end: int) -> None:
        """Messages begin..end, between which the structure does not change."""
        if begin == end:
            return
        kinds = chunk.kinds[begin:end]
        starts, ends = chunk.starts[begin:end], chunk.ends[begin:end]
        rows = self._recorded(chunk.buffer, starts, kinds)
        batch = decode_rows(chunk.buffer, starts[rows], ends[rows], self._layouts)
        source = rows[batch.source]
        places = _Places(self, chunk.buffer, starts, kinds, source)
        if len(batch):
            self._add(batch, source, places)
        for at in np.flatnonzero(kinds == _T).tolist():
            self._truncate(chunk.buffer[starts[at] : ends[at]].tobytes(), places, at)
        commits = np.flatnonzero(kinds == _C)
        if len(commits):
            self._transactions.append(places.transactions(chunk.buffer, starts, commits))
        self._lsn, self._xid, self._committed_us, self._seq = places.last()

    def _recorded(self, buffer: NDArray[np.uint8], starts: Any, kinds: Any) -> Any:
        """Indexes of the row messages of recorded tables."""
        rows = np.flatnonzero(_ROWS[kinds])
        if not len(rows):
            return rows
        oids = numbers_at(buffer, starts[rows] + 1, ">u4")
        recorded = np.isin(oids, self._known)
        for oid in set(np.unique(oids[~recorded]).tolist()) - self._own:
            raise IntegrityError(
                f"The stream has changes of a table with oid {oid} that it never announced.",
                "Keep the spool file, and run `ballast protect` again: it takes a new image.",
            )
        return rows[recorded]

    def _truncate(self, message: bytes, places: _Places, at: int) -> None:
        told = pgoutput.decode(message)
        assert isinstance(told, pgoutput.Truncate)
        found = [self._registry.by_oid(oid) for oid in told.oids]
        numbers = tuple(relation.number for relation in found if relation is not None)
        if numbers:
            lsn, seq = places.of_message(at)
            self.truncations.append(Truncation(lsn, seq, numbers))

    def _add(self, batch: RowBatch, source: Any, places: _Places) -> None:
        tenant = batch.partition.to_text()
        before_tenant = batch.before_partition.to_text()
        if self._families:
            tenant, before_tenant = self._by_family(batch, tenant, before_tenant, places)
        self._doubt_unknown(batch, places)
        lsn, seq, committed_us = places.of_rows()
        count = len(batch)
        width = np.diff(batch.missing_offsets)
        attnums = self._attnums[np.repeat(batch.layout, width), batch.missing]
        columns: Mapping[str, pa.Array] = {
            "tenant": tenant,
            "relation": pa.array(self._numbers[batch.layout]),
            "key": batch.key.to_arrow(),
            "timeline": pa.array(np.full(count, self._timeline, np.int32)),
            "lsn": pa.array(lsn),
            "seq": pa.array(seq),
            "op": pa.DictionaryArray.from_arrays(pa.array(_OP_CODES[batch.op]), _OP_NAMES),
            "committed_at": pa.array(committed_us).cast(pa.timestamp("us", tz="UTC")),
            "schema": pa.array(np.full(count, self._version, np.int32)),
            "row": batch.row.to_arrow(),
            "missing": batch.missing_lists(attnums),
            "before_key": batch.before_key.to_arrow(),
            "before_tenant": before_tenant,
        }
        self._tables.append(pa.table(dict(columns)))
        self._rows += count
        self._bytes += len(batch.row.data) + len(batch.key.data)
        self.changes += count
        if self._rows >= FLUSH_ROWS or self._bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._tables:
            tables, self._tables = self._tables, []
            self._rows = self._bytes = 0
            self._on_rows(pa.concat_tables(tables))

    def _doubt_unknown(self, batch: RowBatch, places: _Places) -> None:
        unknown = np.flatnonzero(batch.partition_state == UNKNOWN)
        if not len(unknown):
            return
        for index in np.unique(batch.layout[unknown]).tolist():
            relation = self._relations[index]
            if isinstance(relation.tenant, ByColumn):
                reason = "rows were deleted without their tenant: the replica identity lacks it"
                self.doubts.append(Doubt(int(places.of_rows()[0][unknown[0]]), (relation.number,), reason))

    # Rows whose tenant a parent tells

    def _by_family(self, batch: RowBatch, tenant: Any, before: Any, places: _Places) -> tuple[Any, Any]:
        concerned = np.flatnonzero(self._of_families[batch.layout]).tolist()
        if not concerned:
            return tenant, before
        tenants: list[str | None] = tenant.to_pylist()
        befores: list[str | None] = before.to_pylist()
        orphans: list[int] = []
        for i in concerned:
            relation = self._relations[batch.layout[i]]
            if isinstance(relation.tenant, Via):
                found = self._parents_tenant(batch, i, relation, relation.tenant)
                if isinstance(found, Unknown):
                    orphans.append(i)
                    tenants[i] = None
                else:
                    tenants[i] = found
                befores[i] = None
            self._learn(batch, i, relation, tenants[i], places)
        for i in orphans:  # a deferred constraint lets children come before their parent
            relation = self._relations[batch.layout[i]]
            assert isinstance(relation.tenant, Via)
            found = self._parents_tenant(batch, i, relation, relation.tenant)
            if isinstance(found, Unknown):
                reason = "a row came before the parent that says whose it is"
                self.doubts.append(Doubt(int(places.of_rows()[0][i]), (relation.number,), reason))
            else:
                tenants[i] = found
                self._learn(batch, i, relation, found, places)
        return pa.array(tenants, pa.large_string()), pa.array(befores, pa.large_string())

    def _parents_tenant(self, batch: RowBatch, i: int, relation: Relation, rule: Via) -> str | Unknown | None:
        if len(rule.columns) == 1:
            if batch.partition_state[i] == UNKNOWN:
                return self._lineage.find(relation.oid, batch.key[i] or b"")
            if batch.partition_state[i] != TEXT:
                return None
            key: bytes | None = escape(batch.partition[i] or b"")
        elif batch.op[i] == ord("D"):
            return self._lineage.find(relation.oid, batch.key[i] or b"")
        else:
            key = values_of(batch.row[i] or b"", relation, rule.columns)
        if key is None:
            return None
        return self._lineage.find(parent_space(rule.parent, rule.parent_columns), key)

    def _learn(self, batch: RowBatch, i: int, relation: Relation, tenant: str | None, places: _Places) -> None:
        if batch.op[i] == ord("D"):
            return
        rule = relation.tenant
        if isinstance(rule, Via) and len(rule.columns) > 1:
            self._lineage.learn(relation.oid, batch.key[i] or b"", tenant)
        for columns in self._families.parents.get(relation.oid, ()):
            key = self._named_by(batch, i, relation, on_leaf(relation, columns))
            if key is None:
                continue
            space = parent_space(relation.root_oid or relation.oid, columns)
            known = self._lineage.find(space, key)
            self._lineage.learn(space, key, tenant)
            if not isinstance(known, Unknown) and known != tenant:
                children = tuple(self._families.children_of(relation.oid))
                reason = f"a row of {relation.qualified} went to another tenant, and its children with it"
                self.doubts.append(Doubt(int(places.of_rows()[0][i]), children, reason))

    @staticmethod
    def _named_by(batch: RowBatch, i: int, relation: Relation, columns: tuple[int, ...]) -> bytes | None:
        if columns == relation.key:
            return batch.key[i]
        if set(columns) <= set(relation.key):
            fields = (batch.key[i] or b"").split(SEPARATOR)
            return SEPARATOR.join(fields[relation.key.index(attnum)] for attnum in columns)
        return values_of(batch.row[i] or b"", relation, columns)


class _Chunk(msgspec.Struct, frozen=True):
    buffer: Any
    starts: Any
    ends: Any
    kinds: Any


class _Places:
    """Which transaction each message of a stretch belongs to, and the number of each change in it."""

    def __init__(self, reader: Reader, buffer: Any, starts: Any, kinds: Any, source: Any) -> None:
        begins = np.flatnonzero(kinds == _B)
        # Transaction 0 is the one under way when the stretch begins.
        self._lsn = np.concatenate(([reader._lsn], numbers_at(buffer, starts[begins] + 1, ">i8")))
        self._us = np.concatenate(([reader._committed_us], numbers_at(buffer, starts[begins] + 9, ">i8") + _EPOCH_US))
        self._xid = np.concatenate(([reader._xid], numbers_at(buffer, starts[begins] + 17, ">u4")))
        self._transaction = np.cumsum(kinds == _B)
        weight = np.bincount(source, minlength=len(kinds)).astype(np.int64)
        weight[kinds == _T] = 1
        self._before = np.cumsum(weight) - weight
        self._total = int(weight.sum())
        self._offset = np.concatenate(([-reader._seq], self._before[begins]))
        self._source = source

    def of_rows(self) -> tuple[Any, Any, Any]:
        """(lsn, seq, commit time in µs) of each row; the second row of a message comes right after its first."""
        transaction = self._transaction[self._source]
        second = np.zeros(len(self._source), np.int64)
        second[1:] = self._source[1:] == self._source[:-1]
        seq = self._before[self._source] - self._offset[transaction] + second + 1
        return self._lsn[transaction], seq, self._us[transaction]

    def of_message(self, at: int) -> tuple[int, int]:
        """(lsn, seq) of one message that counts as a change."""
        transaction = self._transaction[at]
        return int(self._lsn[transaction]), int(self._before[at] - self._offset[transaction] + 1)

    def transactions(self, buffer: Any, starts: Any, commits: Any) -> pa.Table:
        """The transactions that end in the stretch."""
        transaction = self._transaction[commits]
        count = len(commits)
        nothing = pa.nulls(count, pa.string())
        columns = [
            pa.array(numbers_at(buffer, starts[commits] + 2, ">i8")),
            pa.array(numbers_at(buffer, starts[commits] + 10, ">i8")),
            pa.array(self._xid[transaction].astype(np.int64)),
            pa.array(numbers_at(buffer, starts[commits] + 18, ">i8") + _EPOCH_US).cast(pa.timestamp("us", tz="UTC")),
            pa.array(self._before[commits] - self._offset[transaction]),
            nothing,
            nothing,
        ]
        return pa.Table.from_arrays(columns, schema=TRANSACTIONS_SCHEMA)

    def last(self) -> tuple[int, int, int, int]:
        """(lsn, xid, commit time in µs, changes so far) of the transaction under way at the end."""
        return int(self._lsn[-1]), int(self._xid[-1]), int(self._us[-1]), self._total - int(self._offset[-1])


def numbers_at(buffer: Any, at: Any, kind: str) -> Any:
    """Big-endian numbers at these offsets."""
    size = np.dtype(kind).itemsize
    return buffer[at[:, None] + np.arange(size)].reshape(-1).view(kind).astype(np.int64)


def layout_of(relation: Relation) -> RowLayout:
    place = {attnum: i for i, attnum in enumerate(relation.row_columns)}
    rule = relation.tenant
    partition = -1
    if isinstance(rule, ByColumn):
        partition = place[rule.attnum]
    elif isinstance(rule, Via) and len(rule.columns) == 1:
        partition = place[rule.columns[0]]
    return RowLayout(relation.oid, len(place), tuple(place[attnum] for attnum in relation.key), partition)
