"""A side branch looked at, and put back: commits that a failover or a recovery to an earlier moment has left behind.

For each tenant, and each table that it changed on the branch, the rows at the fork are set beside those at the branch's end;
what differs is lost to the server that goes on. `put_back` compares it with what the server holds now, and applies what nobody
has touched since, one transaction a tenant, in which foreign keys hold afterwards or nothing is done. What is in conflict is
listed; it stays in the vault. All of it is recorded like any change, so a second call finds it there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery.choice import names_of
from ballast.recovery.copying import ServerRefused, in_servers_words
from ballast.recovery.foreign_keys import described
from ballast.recovery.reconcile import LostRow, What, in_turn, lost_rows, statement, verdict
from ballast.recovery.roster import refuse_missing
from ballast.recovery.target import Place, Target, connect_target, read_target
from ballast.recovery.tenant import lock_key
from ballast.recovery.wording import Wording
from ballast.vault import Vault, layout, read_rows
from ballast.vault.branches import Branch, concerned
from ballast.vault.failpoints import reach
from ballast.vault.order import bytes_of
from ballast.vault.records import Cut, Relation
from ballast.vault.story import key_texts

_ATTEMPTS = 5
_NOT_A_VALUE = "22"
"""Class of SQLSTATE: the tenant's name is no value of some tenant column."""


class LostTable(msgspec.Struct, frozen=True):
    """What one tenant has lost in one table."""

    relation: Relation
    """As the record has it now, or had it at the branch's end if it is gone."""
    rows: tuple[LostRow, ...]
    """Of a table without a key: the lines that came (`after`) and went (`before`), each under itself."""
    kept: str = ""
    """Why none of it can be put back; empty: it can."""

    def count(self, what: What) -> int:
        """How many rows the branch added, changed or removed."""
        return sum(row.what == what for row in self.rows)


class Lost(msgspec.Struct, frozen=True):
    """What one tenant (None: the rows that all share) has lost."""

    tenant: str | None
    tables: tuple[LostTable, ...]


class Conflict(msgspec.Struct, frozen=True):
    """A row of the branch that is not put back."""

    table: str
    key: dict[str, str | None]
    what: What
    why: str


class TableOutcome(msgspec.Struct, frozen=True):
    """What becomes of one tenant's rows in one table."""

    table: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    there_already: int = 0
    conflicts: tuple[Conflict, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of one tenant."""

    tenant: str | None
    tables: tuple[TableOutcome, ...]
    refused: str = ""
    """Why nothing at all was put back for this tenant."""

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Of all tables."""
        return tuple(conflict for table in self.tables for conflict in table.conflicts)


def lost(
    vault: Vault, branch: Branch, *, tenants: Collection[str] | None = None, tables: Collection[str] | None = None
) -> Iterator[Lost]:
    """What was lost with the branch, tenant by tenant, the shared rows first. `tenants` None: of all, and the shared rows;
    `tables`: only these (`name` or `schema.name`). GapError, IntegrityError, StoreError."""
    index = vault.index
    newest = index.newest_timeline
    now = vault.relations_at(Cut(newest, index.recorded_until(newest)))
    found = concerned(vault, branch)
    for tenant in sorted(found, key=lambda name: (name is not None, name or "")):
        if tenants is not None and tenant not in tenants:
            continue
        lost_here = tuple(_lost_tables(vault, branch, tenant, found[tenant], now, tables))
        if lost_here:
            yield Lost(tenant, lost_here)


def _lost_tables(
    vault: Vault,
    branch: Branch,
    tenant: str | None,
    numbers: Collection[int],
    now: Mapping[int, Relation],
    tables: Collection[str] | None,
) -> Iterator[LostTable]:
    assert branch.base is not None
    forms = {**vault.relations_at(branch.base), **vault.relations_at(branch.tip), **now}
    wanted = {n for n in numbers if n in forms and (tables is None or set(tables).intersection(names_of(forms[n])))}
    before, after = (_state(vault, cut, tenant, wanted, forms) for cut in (branch.base, branch.tip))
    for number in sorted(wanted):
        form = forms[number]
        if form.key:
            places = layout.key_positions(form)
            base, tip = (
                {layout.key_of(line, places): line for line in lines.get(number, ())} for lines in (before, after)
            )
            rows = tuple(lost_rows(base, tip))
        else:
            rows = tuple(_of_multiset(Counter(before.get(number, ())), Counter(after.get(number, ()))))
        if rows:
            yield LostTable(form, rows, _kept(number, form, now))


def _kept(number: int, form: Relation, now: Mapping[int, Relation]) -> str:
    if number not in now:
        return "the table is not there any more"
    return "" if form.key else "the table has no key: nobody can say which rows were touched since"


def _of_multiset(before: Counter[bytes], after: Counter[bytes]) -> Iterator[LostRow]:
    yield from (LostRow(line, line, None) for line in (before - after).elements())
    yield from (LostRow(line, None, line) for line in (after - before).elements())


def _state(
    vault: Vault, cut: Cut, tenant: str | None, numbers: Collection[int], forms: Mapping[int, Relation]
) -> dict[int, list[bytes]]:
    """Lines without newlines, in the layouts of `forms`."""
    found: dict[int, list[bytes]] = {}
    for chunk in read_rows(vault, cut, tenant=tenant, relations=numbers):
        mapping = layout.mapping(chunk.relation, forms[chunk.relation.number])
        data, offsets = bytes_of(chunk.lines)
        lines = data[offsets[0] : offsets[-1]].tobytes().split(b"\n")[:-1]
        found.setdefault(chunk.relation.number, []).extend(mapping.apply(line + b"\n")[:-1] for line in lines)
    return found


class Merging:
    """What was lost on a branch, set beside a database, and put back into it."""

    def __init__(self, vault: Vault, branch: Branch, dsn: str) -> None:
        """RestoreError where the database cannot be reached."""
        self._name = f"branch {branch.timeline}"
        newest = vault.index.newest_timeline
        self._relations = vault.relations_at(Cut(newest, vault.index.recorded_until(newest)))
        self._conn = connect_target(dsn)
        self._target = read_target(self._conn, self._relations, self._relations)

    def __enter__(self) -> Merging:
        return self

    def __exit__(self, *exc: object) -> None:
        self._conn.close()

    def look(self, found: Lost) -> Outcome:
        """What `put_back` would do now."""
        return self._settle(found, apply=False)

    def put_back(self, found: Lost) -> Outcome:
        """Put back what nobody has touched since. One transaction: all that is not in conflict, or (`refused`) nothing."""
        return self._settle(found, apply=True)

    def _settle(self, found: Lost, *, apply: bool) -> Outcome:
        with in_servers_words(), self._locked(found.tenant):
            refuse_missing(self._conn, [found.tenant])
            for _ in range(_ATTEMPTS):
                try:
                    return self._once(found, apply=apply, by_text=False)
                except psycopg.errors.SerializationFailure:
                    continue  # somebody wrote at the same moment: look again
                except (psycopg.errors.DataError, ServerRefused) as error:
                    if not (error.sqlstate or "").startswith(_NOT_A_VALUE):
                        raise
                    return self._once(found, apply=apply, by_text=True)
        return Outcome(found.tenant, (), f"others wrote the same rows {_ATTEMPTS} times meanwhile; run it again")

    @contextmanager
    def _locked(self, tenant: str | None) -> Iterator[None]:
        """No restore of this tenant at the same time. Before the transaction, whose snapshot must not be older."""
        key = lock_key(tenant)
        self._conn.execute("SELECT pg_advisory_lock(%s)", (key,))
        try:
            yield
        finally:
            if not self._conn.closed:
                self._conn.execute("SELECT pg_advisory_unlock(%s)", (key,))

    def _once(self, found: Lost, *, apply: bool, by_text: bool) -> Outcome:
        target = self._target.comparing_texts() if by_text else self._target
        mergeable = [table for table in found.tables if self._why_not(target, table) == ""]
        wording = Wording(target, [t.relation for t in mergeable], shared=found.tenant is None, by_text=by_text)
        literal = sql.Literal(found.tenant).as_string(None)
        tables: list[TableOutcome] = []
        changes: list[tuple[Place, tuple[int, ...], LostRow]] = []
        with self._conn.transaction() as transaction:
            self._conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            # The rows were checked, and their triggers have fired, where they were written first.
            self._conn.execute("SET LOCAL session_replication_role = replica")
            try:
                for table in found.tables:
                    why = self._why_not(target, table)
                    if why:
                        tables.append(_all_kept(table, why))
                        continue
                    place = target.places[table.relation.number]
                    here = self._here(target, place, literal, shared=found.tenant is None)
                    outcome, rows = _compared(table, here)
                    tables.append(outcome)
                    changes += [(place, table.relation.key, row) for row in in_turn(rows)]
                # Not before all is compared: whose a row is may hang on one that goes.
                for change in changes if apply else ():
                    self._change(*change)
                refused = self._finish(wording, literal) if apply else ""
            except (psycopg.errors.IntegrityConstraintViolation, psycopg.errors.GeneratedAlways) as error:
                refused = error.diag.message_primary or str(error)
            if refused or not apply:
                raise psycopg.Rollback(transaction)
            reach("branch.put_back")
        return Outcome(found.tenant, tuple(tables), refused if apply else "")

    @staticmethod
    def _why_not(target: Target, table: LostTable) -> str:
        if table.kept:
            return table.kept
        place = target.places.get(table.relation.number)
        if place is None:
            return "this database does not have the table"
        return "this database lacks columns of the table" if place.dropped else ""

    def _here(self, target: Target, place: Place, literal: str, *, shared: bool) -> dict[bytes, bytes]:
        """The tenant's rows as the server has them now, by key."""
        whose = target.belongs(place.relation, "t", shared=shared)
        query = Wording.fill(place.copy_out(whose).as_string(None), literal)
        with self._conn.cursor().copy(query.encode()) as copy:
            lines = b"".join(bytes(block) for block in copy).split(b"\n")[:-1]
        positions = layout.key_positions(place.relation)
        return {layout.key_of(line, positions): line for line in lines}

    def _change(self, place: Place, key: tuple[int, ...], row: LostRow) -> None:
        done = self._conn.execute(statement(place, key, row))
        if done.rowcount != 1:
            raise RestoreError(
                f"{place.qualified}: a row that should be there is not, or is twice",
                "Something in the target (a rule, a policy) keeps rows from being changed. Nothing was kept.",
            )

    def _finish(self, wording: Wording, literal: str) -> str:
        """Sequences, foreign keys, and a word of who it was. Why it cannot stay, or nothing."""
        for advance in wording.sequences:
            self._conn.execute(Wording.fill(advance, literal).encode())
        self._conn.execute(
            "SELECT pg_logical_emit_message(true, 'ballast.actor', %s)", (f"ballast branch: {self._name} put back",)
        )
        question = Wording.fill(wording.orphans[True], literal)
        broken: Sequence[Any] = self._conn.execute(question.encode()).fetchall() if question else ()
        return f"foreign keys would be broken: {'; '.join(described(broken))}" if broken else ""


def _compared(table: LostTable, here: Mapping[bytes, bytes]) -> tuple[TableOutcome, list[LostRow]]:
    """What becomes of the rows, and those that are to be put back."""
    rows: list[LostRow] = []
    conflicts: list[Conflict] = []
    there = 0
    for row in table.rows:
        now = here.get(row.key)
        match verdict(row, now):
            case "put back":
                rows.append(row)
            case "there already":
                there += 1
            case _:
                why = "the row is gone here" if now is None else "the row is another one here"
                conflicts.append(_conflict(table.relation, row, why))
    counts = Counter(row.what for row in rows)
    outcome = TableOutcome(
        table.relation.qualified, counts["added"], counts["changed"], counts["removed"], there, tuple(conflicts)
    )
    return outcome, rows


def _all_kept(table: LostTable, why: str) -> TableOutcome:
    conflicts = tuple(_conflict(table.relation, row, why) for row in table.rows)
    return TableOutcome(table.relation.qualified, conflicts=conflicts)


def _conflict(relation: Relation, row: LostRow, why: str) -> Conflict:
    texts = key_texts(row.key, relation)
    return Conflict(relation.qualified, texts, row.what, why)
