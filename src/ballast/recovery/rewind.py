"""`rewind`: one live tenant, or some of its tables, back in place as of a moment, while everybody else writes on.

The difference between now (in the server) and then (in the vault) is computed by key and applied in one transaction, under
the tenant's advisory lock, which keeps other restores and rewinds of it out. What holds beside concurrent writes, those
of the tenant itself included, stands in `amend.py`: no write is overwritten that the difference did not see, and
a row that somebody writes to or adds after it was computed stays. Where the tenant's own writers come in between, the
difference is computed anew with the tenant's rows locked. Other tenants' rows are neither read, locked nor written.

It is a change like any other: recorded with who and why, and so it can itself be rewound or undone.
"""

from __future__ import annotations

import re
import time
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres import Catalog, format_lsn
from ballast.recovery import amend, roster
from ballast.recovery.amend import Attempt, until_done
from ballast.recovery.choice import Choice, Request, choose, refuse_unknown
from ballast.recovery.copying import Lines, ServerRefused, finish, in_servers_words, start
from ballast.recovery.difference import difference
from ballast.recovery.empty import leave_extensions
from ballast.recovery.livetable import LiveTable, standing
from ballast.recovery.named import as_named_now
from ballast.recovery.newer import Newer
from ballast.recovery.restore import Restorer
from ballast.recovery.rewound import Rewound, told
from ballast.recovery.rights import require_rights
from ballast.recovery.target import Place, Target
from ballast.recovery.wording import Wording
from ballast.vault import Resolved, Vault, read_rows
from ballast.vault.moment import show
from ballast.vault.records import Relation, Shared

_NOT_A_VALUE = "22"


class Rewinding(msgspec.Struct, frozen=True):
    """What is to be rewound. `tables` None: all of the tenant's; else names as `schema.table` or `table`."""

    tenant: str
    tables: tuple[str, ...] | None = None
    dry_run: bool = False
    by: str = ""
    """Who asks for it."""
    reason: str = ""


def rewind(vault: Vault, resolved: Resolved, dsn: str, asked: Rewinding) -> Rewound:
    """Puts `asked.tenant` back as it was at `resolved` in the database of `dsn`, or (`dry_run`) says what that would do.

    RestoreError with nothing changed: an unknown tenant or table, a table that is no longer there or that all share,
    missing rights, a foreign key that would not hold (the row is named). GapError for a moment that is not exact."""
    with Rewinder(vault, dsn) as rewinder:
        return rewinder.rewind(resolved, asked)


class Rewinder:
    """Rewinds in one database, again and again: connection, structure and statements are kept from one to the next."""

    def __init__(self, vault: Vault, dsn: str) -> None:
        self._vault, self._dsn = vault, dsn
        self._server = Restorer(vault, dsn)

    def close(self) -> None:
        """Ends the connection."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rewind(self, resolved: Resolved, asked: Rewinding) -> Rewound:
        """See the function `rewind`."""
        started = time.monotonic()
        request = Request(tenants=(asked.tenant,), tables=asked.tables, replace=True)
        choice = choose(self._vault, resolved, request)
        with in_servers_words():
            catalog = self._server.catalog()
            own = self._own(catalog, choice, resolved, request)
            roster.refuse_missing(self._server.connection, [asked.tenant])
            if not asked.dry_run:
                own.require_rights(self._server.connection)
            try:
                found = self._once(own, resolved, asked)
            except ServerRefused as refused:
                self._server.forget(refused)
                # The tenant's name is no value of some tenant column, such as a name where another table has numbers.
                if not refused.sqlstate.startswith(_NOT_A_VALUE):
                    raise
                found = self._once(own.comparing_texts(), resolved, asked)
        warnings = elsewhere(self._vault, catalog)
        before = None if warnings else found.before
        return msgspec.structs.replace(
            found, before=before, warnings=tuple(warnings), elapsed_s=time.monotonic() - started
        )

    def _once(self, own: OwnTables, resolved: Resolved, asked: Rewinding) -> Rewound:
        rows = _Recorded(self._vault, resolved, asked.tenant, own)
        return until_done(self._server.connection, lambda how: self._try(own, rows, resolved, asked, how))

    def _try(self, own: OwnTables, rows: _Recorded, resolved: Resolved, asked: Rewinding, how: Attempt) -> Rewound:
        conn = self._server.connection
        literal = sql.Literal(asked.tenant).as_string(conn)
        begun = amend.looking() if asked.dry_run else amend.opening([asked.tenant])
        looks = [Lines(Wording.fill(look, literal)) for look in own.looks(lock=how.locks and not asked.dry_run)]
        # The server looks while the record is being read.
        start(conn, [*begun, *looks])
        try:
            rows.read()
        finally:
            answers = finish(conn, [*begun, *looks])[len(begun) :]
        found = [
            difference(rows.of(table), standing(lines), table.key)
            for table, lines in zip(own.tables, answers, strict=True)
        ]
        parts = [(table, d) for table, d in zip(own.tables, found, strict=True) if not d.is_nothing]
        changed = [told(table, d) for table, d in parts]
        actor = _actor(asked, resolved)
        compared = sum(len(d.same) for d in found)
        if asked.dry_run or not parts:
            amend.roll_back(conn)
            return Rewound(False, tuple(changed), actor, 0.0, compared, tries=how.number)
        if how.replaces:
            parts = [(table, d.without_changes()) for table, d in parts]
        amended = amend.amend(conn, own.target, parts, actor)
        before = position_on(self._vault, amended.before_lsn)
        return Rewound(True, tuple(changed), actor, 0.0, compared, amended.xid, before, how.number)

    def _own(self, catalog: Catalog, choice: Choice, resolved: Resolved, request: Request) -> OwnTables:
        newest = max(self._vault.index.schemas)
        key = (self._dsn, self._vault.index.schema_at(resolved.cut).version, newest, request.tables)
        kept = _kept.setdefault(self._vault, {})
        if key not in kept or kept[key].catalog is not catalog:
            kept[key] = OwnTables(catalog, choice, request, self._vault.schema(newest))
        return kept[key]


class OwnTables:
    """The tables of a server in which a tenant has rows of its own, now or at the moment, with how they are found."""

    def __init__(self, catalog: Catalog, choice: Choice, request: Request, now: Mapping[int, Relation]) -> None:
        self.catalog = catalog
        relations = as_named_now(choice.relations, now, catalog)
        self.target = Target(catalog, relations, {number: relations[number] for number in choice.chosen})
        leave_extensions(self.target, request)
        self._refuse(choice, request)
        self._newer: Target | None = None
        if request.tables is None:
            newer = Newer(catalog, relations, now)
            self._newer = Target(catalog, now, newer.relations)
        groups: defaultdict[int, list[tuple[Target, Place]]] = defaultdict(list)
        for target in filter(None, (self.target, self._newer)):
            for place in target.places.values():
                if not isinstance(place.relation.tenant, Shared):
                    groups[place.table.oid].append((target, place))
        self.tables = [LiveTable(group[0][0], [place for _, place in group]) for group in groups.values()]
        self.places = {n: p for n, p in self.target.places.items() if not isinstance(p.relation.tenant, Shared)}
        self._looks: dict[tuple[bool, bool], list[str]] = {}
        self._by_text = False
        self._allowed = False

    def comparing_texts(self) -> OwnTables:
        """The same for a tenant whose name some table's column could not hold."""
        twin = object.__new__(OwnTables)
        twin.__dict__.update(self.__dict__, _by_text=True)
        return twin

    def looks(self, *, lock: bool) -> list[str]:
        """Statements that give the tenant's rows (a hole for its name), one a table, in order."""
        if (lock, self._by_text) not in self._looks:
            self._looks[lock, self._by_text] = [
                table.look(
                    (table.target.comparing_texts() if self._by_text else table.target).belongs(
                        table.places[0].relation, "t", shared=False
                    ),
                    lock=lock,
                )
                for table in self.tables
            ]
        return self._looks[lock, self._by_text]

    def require_rights(self, conn: Any) -> None:
        """RestoreError that names all that is missing."""
        if self._allowed:
            return
        needs = amend.needs_of(self.target, [table.table.oid for table in self.tables])
        for table in self.tables:
            parents = (table.target.root_of(p) for p in table.target.parents(table.places[0].relation))
            needs.on_tables([parent.oid for parent in parents if parent is not None], "SELECT")
        require_rights(conn, self.catalog, needs, create=False)
        self._allowed = True

    def _refuse(self, choice: Choice, request: Request) -> None:
        if request.tables is not None:
            shared = sorted(r.qualified for r in choice.chosen.values() if isinstance(r.tenant, Shared))
            if shared:
                raise RestoreError(
                    f"{', '.join(shared)} is shared by all tenants: no single one can be rewound in it",
                    "Leave it out of --table. `ballast restore --table` into an empty database shows its rows of the moment.",
                )
        gone = sorted(r.qualified for r in self.target.missing if not isinstance(r.tenant, Shared))
        if gone:
            raise RestoreError(
                f"the database no longer has these tables, which existed at that moment: {', '.join(gone[:5])}",
                "Rewind the others by name (--table), or create these tables again first (`ballast restore` into an empty"
                " database shows their structure).",
            )


class _Recorded:
    """The tenant's rows as of the moment, read once."""

    def __init__(self, vault: Vault, resolved: Resolved, tenant: str, own: OwnTables) -> None:
        self._vault, self._resolved, self._tenant, self._own = vault, resolved, tenant, own
        self._lines: dict[int, list[bytes]] | None = None

    def read(self) -> None:
        """Does nothing the second time. RestoreError for a tenant of whom nothing was ever recorded."""
        if self._lines is not None:
            return
        lines: defaultdict[int, list[bytes]] = defaultdict(list)
        places = self._own.places
        for chunk in read_rows(self._vault, self._resolved, tenant=self._tenant, relations=frozenset(places)):
            place = places[chunk.relation.number]
            lines[place.table.oid] += lines_of(place.fit(chunk).buffer)
        if not lines:
            refuse_unknown(self._vault, (self._tenant,))
        self._lines = lines

    def of(self, table: LiveTable) -> Sequence[bytes]:
        """Those of one table."""
        assert self._lines is not None
        return self._lines.get(table.table.oid, ())


_kept: weakref.WeakKeyDictionary[Vault, dict[object, OwnTables]] = weakref.WeakKeyDictionary()
"""Kept as long as the vault is open: wording the statements takes longer than running them."""


def lines_of(buffer: memoryview) -> list[bytes]:
    """A buffer of COPY lines, taken apart; COPY escapes all other ends of lines."""
    return bytes(buffer).splitlines(keepends=True)


def elsewhere(vault: Vault, catalog: Catalog) -> list[str]:
    """A warning where the database is not the one that the vault records."""
    recorded = vault.index.timelines[vault.index.newest_timeline]
    if (recorded.system_identifier, recorded.database) == (catalog.system_identifier, catalog.database):
        return []
    return [
        "this is not the database that the vault records now: what is done here does not become part of its history"
    ]


_POSITION = re.compile(r"[0-9]{1,9}/[0-9A-F]{1,8}/[0-9A-F]{1,8}(?=:|$)")


def position_on(vault: Vault, lsn: int) -> str:
    """A position of the newest timeline, as `--at` takes it."""
    return f"{vault.index.newest_timeline}/{format_lsn(lsn)}"


def put_back_to(actor: str | None, tenant: str) -> str:
    """Whether somebody whom the record calls so rewound all tables of this tenant: the position to which, or "". Anybody may call
    himself anything."""
    _, _, rest = (actor or "").partition(f", rewinding tenant {tenant} to ")
    found = _POSITION.match(rest)
    return found[0] if found else ""


def _actor(asked: Rewinding, resolved: Resolved) -> str:
    tables = f" ({', '.join(asked.tables)})" if asked.tables else ""
    said = f"{asked.by or 'ballast'}, rewinding tenant {asked.tenant}{tables} to {show(resolved.cut)}"
    return f"{said}: {asked.reason}" if asked.reason else said
