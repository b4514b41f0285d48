"""Rows of a live database changed to what the record says, in one transaction, proven before it commits.

What is guaranteed, whatever others write meanwhile (READ COMMITTED, and no lock on a table that a writer would feel):

- A row is changed only if it still is the version that was looked at (`livetable.py`). Where one is not, nothing is kept,
  and `CameBetween` asks the caller to look again. So no write is overwritten that was not seen.
- Writes of others that commit after the look and touch other rows stay as they are.
- Foreign keys hold at the commit (`references.py`), or nothing is kept, and the row that stands in the way is named.
- Every row written is read back and compared with the record's line before the commit.

Triggers and rules of the application stay silent (`session_replication_role = replica`): the rows are what they were, and
so are those that triggers made of them. Who and why go into the stream as `ballast.actor`, within the transaction.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres import Sequence as ServerSequence
from ballast.postgres.copytext import NULL
from ballast.recovery import references
from ballast.recovery.copying import Ask, Lines, Send, ServerRefused, Step, converse
from ballast.recovery.difference import Difference, fields_of
from ballast.recovery.references import Obstacle, Part
from ballast.recovery.report import Tally
from ballast.recovery.rights import Needs
from ballast.recovery.sequences import past_value
from ballast.recovery.tally import tally_of
from ballast.recovery.target import Target
from ballast.recovery.tenant import LOCK, lock_key
from ballast.vault.failpoints import reach

LOCK_TIMEOUT_S = 30
_OPENING = (
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL session_replication_role = replica",
    # Somebody's forgotten session may hold a row for ever: nothing is done then, rather than half of it being held for ever.
    f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'",
)
_ACTOR_BYTES = 900
"""The recorder keeps a thousand."""
_LOCKS_AT_ONCE = 1000
"""The server's table of locks has an end; beyond it the versions of rows alone tell two amendments apart."""
_INTEGERS = ("smallint", "integer", "bigint")
_NOT_AVAILABLE = "55P03"
_COLLISIONS = ("23505", "23P01")
"""Unique and exclusion constraints."""
_COLLIDED = ("40P01", "40001")
"""Deadlocks and their like."""
_TRIES = 10

T = TypeVar("T")


class CameBetween(Exception):
    """Somebody changed a row between our look and our change: nothing was kept, look again."""


class InTheWay(RestoreError):
    """A foreign key would not hold. Nothing was kept."""

    def __init__(self, what: str, do: str, obstacle: Obstacle) -> None:
        super().__init__(what, do)
        self.obstacle = obstacle


class Amended(msgspec.Struct, frozen=True):
    """What was committed."""

    xid: int
    before_lsn: int
    """A cut just before the transaction, in this server's log."""


def opening(tenants: Iterable[str | None]) -> list[Step]:
    """The steps that begin the transaction and keep other restores of these tenants (None: the shared rows) out."""
    keys = sorted(lock_key(tenant) for tenant in tenants)[:_LOCKS_AT_ONCE]
    return [*map(Ask, _OPENING), *(Ask(LOCK.format(key)) for key in keys)]


def looking() -> list[Step]:
    """The steps that begin a transaction that only looks."""
    return [Ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")]


def amend(conn: psycopg.Connection[Any], target: Target, parts: Sequence[Part], actor: str) -> Amended:
    """Applies the differences, proves them and commits. The transaction was begun with `opening`, and the rows were looked
    at in it.

    CameBetween, InTheWay, RestoreError, ServerRefused: nothing was kept (roll back)."""
    amending = _Amending(conn, target, [(table, table.writable(found)) for table, found in parts])
    amending.change(actor)
    reach("amend.changed")
    amending.put_back()
    reach("amend.put_back")
    amending.prove()
    reach("amend.proven")
    amended = amending.commit()
    reach("amend.committed")
    return amended


class Attempt(msgspec.Struct, frozen=True):
    """How a try differs from the first, by what kept that from being the last."""

    number: int = 1
    locks: bool = False
    """Rows are locked when they are looked at: whoever wants to write them waits."""
    replaces: bool = False
    """A changed row goes and comes: two that swap the values of a unique index cannot do so one after the other."""


def until_done(conn: psycopg.Connection[Any], attempt: Callable[[Attempt], T]) -> T:
    """The outcome of the first try that nobody came in between of; each failed one is rolled back.

    RestoreError where that goes on for too long, or what cannot be mended by trying again."""
    how = Attempt()
    while True:
        try:
            return attempt(how)
        except (CameBetween, InTheWay, ServerRefused) as failure:
            roll_back(conn)
            how = _next(how, failure)
        except BaseException:
            roll_back(conn)
            raise
        time.sleep(how.number * 0.005)


def _next(how: Attempt, failure: Exception) -> Attempt:
    state = failure.sqlstate if isinstance(failure, ServerRefused) else ""
    swapped = state in _COLLISIONS and not how.replaces
    # A row may stand in the way only because it was written after we looked.
    again = (
        isinstance(failure, CameBetween) or state in _COLLIDED or (isinstance(failure, InTheWay) and how.number == 1)
    )
    if state in _COLLISIONS and not swapped:
        raise _held_by_another(failure) from failure
    if state == _NOT_AVAILABLE:
        raise _locked_for_long(state) from failure
    if not (swapped or again):
        raise failure
    if how.number >= _TRIES:
        raise RestoreError(
            f"others wrote to the same rows in each of {_TRIES} tries",
            "Nothing was kept. Run the same command again, or stop that tenant's writers for a moment.",
        ) from failure
    return Attempt(how.number + 1, True, how.replaces or swapped)


def roll_back(conn: psycopg.Connection[Any]) -> None:
    """Ends the transaction, if there is one and the connection still stands."""
    if conn.pgconn.status == psycopg.pq.ConnStatus.OK:
        conn.pgconn.exec_(b"ROLLBACK")


def needs_of(target: Target, tables: Iterable[int]) -> Needs:
    """The rights that it takes to amend these tables (oids)."""
    needs, oids = Needs(), frozenset(tables)
    needs.on_tables(oids, "SELECT", "INSERT", "UPDATE", "DELETE")
    roots = {target.tables[oid].root_oid for oid in oids}
    for key in target.catalog.foreign_keys:
        if key.table_oid in oids:
            needs.on_tables((key.ref_table_oid,), "SELECT", "UPDATE")  # FOR KEY SHARE asks for UPDATE
        if key.ref_table_oid in oids | roots:
            needs.on_tables((key.table_oid,), "SELECT")
    needs.on_sequences([s.oid for s in target.catalog.sequences if _feeds(s, oids)], "SELECT", "UPDATE", "USAGE")
    return needs


class _Amending:
    def __init__(self, conn: psycopg.Connection[Any], target: Target, parts: Sequence[Part]) -> None:
        self._conn, self._target, self._parts = conn, target, parts

    def change(self, actor: str) -> None:
        """Says who, removes what must go, changes what is to be another."""
        note = sql.Literal(actor.encode()[:_ACTOR_BYTES].decode(errors="ignore")).as_string(None)
        steps = [Ask(f"SELECT pg_logical_emit_message(true, 'ballast.actor', {note})")]
        for table, found in self._parts:
            steps += map(Ask, table.deletes(found.gone))
        for table, found in self._parts:
            steps += map(Ask, table.updates(found.changes))
        found_there = sum(int(answer[0][0]) for answer in converse(self._conn, steps)[1:])
        if found_there != sum(len(found.gone) + len(found.changes) for _, found in self._parts):
            raise CameBetween

    def put_back(self) -> None:
        """Rows that come."""
        copies = [(table.copy_in, b"".join(found.back)) for table, found in self._parts if found.back]
        converse(self._conn, [Send(copy, [memoryview(lines)]) for copy, lines in copies])

    def prove(self) -> None:
        """Foreign keys, and that what was written reads as it was meant."""
        asked = list(references.questions(self._target, self._parts))
        steps: list[Step] = [*map(Ask, references.locks(self._target, self._parts))]
        locked = len(steps)
        steps += [Ask(question.statement) for question in asked]
        written = [(table, w) for table, found in self._parts if (w := _written(found))]
        looks = [[Lines(look) for look in table.looks_of_own(lines)] for table, lines in written]
        answers = converse(self._conn, [*steps, *(look for each in looks for look in each)])[locked:]
        for question, rows in zip(asked, answers, strict=False):
            if rows:
                raise _in_the_way(references.obstacle(self._target, question, rows[0]))
        read = iter(answers[len(asked) :])
        for (table, lines), each in zip(written, looks, strict=True):
            found, meant = tally_of([line for _ in each for line in next(read)]), tally_of(lines)
            if found != meant:
                raise _read_otherwise(table.title, found, meant)

    def commit(self) -> Amended:
        """Sequences past what came, and the end. Only forwards, and only now: what they do is not undone by anything."""
        steps = [Ask(statement) for statement in self._sequences()]
        steps += [
            Ask("SELECT pg_current_xact_id(), pg_current_wal_insert_lsn() - '0/0'::pg_lsn"),
            Ask("COMMIT"),
        ]
        answers = converse(self._conn, steps)
        xid, lsn = answers[-2][0]
        return Amended(int(xid) & 0xFFFFFFFF, int(lsn))

    def _sequences(self) -> Iterator[str]:
        lines: defaultdict[tuple[int, str], list[bytes]] = defaultdict(list)
        for table, found in self._parts:
            for line in _written(found):
                for name, field in zip(table.columns, fields_of(line), strict=True):
                    lines[table.table.oid, name].append(field)
        for sequence in self._target.catalog.sequences:
            values = []
            for oid, attnum in sequence.feeds:
                if oid not in self._target.tables:
                    continue
                column = self._target.tables[oid].column(attnum)
                if column.base_type in _INTEGERS:
                    values += [int(field) for field in lines.get((oid, column.name), ()) if field != NULL]
            if values:
                extreme = max(values) if sequence.increment > 0 else min(values)
                yield past_value(sequence, extreme).as_string(None)


def _written(found: Difference) -> list[bytes]:
    return [*found.back, *(change.line for change in found.changes)]


def _feeds(sequence: ServerSequence, oids: frozenset[int]) -> bool:
    return any(oid in oids for oid, _ in sequence.feeds)


def _locked_for_long(state: str) -> ServerRefused:
    return ServerRefused(
        f"another session has held a row that must change, or the tenant itself, for {LOCK_TIMEOUT_S} s",
        "Nothing was kept. Look for a forgotten transaction (pg_stat_activity, state 'idle in transaction') or another restore,"
        " end it or wait for it, and run the same command again.",
        state,
    )


def _held_by_another(failure: Exception) -> RestoreError:
    return RestoreError(
        failure.what if isinstance(failure, ServerRefused) else str(failure),
        "Nothing was kept. A row that is to stay has this value, such as one that went to another tenant or was made anew"
        " elsewhere: change or remove it first, or choose another moment.",
    )


def _in_the_way(found: Obstacle) -> InTheWay:
    rows = f"{found.table}: constraint {found.constraint}"
    if found.outside:
        return InTheWay(
            f"a row would lose its parent in {found.parent}: {rows}, {found.row}",
            f"Nothing was kept. Put back {found.table} together with {found.parent} (it may not be among the tables named), or"
            " delete that row first.",
            found,
        )
    return InTheWay(
        f"a row would come back without its parent in {found.parent}: {rows}, {found.row}",
        f"Nothing was kept. Put back {found.parent} as well (leave --table out, or name it; of tables shared by all tenants:"
        " insert the row by hand), or choose another moment.",
        found,
    )


def _read_otherwise(table: str, read: Tally, meant: Tally) -> RestoreError:
    return RestoreError(
        f"table {table} reads back {read} of what was written where the record has {meant}",
        "Nothing was kept. Run `ballast verify`; if it is clean, a type or a generated value of the server changes values.",
    )
