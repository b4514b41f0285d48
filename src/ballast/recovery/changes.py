"""`changes`: what happened in a stretch of time, by transaction, by actor and by table, with the worst first.

Read from segments, one after the other; of each only the transactions that may be among those shown are kept, so that a day under
load fits into memory. How many rows a TRUNCATE or a DROP took is counted in the record just before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import ConfigError, GapError
from ballast.postgres.lsn import format_lsn
from ballast.recovery.choice import names_of
from ballast.recovery.ranking import Proposal, Summary, TableCount, merged, proposed, ranked, to_undo
from ballast.vault import Vault, read_rows, tenant_known
from ballast.vault.buckets import bucket_of
from ballast.vault.moment import show
from ballast.vault.plan import Stretch, may_hold
from ballast.vault.read import warm
from ballast.vault.records import SHARED_BUCKET, Cut, Relation, Segment
from ballast.vault.tablename import versions_of

_BY_DEFAULT = timedelta(days=1)
_NAMED = 3
"""Tenants of a transaction."""
_OPS = {"I": "inserted", "U": "updated", "P": "updated", "D": "deleted"}


class Asked(msgspec.Struct, frozen=True):
    """Which changes are meant."""

    tenant: str | None = None
    """None: everybody's, and the shared rows."""
    tables: tuple[str, ...] | None = None
    since: str | None = None
    """A time or a position; None: a day before `until`."""
    until: str | None = None
    """None: all that is recorded."""
    limit: int = 20
    """Transactions shown; 0: all."""


class Changes(msgspec.Struct, frozen=True):
    """What happened."""

    since: str
    """Positions."""
    until: str
    tenant: str | None
    transactions: tuple[Summary, ...]
    """The most destructive first."""
    left_out: int
    """Transactions that the limit left out."""
    by_actor: tuple[Summary, ...]
    by_table: tuple[TableCount, ...]
    proposal: Proposal | None
    """A moment to go back to; None: nothing was deleted or changed."""
    undo: tuple[str, ...]
    """Positions of transactions to undo, of those shown: see `ranking.to_undo`."""
    inexact: tuple[str, ...]
    """Tables whose record has a gap in that time: changes may be missing."""


def changes(vault: Vault, asked: Asked) -> Changes:
    """Summarises the changes that `asked` means. ConfigError for a tenant or table that the vault does not know, or an end
    before the beginning; GapError for a moment that it does not hold."""
    if asked.tenant is not None and not tenant_known(vault, asked.tenant):
        raise ConfigError(
            f"The vault has never seen tenant {asked.tenant!r}.",
            "A tenant is named by the text of its column, letter by letter: compare with a row of production.",
        )
    until = vault.resolve(asked.until)
    since = _since(vault, asked, until.cut, until.committed_at)
    if (since.timeline, since.lsn) > (until.cut.timeline, until.cut.lsn):
        raise ConfigError(f"{show(since)} comes after {show(until.cut)}.", "Exchange --from and --to.")
    chain = [
        Stretch(part.timeline, since.lsn if part.timeline == since.timeline else part.from_lsn, part.to_lsn)
        for part in vault.index.chain(until.cut)
        if part.timeline >= since.timeline
    ]
    return _Summing(vault, asked, chain).run(since, until.cut)


class _Summing:
    def __init__(self, vault: Vault, asked: Asked, chain: Sequence[Stretch]) -> None:
        self._vault, self._asked, self._chain = vault, asked, chain
        self._relations = _relations(vault, chain, asked.tables)
        self._names = {n: f"{r.root_schema}.{r.root_name}" for n, r in self._relations.items()}
        self._best: list[Summary] = []
        self._transactions = 0
        self._by_actor: defaultdict[str | None, list[TableCount]] = defaultdict(list)
        self._times: Counter[str | None] = Counter()
        self._tenants: defaultdict[str | None, set[str]] = defaultdict(set)

    def run(self, since: Cut, until: Cut) -> Changes:
        """All segments of the stretch."""
        dropped = self._dropped()
        for part in self._chain:
            for segment in self._vault.index.segments_of(part.timeline):
                if segment.first_lsn < part.to_lsn and segment.last_lsn > part.from_lsn:
                    self._take(segment, part, dropped)
        by_actor = [
            Summary("", None, None, actor, None, merged(tables), self._times[actor], *_named(self._tenants[actor]))
            for actor, tables in self._by_actor.items()
        ]
        return Changes(
            show(since),
            show(until),
            self._asked.tenant,
            tuple(self._best),
            self._transactions - len(self._best),
            tuple(ranked(by_actor)),
            merged(table for tables in self._by_actor.values() for table in tables),
            proposed(self._best),
            tuple(summary.position for summary in to_undo(self._best)),
            self._inexact(),
        )

    def _take(self, segment: Segment, part: Stretch, dropped: Mapping[tuple[int, int], set[int]]) -> None:
        counts, tenants = self._counted(segment, part)
        whole = self._emptied(segment, part, dropped)
        if not counts.num_rows and not whole:
            return
        lsns = np.unique(np.concatenate([counts["lsn"].to_numpy(), np.array(sorted(whole), np.int64)]))
        known = self._known(segment, lsns)
        self._add_up(counts, tenants, whole, known)
        self._transactions += len(lsns)
        chosen = set(self._worst(counts, tenants, lsns).tolist()) | whole.keys()
        tables: defaultdict[int, list[TableCount]] = defaultdict(list)
        mine = counts.filter(pc.is_in(counts["lsn"], pa.array(sorted(chosen), pa.int64())))
        for row in mine.to_pylist():
            tables[row["lsn"]].append(self._count(row))
        for lsn, emptied in whole.items():
            tables[lsn] += emptied
        hit: defaultdict[int, set[str]] = defaultdict(set)
        for row in tenants.filter(pc.is_in(tenants["lsn"], pa.array(sorted(chosen), pa.int64()))).to_pylist():
            hit[row["lsn"]].add(row["tenant"])
        for lsn in sorted(chosen):
            told = known.get(lsn, {})
            self._best.append(
                Summary(
                    f"{segment.timeline}/{format_lsn(lsn)}",
                    told.get("xid"),
                    told.get("committed_at"),
                    told.get("actor"),
                    told.get("tag"),
                    merged(tables[lsn]),
                    1,
                    *_named(hit[lsn]),
                )
            )
        self._best = ranked(self._best, self._asked.limit)

    def _counted(self, segment: Segment, part: Stretch) -> tuple[pa.Table, pa.Table]:
        """Rows by transaction (lsn), relation and op; and whose rows each transaction wrote to, shared ones aside."""
        pieces = []
        tenant = self._asked.tenant
        wanted = frozenset(self._relations)
        bucket = bucket_of(tenant, self._vault.index.genesis.buckets)
        for run in segment.runs:
            if tenant is not None and not (run.bucket in (None, bucket) and may_hold(run, tenant)):
                continue
            whose = None if tenant is None else {tenant}
            for rows in warm(self._vault).open(run).slices(whose, wanted, columns=("relation", "lsn", "op", "tenant")):
                within = pc.and_(pc.greater_equal(rows["lsn"], part.from_lsn), pc.less(rows["lsn"], part.to_lsn))
                picked = rows.filter(within).select(["lsn", "relation", "op", "tenant"])
                for place in (2, 3):
                    name = picked.column_names[place]
                    picked = picked.set_column(place, name, picked[name].cast(pa.string()))
                pieces.append(picked.group_by(picked.column_names).aggregate([([], "count_all")]))
        if not pieces:
            return _NOTHING, _NOBODY
        whole = pa.concat_tables(pieces)
        grouped = whole.group_by(["lsn", "relation", "op"]).aggregate([("count_all", "sum")])
        counts = grouped.select(["lsn", "relation", "op", "count_all_sum"]).rename_columns(_NOTHING.column_names)
        owned = whole.filter(pc.is_valid(whole["tenant"]))
        return counts, owned.group_by(["lsn", "tenant"]).aggregate([]).select(["lsn", "tenant"])

    def _worst(self, counts: pa.Table, tenants: pa.Table, lsns: Any) -> Any:
        """Of these transactions those that may be among the shown."""
        limit = self._asked.limit
        if not limit or len(lsns) <= limit:
            return lsns
        at = np.searchsorted(lsns, counts["lsn"].to_numpy())
        ops, numbers = counts["op"].to_numpy(zero_copy_only=False), counts["count_all"].to_numpy()
        deleted, updated, inserted = (
            np.bincount(at[chosen], numbers[chosen], minlength=len(lsns))
            for chosen in (ops == "D", (ops == "U") | (ops == "P"), ops == "I")
        )
        across = np.bincount(np.searchsorted(lsns, tenants["lsn"].to_numpy()), minlength=len(lsns)) > 1
        return lsns[np.lexsort((lsns, -inserted, -deleted, -(deleted + updated), ~across))[:limit]]

    def _add_up(
        self,
        counts: pa.Table,
        tenants: pa.Table,
        whole: Mapping[int, list[TableCount]],
        known: Mapping[int, Mapping[str, Any]],
    ) -> None:
        actors = {lsn: told["actor"] for lsn, told in known.items() if told["actor"] is not None}
        lsns = counts["lsn"].to_pylist() if actors else [0] * counts.num_rows
        sums: Counter[tuple[str | None, int, str]] = Counter()
        for lsn, relation, op, count in zip(
            lsns, *(counts[name].to_pylist() for name in ("relation", "op", "count_all")), strict=True
        ):
            sums[actors.get(lsn), relation, op] += count
        for (actor, relation, op), count in sums.items():
            self._by_actor[actor].append(self._count({"relation": relation, "op": op, "count_all": count}))
        for lsn, emptied in whole.items():
            self._by_actor[actors.get(lsn)] += emptied
        self._by_actor = defaultdict(list, {actor: list(merged(t)) for actor, t in self._by_actor.items()})
        concerned = set(counts["lsn"].unique().to_pylist()) | whole.keys()
        named = Counter(actors[lsn] for lsn in concerned if lsn in actors)
        self._times.update(named)
        self._times[None] += len(concerned) - named.total()
        for lsn, tenant in zip(tenants["lsn"].to_pylist(), tenants["tenant"].to_pylist(), strict=True):
            self._tenants[actors.get(lsn)].add(tenant)

    def _count(self, row: Mapping[str, Any]) -> TableCount:
        return TableCount(self._names[row["relation"]], **{_OPS[row["op"]]: row["count_all"]})

    def _known(self, segment: Segment, lsns: Any) -> dict[int, dict[str, Any]]:
        table = self._vault.transactions(segment)
        if table is None:
            return {}
        picked = table.filter(pc.is_in(table["lsn"], pa.array(lsns, pa.int64())))
        return {row["lsn"]: row for row in picked.to_pylist()}

    # Tables that were emptied at a stroke

    def _emptied(
        self, segment: Segment, part: Stretch, dropped: Mapping[tuple[int, int], set[int]]
    ) -> dict[int, list[TableCount]]:
        """By transaction: what its TRUNCATEs and DROPs took."""
        found: defaultdict[int, list[TableCount]] = defaultdict(list)
        truncated: defaultdict[int, set[int]] = defaultdict(set)
        for truncation in segment.truncations:
            if part.from_lsn <= truncation.lsn < part.to_lsn:
                truncated[truncation.lsn].update(truncation.relations)
        gone = {
            lsn: numbers
            for (timeline, lsn), numbers in dropped.items()
            if timeline == part.timeline
            and max(part.from_lsn, segment.first_lsn) <= lsn < min(part.to_lsn, segment.last_lsn)
        }
        for how, by_lsn in (("truncated", truncated), ("dropped", gone)):
            for lsn, numbers in by_lsn.items():
                mine = numbers & self._relations.keys()
                if how == "dropped":
                    mine -= truncated.get(lsn, set())
                if mine:
                    found[lsn] += self._taken(Cut(part.timeline, lsn), mine, how)
        return {lsn: tables for lsn, tables in found.items() if tables}

    def _taken(self, cut: Cut, numbers: Collection[int], how: str) -> list[TableCount]:
        try:
            rows = Counter(dict.fromkeys(numbers, 0))
            for scope in self._scopes():
                for chunk in read_rows(self._vault, cut, relations=numbers, **scope):
                    rows[chunk.relation.number] += chunk.rows
        except GapError:
            return [TableCount(self._names[number], how=how, counted=False) for number in numbers]
        return [TableCount(self._names[number], deleted=rows[number], how=how) for number in numbers if rows[number]]

    def _scopes(self) -> Iterator[dict[str, Any]]:
        if self._asked.tenant is not None:
            yield {"tenant": self._asked.tenant}
        else:
            yield from ({"bucket": b} for b in range(SHARED_BUCKET, self._vault.index.genesis.buckets))

    def _dropped(self) -> dict[tuple[int, int], set[int]]:
        """(timeline, commit) to the relations that are no longer there from then on."""
        found: dict[tuple[int, int], set[int]] = {}
        before: Mapping[int, Relation] = {}
        for version in versions_of(self._vault, self._chain):
            now = self._vault.schema(version.version)
            if gone := before.keys() - now.keys():
                # A version at seq 0 stands between commits: the rows were there just before.
                found.setdefault((version.timeline, version.lsn - (version.seq == 0)), set()).update(gone)
            before = now
        return found

    def _inexact(self) -> tuple[str, ...]:
        names: set[str] = set()
        for gap in self._vault.index.gaps.values():
            for part in self._chain:
                open_end = gap.to_lsn is None or gap.to_lsn > part.from_lsn
                if gap.timeline == part.timeline and gap.from_lsn < part.to_lsn and open_end:
                    numbers = self._relations.keys() if gap.relations is None else gap.relations
                    names.update(self._names[n] for n in numbers if n in self._names)
        return tuple(sorted(names))


_NOTHING = pa.table(
    {
        "lsn": pa.array([], pa.int64()),
        "relation": pa.array([], pa.int32()),
        "op": pa.array([], pa.string()),
        "count_all": pa.array([], pa.int64()),
    }
)

_NOBODY = pa.table({"lsn": pa.array([], pa.int64()), "tenant": pa.array([], pa.string())})


def _named(tenants: Collection[str]) -> tuple[int, tuple[str, ...]]:
    """How many they are, and the first of them."""
    return len(tenants), tuple(sorted(tenants)[:_NAMED])


def _relations(vault: Vault, chain: Sequence[Stretch], tables: Collection[str] | None) -> dict[int, Relation]:
    """Every relation of that time by number, as it last was; those asked for."""
    every: dict[int, Relation] = {}
    for version in versions_of(vault, chain):
        every |= vault.schema(version.version)
    if tables is None:
        return every
    chosen: dict[int, Relation] = {}
    for name in tables:
        found = {number: relation for number, relation in every.items() if name in names_of(relation)}
        if not found:
            known = ", ".join(sorted({f"{r.root_schema}.{r.root_name}" for r in every.values()})[:20])
            raise ConfigError(f"The vault has no table {name} at that time.", f"Its tables: {known or 'none'}.")
        chosen |= found
    return chosen


def _since(vault: Vault, asked: Asked, until: Cut, committed_at: Any) -> Cut:
    if asked.since is not None:
        return vault.resolve(asked.since).cut
    begin = _beginning(vault, until)
    if committed_at is None:
        return begin
    try:
        return max(begin, vault.resolve((committed_at - _BY_DEFAULT).isoformat()).cut)
    except GapError:  # the vault is younger
        return begin


def _beginning(vault: Vault, until: Cut) -> Cut:
    for part in vault.index.chain(until):
        begin = vault.index.recorded_from(part.timeline)
        if begin is not None:
            return Cut(part.timeline, min(begin, until.lsn) if part.timeline == until.timeline else begin)
    raise GapError("No image of the database is in the vault yet.", "Wait until the first one is complete.")
