"""What transactions did after the moment that a recovery goes back to, as items that `redo.take_in` does again.

A deletion that takes seconds, table by table, has the work of others in between, and going back to before the deletion leaves
that out as well. Here it is read from the record: each transaction's rows, tenant by tenant, in the order of the commits.

What was merged then and could not be done, by the handler's rules or the database's, may have lacked just what was deleted: its
rows come in as all others, and then it is to be tried again (`refused`).

Left out is what belongs to the deletion. A transaction that deleted rows of more than one tenant does, since hardly any
application makes one; so does one that took more rows than it added: an order takes lines from a cart, and adds more than
those. Where such a one also added or changed rows it may have been somebody's honest work, and is told by its position.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from ballast.errors import GapError
from ballast.postgres.copytext import NULL, unescape
from ballast.recovery.merge_items import MergeItem
from ballast.recovery.merge_register import refused_item
from ballast.vault import Vault, read_rows
from ballast.vault.buckets import bucket_of
from ballast.vault.moment import show
from ballast.vault.plan import Stretch, may_hold
from ballast.vault.read import RowChunk, warm
from ballast.vault.records import Cut, Relation, Segment
from ballast.vault.tables import MERGE_SCHEMA

KIND = "ballast.recorded"
SHARED = "(shared)"
"""Stands as the tenant of items of shared rows, which no register keeps."""
OURS = "ballast sentinel"
"""So an actor's name begins where it was no work of anybody."""

Values = dict[str, str | None]
"""Column to the text of its value; None is null."""


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of the record."""

    since: str
    """Position of the first transaction."""
    until: str = ""
    """Position after the last; "": all that is recorded of that timeline."""
    tenant: str | None = None
    """None: everybody's, and the shared rows."""


class Redone(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done to one row."""

    schema: str
    table: str
    op: str
    """`I`, `U` or `D`."""
    key: Values
    """Columns that tell the row; all of them where the table has no key."""
    row: Values = {}
    """What is written into it."""
    add: Values = {}
    """What is added to columns that count."""
    counts: tuple[str, ...] = ()
    """Of an insertion: columns that count, should the row be there already."""
    keyless: bool = False
    """Equal rows are several."""


class Later(msgspec.Struct, frozen=True):
    """What came after a moment."""

    of: Mapping[str, tuple[MergeItem, ...]] = {}
    """By tenant, in order."""
    shared: tuple[MergeItem, ...] = ()
    """No register keeps them, since it is kept by tenant: whoever has them done notes that they are."""
    transactions: int = 0
    """So many these are of."""
    unclear: tuple[str, ...] = ()
    """Positions of those that are left out although they added or changed rows."""
    deletions: int = 0
    """So many that did nothing else are left out."""
    refused: Mapping[str, tuple[MergeItem, ...]] = {}
    """By tenant, in order: what could not be merged then, for `merge.try_again` when all else is in."""


class Packed(Mapping[str, tuple[MergeItem, ...]]):
    """Items by tenant, each packed until it is asked for: of a large platform there are many, and each has whole rows."""

    def __init__(self) -> None:
        self._held: defaultdict[str, list[bytes]] = defaultdict(list)

    def add(self, item: MergeItem) -> None:
        """After those of its tenant that are there."""
        self._held[item.tenant].append(zlib.compress(_pack(item), 1))

    def __getitem__(self, tenant: str) -> tuple[MergeItem, ...]:
        held = self._held.get(tenant)
        if held is None:
            raise KeyError(tenant)
        return tuple(_unpack(zlib.decompress(one)) for one in held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


# As JSON: MessagePack has no integers beyond 64 bits, and an application's payload may.
_pack, _unpack = msgspec.json.Encoder().encode, msgspec.json.Decoder(MergeItem).decode


class Refused:
    """Items that could not be merged, as the last row of the register about each tells."""

    def __init__(self) -> None:
        self._held: dict[tuple[str | None, ...], MergeItem] = {}

    def see(self, table: str, values: Values) -> None:
        """A row that was written there."""
        what = tuple(values.get(name) for name in ("tenant", "key", "digest"))
        item = refused_item(table, values)
        if item is None:
            self._held.pop(what, None)
        else:
            self._held.setdefault(what, item)

    def packed(self) -> Packed:
        """Those that are open, in order."""
        found = Packed()
        for item in self._held.values():
            found.add(item)
        return found


_pack_row, _unpack_row = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Values).decode


class Did(msgspec.Struct):
    """What a transaction did."""

    grown: Counter[int] = msgspec.field(default_factory=Counter)
    """Relation to rows added less rows taken."""
    made: bool = False
    """It added or changed rows."""
    taken_of: set[str | None] = msgspec.field(default_factory=set)
    """Whose rows it took."""

    @property
    def is_of_the_deed(self) -> bool:
        """Whether it is taken for part of a deletion: it took rows of several, or left no more new rows than it took, each table
        for itself. A trigger that notes each deletion adds as many."""
        lost = -sum(by for by in self.grown.values() if by < 0)
        return len(self.taken_of) > 1 or 0 < lost >= sum(by for by in self.grown.values() if by > 0)


def later(vault: Vault, spans: Sequence[Span], counters: Collection[str] = ()) -> Later:
    """Of these stretches, which do not overlap. `counters`: `schema.table.column`, see `reversal.merged`.

    StoreError, IntegrityError: the record cannot be read; GapError: one of the positions is not in it."""
    of, refused = Packed(), Refused()
    shared: list[MergeItem] = []
    unclear: list[str] = []
    transactions = deletions = 0
    for span in spans:
        reading = _Reading(vault, span, frozenset(counters), refused)
        for tenant, item in reading.items():
            if tenant is None:
                shared.append(item)
            else:
                of.add(item)
        unclear += reading.unclear
        transactions, deletions = transactions + reading.transactions, deletions + reading.deletions
    return Later(of, tuple(shared), transactions, tuple(unclear), deletions, refused.packed())


class _Reading:
    def __init__(self, vault: Vault, span: Span, counters: Collection[str], refused: Refused) -> None:
        self._vault, self._span, self._counters, self._refused = vault, span, counters, refused
        self._since = since = vault.resolve(span.since).cut
        until = vault.resolve(span.until).cut.lsn if span.until else vault.index.recorded_until(since.timeline)
        self._part = Stretch(since.timeline, since.lsn, until)
        self._seen: dict[tuple[int, bytes], bytes] = {}
        """Rows, packed, as the last transaction left them, by relation and key."""
        self.unclear: list[str] = []
        self.transactions = self.deletions = 0

    def items(self) -> Iterator[tuple[str | None, MergeItem]]:
        """Whose (None: of shared rows), in the order of the commits."""
        part = self._part
        for segment in self._vault.index.segments_of(part.timeline):
            if segment.first_lsn < part.to_lsn and segment.last_lsn > part.from_lsn:
                yield from self._in_segment(segment)

    def _in_segment(self, segment: Segment) -> Iterator[tuple[str | None, MergeItem]]:
        found: defaultdict[int, Did] = defaultdict(Did)
        for rows in self._rows(segment, ("lsn", "op")):
            counted = pa.table({name: rows[name] for name in ("lsn", "relation", "op", "tenant")})
            for name in ("op", "tenant"):
                place = counted.column_names.index(name)
                counted = counted.set_column(place, name, counted[name].cast(pa.string()))
            for one in counted.group_by(["lsn", "relation", "op", "tenant"]).aggregate([([], "count_all")]).to_pylist():
                _add(found[one["lsn"]], one)
        ours = self._of_ours(segment) if found else set()
        wanted = []
        for lsn, did in sorted(found.items()):
            if lsn in ours:
                continue
            if did.is_of_the_deed:
                if did.made:
                    self.unclear.append(show(Cut(segment.timeline, lsn)))
                else:
                    self.deletions += 1
            else:
                wanted.append(lsn)
        self.transactions += len(wanted)
        if wanted:
            yield from self._of_transactions(segment, wanted)

    def _of_transactions(self, segment: Segment, wanted: Sequence[int]) -> Iterator[tuple[str | None, MergeItem]]:
        columns = ("lsn", "seq", "op", "key", "row", "schema", "missing", "before_key", "committed_at")
        picked: list[dict[str, Any]] = []
        for rows in self._rows(segment, columns):
            picked += rows.filter(pc.is_in(rows["lsn"], pa.array(wanted, pa.int64()))).to_pylist()
        self._see_what_counts(picked)
        by_item: dict[tuple[int, str | None], list[Redone]] = {}
        times: dict[int, Any] = {}
        for row in sorted(picked, key=lambda row: (row["lsn"], row["seq"])):
            by_item.setdefault((row["lsn"], row["tenant"]), []).append(self._redone(row))
            self._see_refused(row)
            times[row["lsn"]] = row["committed_at"]
        for (lsn, tenant), changes in by_item.items():
            position = show(Cut(segment.timeline, lsn))
            payload = {"position": position, "changes": msgspec.to_builtins(changes)}
            whose = SHARED if tenant is None else tenant
            yield tenant, MergeItem(whose, f"recorded:{position}", KIND, payload, times[lsn])

    def _see_refused(self, row: Mapping[str, Any]) -> None:
        relation = self._vault.schema(row["schema"])[row["relation"]]
        if relation.schema != MERGE_SCHEMA or row["op"] == "D":
            return
        names = {column.attnum: column.name for column in relation.columns}
        in_row = [names[attnum] for attnum in relation.row_columns]
        self._refused.see(relation.name, _values(in_row, row["row"]))

    def _see_what_counts(self, picked: Sequence[Mapping[str, Any]]) -> None:
        """Rows with columns that count as they were at the moment, where one of these is the first to change them: in a lifeboat
        somebody may have added to such a column before this comes in."""
        wanted: defaultdict[str | None, set[tuple[int, bytes]]] = defaultdict(set)
        for row in picked:
            relation = self._vault.schema(row["schema"])[row["relation"]]
            at = _place(row, relation)
            if row["op"] not in ("I", "D") and relation.key and at not in self._seen and self._counts(relation):
                wanted[row["tenant"]].add(at)
        by_bucket: defaultdict[int, set[str]] = defaultdict(set)
        for tenant in wanted:
            if tenant is not None:
                by_bucket[bucket_of(tenant, self._vault.index.genesis.buckets)].add(tenant)
        relations = {number for places in wanted.values() for number, _ in places}
        whose: list[dict[str, Any]] = [{"tenants": tenants} for tenants in by_bucket.values()]
        if None in wanted:
            whose.append({"tenant": None})
        places = set().union(*wanted.values())
        for of in whose:
            with contextlib.suppress(GapError):  # there they are written as they were recorded
                for chunk in read_rows(self._vault, self._since, relations=relations, **of):
                    self._seen |= {at: _pack_row(values) for at, values in _rows_of(chunk) if at in places}

    def _redone(self, row: Mapping[str, Any]) -> Redone:
        relation = self._vault.schema(row["schema"])[row["relation"]]
        names = {column.attnum: column.name for column in relation.columns}
        in_row = [names[attnum] for attnum in relation.row_columns]
        in_key = [names[attnum] for attnum in relation.key] or in_row
        at = _place(row, relation)
        key = _values(in_key, at[1])
        to = Redone(relation.schema, relation.name, row["op"], key, keyless=not relation.key)
        if row["op"] == "D":
            self._seen.pop(at, None)
            return to
        values = _values(in_row, row["row"])
        counts = self._counts(relation)
        if row["op"] == "I":
            self._seen[at] = _pack_row(values)
            return replace(to, row=values, counts=tuple(name for name in counts if name in values))
        lacks = {names[attnum] for attnum in row["missing"] or ()} if row["op"] == "P" else set()
        packed = self._seen.pop(at, None)
        whole = {name: value for name, value in values.items() if name not in lacks}
        if packed is None:
            # Nothing before it touched the row since the moment, and nothing in it counts: it stands as the transaction found it.
            if not lacks:
                self._seen[relation.number, row["key"]] = _pack_row(values)
            return replace(to, op="U", row={name: v for name, v in whole.items() if key.get(name, "") != v})
        before = _unpack_row(packed)
        self._seen[relation.number, row["key"]] = _pack_row({**before, **whole})
        moved = {name: value for name, value in whole.items() if before.get(name) != value}
        add: Values = {
            name: more for name in counts if name in moved and (more := _more(before.get(name), moved[name]))
        }
        return replace(to, op="U", row={name: v for name, v in moved.items() if name not in add}, add=add)

    def _counts(self, relation: Relation) -> tuple[str, ...]:
        title = f"{relation.root_schema}.{relation.root_name}"
        return tuple(c.name for c in relation.columns if f"{title}.{c.name}" in self._counters)

    def _rows(self, segment: Segment, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Of the stretch, and of the tenant if it is of one."""
        tenant, part = self._span.tenant, self._part
        bucket = bucket_of(tenant, self._vault.index.genesis.buckets)
        for run in segment.runs:
            if tenant is not None and not (run.bucket in (None, bucket) and may_hold(run, tenant)):
                continue
            for rows in warm(self._vault).open(run).slices(None if tenant is None else {tenant}, columns=columns):
                within = pc.and_(pc.greater_equal(rows["lsn"], part.from_lsn), pc.less(rows["lsn"], part.to_lsn))
                yield rows.filter(within)

    def _of_ours(self, segment: Segment) -> set[int]:
        table = self._vault.transactions(segment)
        if table is None:
            return set()
        return set(table.filter(pc.starts_with(table["actor"], OURS))["lsn"].to_pylist())


def _place(row: Mapping[str, Any], relation: Relation) -> tuple[int, bytes]:
    """Where a row stands that was changed."""
    return relation.number, row["before_key"] if row["before_key"] is not None else row["key"]


def _rows_of(chunk: RowChunk) -> Iterator[tuple[tuple[int, bytes], Values]]:
    """Each with its place."""
    relation = chunk.relation
    names = {column.attnum: column.name for column in relation.columns}
    in_row = [names[attnum] for attnum in relation.row_columns]
    in_key = [relation.row_columns.index(attnum) for attnum in relation.key]
    for line in chunk.lines.to_pylist():
        fields = line.removesuffix(b"\n").split(b"\t")
        yield (relation.number, b"\t".join(fields[i] for i in in_key)), _values(in_row, line)


def _add(did: Did, counted: Mapping[str, Any]) -> None:
    """Rows of one relation, kind and tenant."""
    match counted["op"]:
        case "D":
            did.grown[counted["relation"]] -= counted["count_all"]
            did.taken_of.add(counted["tenant"])
        case "I":
            did.grown[counted["relation"]] += counted["count_all"]
            did.made = True
        case _:
            did.made = True


def _values(names: Sequence[str], line: bytes) -> Values:
    fields = line.removesuffix(b"\n").split(b"\t")
    return {
        name: None if field == NULL else unescape(field).decode() for name, field in zip(names, fields, strict=True)
    }


def _more(before: str | None, after: str | None) -> str | None:
    """What was added; None where that is no number."""
    if before is None or after is None:
        return None
    try:
        more = Decimal(after) - Decimal(before)
    except InvalidOperation:
        return None
    return format(more, "f") if more.is_finite() else None
