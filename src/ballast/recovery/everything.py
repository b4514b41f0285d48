"""Rows put back into tables that hold none, unit by unit by many hands, and read back whole.

A unit is a bucket of tenants, or one tenant where only some are wanted: its rows, in all tables, are one transaction
with the note that it is done. So an interrupted restore goes on with the units that are missing.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres.copystream import can_stream, sum_copy
from ballast.recovery import progress
from ballast.recovery.copying import Count, Send, converse, run_script
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.report import TableProof, Tally
from ballast.recovery.schedule import Task
from ballast.recovery.target import Place, Target, connect_target
from ballast.vault import RowChunk, Vault, bucket_groups, read_rows
from ballast.vault.failpoints import reach
from ballast.vault.records import SHARED_BUCKET, Cut

_LOAD_SETTINGS = "SET session_replication_role = replica; SET synchronous_commit = off"
_PAGES_WORTH_A_CONNECTION = 1000
_UNITS_A_JOB = 4
_PAGES_A_SHARE = 60_000
"""Reading back is split by ranges of pages of about 500 MB, so that one large table occupies all connections."""

Advance = Callable[[int], None]
"""Told how many rows more were put back, or read."""
Tallies = dict[int, Tally]
"""Relation number to what the record has of it."""


class Unit(msgspec.Struct, frozen=True):
    """One transaction's worth of rows, for whoever loads it."""

    name: str
    turn: str
    """Of the process that hands it out (`progress.claim`)."""
    cut: Cut
    places: Mapping[int, Place]
    """Relation number to where its rows go."""
    buckets: tuple[int, ...] = ()
    """That can be read together; empty: one tenant."""
    tenant: str = ""


def units(
    vault: Vault,
    cut: Cut,
    target: Target,
    turn: str,
    tenants: Sequence[str] | None,
    done: Collection[str],
    hands: Hands,
) -> list[Unit]:
    """The shared rows, then all buckets or each of `tenants`; without those that are `done`."""
    buckets = {SHARED_BUCKET}
    if tenants is None:
        buckets |= set(range(vault.index.genesis.buckets))
    # By bucket, since a merge in the meantime may lead to other groups.
    buckets -= {
        int(n) for unit in done if unit.startswith("buckets ") for n in unit.removeprefix("buckets ").split(",")
    }
    todo = [
        Unit("buckets " + ",".join(map(str, group)), turn, cut, target.places, buckets=group)
        for group in bucket_groups(vault, cut, buckets, _UNITS_A_JOB * hands.count)
    ]
    return todo + [
        Unit(f"tenant {name}", turn, cut, target.places, tenant=name)
        for name in dict.fromkeys(tenants or ())
        if f"tenant {name}" not in done
    ]


def load(todo: Sequence[Unit], hands: Hands, seat: Seat, done: Mapping[str, Tallies]) -> Tallies:
    """Loads every unit; gives rows and checksum of the record for each relation, with those that were `done` before.

    What fails one unit lets those under way finish, then is raised."""
    return _sum([*done.values(), *hands.map(load_unit, todo, seat)])


def load_unit(seat: Seat, unit: Unit) -> Tallies:
    """Puts one unit back, unless that is done: in one transaction, with the note of it."""
    recorded: Tallies = defaultdict(Tally)
    with connect_target(seat.dsn) as conn:
        progress.join(conn)
        run_script(conn, _LOAD_SETTINGS)
        with conn.transaction():
            before = progress.begin_unit(conn, unit.turn, unit.name)
            if before is not None:  # by a worker that was lost before it could say so
                seat.advance(sum(tally.rows for tally in before.values()))
                return before
            for chunk in _read(seat, unit):
                place = unit.places.get(chunk.relation.number)
                if place is None:
                    continue
                fitted = place.fit(chunk)
                converse(conn, [Send(place.copy_in().as_string(conn), [fitted.buffer])])
                recorded[chunk.relation.number] += Tally(fitted.rows, fitted.checksum)
                seat.advance(fitted.rows)
                reach("restore.chunk")
            progress.note_done(conn, unit.name, recorded)
    reach("restore.committed")
    return dict(recorded)


def _read(seat: Seat, unit: Unit) -> Iterator[RowChunk]:
    assert seat.vault is not None
    relations = frozenset(unit.places)
    if unit.buckets:
        return read_rows(seat.vault, unit.cut, buckets=unit.buckets, relations=relations)
    return read_rows(seat.vault, unit.cut, tenant=unit.tenant, relations=relations)


def _sum(parts: Sequence[Tallies]) -> Tallies:
    total: Tallies = defaultdict(Tally)
    for part in parts:
        for number, tally in part.items():
            total[number] += tally
    return dict(total)


class Proving:
    """Reads every restored table back, in `tasks`, and sets it beside the record."""

    def __init__(self, dsn: str, conn: psycopg.Connection[Any], target: Target, advance: Advance) -> None:
        self._dsn, self._advance = dsn, advance
        self._by_table: dict[int, list[Place]] = {}
        for place in target.places.values():
            self._by_table.setdefault(place.table.oid, []).append(place)
        self._pages = _pages(conn, self._by_table)
        self._restored: Tallies = defaultdict(Tally)
        self._lock = threading.Lock()

    def size(self, table: str) -> int:
        """Pages of a table (`schema.name`)."""
        return next((self._pages[oid] for oid, places in self._by_table.items() if places[0].qualified == table), 0)

    def tasks(self) -> list[Task]:
        """What is to be read."""
        return [
            Task(places[0].qualified, False, partial(self._read, places[0], statement))
            for oid, places in self._by_table.items()
            for statement in _statements(places[0], self._pages[oid])
        ]

    def _read(self, place: Place, statement: sql.Composed, conn: psycopg.Connection[Any]) -> None:
        printed = statement.as_string(None)
        tally: Tally
        if self._pages[place.table.oid] >= _PAGES_WORTH_A_CONNECTION and can_stream(conn):
            tally = Tally(*sum_copy(connect_target(self._dsn), printed))
        else:
            tally = converse(conn, [Count(printed)])[0][0]
        self._advance(tally.rows)
        with self._lock:
            self._restored[place.table.oid] += tally

    def proofs(self, recorded: Tallies, titles: Mapping[int, str]) -> list[TableProof]:
        """After all tasks. `titles` names the relations."""
        proofs = []
        for oid, places in self._by_table.items():
            numbers = [place.relation.number for place in places]
            title = titles[numbers[0]] if len(numbers) == 1 else places[0].qualified
            expected = _sum([{oid: recorded.get(number, Tally())} for number in numbers])[oid]
            proofs.append(TableProof(title, expected, self._restored[oid]))
        return sorted(proofs, key=lambda proof: proof.table)


def _pages(conn: psycopg.Connection[Any], tables: Collection[int]) -> dict[int, int]:
    rows = conn.execute(
        "SELECT oid::bigint, pg_relation_size(oid) / current_setting('block_size')::int FROM unnest(%s::oid[]) AS oid",
        [list(tables)],
    ).fetchall()
    return dict(rows)


def _statements(place: Place, pages: int) -> list[sql.Composed]:
    """A table whole is printed quicker than what a query gives; of a large one each a range of pages."""
    if place.table.kind != "r":
        return [place.copy_out(sql.SQL("true"))]
    starts = range(0, max(pages, 1), _PAGES_A_SHARE)
    if len(starts) == 1 and place.columns:
        names = sql.SQL(", ").join(map(sql.Identifier, place.columns))
        return [sql.SQL("COPY {} ({}) TO STDOUT").format(place.name, names)]
    ranges = [
        sql.SQL("t.ctid >= {} AND t.ctid < {}").format(
            sql.Literal(f"({start},0)"), sql.Literal(f"({start + _PAGES_A_SHARE},0)")
        )
        for start in starts[:-1]
    ]
    ranges.append(sql.SQL("t.ctid >= {}").format(sql.Literal(f"({starts[-1]},0)")))
    return [place.copy_out(condition) for condition in ranges]
