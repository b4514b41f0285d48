"""Real PostgreSQL servers, and a fresh database on one of them.

- `pg` runs a test once for each supported PostgreSQL; `pg16` and `pg18` once, on that one. Each gives a
  `Database` that is gone after the test, with the slots, roles and settings that the test made.
- `own_server` makes servers that belong to one test, to be crashed, starved or deleted.
- `open_folder` is `tmp_path` for what a server must reach: pytest's own is closed to other accounts.

Servers start when first asked for, once for each pytest worker. They do not sync to disk: these tests crash
processes, never the machine.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ballast.postgres.embedded import EmbeddedServer
from tests.folders import left_behind, new_folder

_TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_prepared_transactions": "10",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
}

Connection = psycopg.Connection[tuple[Any, ...]]
NewServer = Callable[..., EmbeddedServer]


@dataclass
class Database:
    """A database of one test's own."""

    server: EmbeddedServer
    major: int
    name: str
    _open: list[Connection] = field(default_factory=list)
    _siblings: "list[Database]" = field(default_factory=list)

    @property
    def dsn(self) -> str:
        """For `psycopg.connect` and libpq: this database, as the superuser."""
        return self.server.dsn(self.name)

    def dsn_as(self, role: str) -> str:
        """The same as another role."""
        return make_conninfo(self.dsn, user=role)

    def connect(self, *, user: str | None = None, autocommit: bool = True, **options: Any) -> Connection:
        """A connection that is closed at the end of the test."""
        dsn = self.dsn if user is None else self.dsn_as(user)
        connection: Connection = psycopg.connect(dsn, autocommit=autocommit, **options)
        self._open.append(connection)
        return connection

    def run(self, *statements: str) -> None:
        """Execute statements, each committed by itself."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()

    def another(self) -> "Database":
        """One more fresh database on the same server, gone after the test as well."""
        sibling = _create_database(self.server, self.major, f"{self.name[:48]}_{len(self._siblings) + 2}")
        self._siblings.append(sibling)
        return sibling


@pytest.fixture(scope="session")
def _session_folder() -> Iterator[Path]:
    _sweep_after_killed_runs()
    folder = new_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(_session_folder: Path) -> Iterator[Callable[[int], EmbeddedServer]]:
    started: dict[int, EmbeddedServer] = {}

    def server_of(major: int) -> EmbeddedServer:
        if major not in started:
            started[major] = EmbeddedServer(_session_folder / str(major), major=major, settings=_TEST_SETTINGS)
        started[major].start()  # again, should the test before have ended it
        return started[major]

    yield server_of
    for server in started.values():
        server.discard()


@pytest.fixture
def fresh_database(
    servers: Callable[[int], EmbeddedServer], request: pytest.FixtureRequest
) -> Callable[[int], contextlib.AbstractContextManager[Database]]:
    return lambda major: _database_while(servers(major), major, request.node.name)


@pytest.fixture
def _new_database(
    fresh_database: Callable[[int], contextlib.AbstractContextManager[Database]],
) -> Iterator[Callable[[int], Database]]:
    with contextlib.ExitStack() as undo:
        yield lambda major: undo.enter_context(fresh_database(major))


@pytest.fixture(params=[16, 18], ids=["pg16", "pg18"])
def pg(request: pytest.FixtureRequest, _new_database: Callable[[int], Database]) -> Database:
    """A fresh database, on each supported PostgreSQL in turn."""
    return _new_database(request.param)


@pytest.fixture
def pg16(_new_database: Callable[[int], Database]) -> Database:
    """A fresh database on the oldest supported PostgreSQL."""
    return _new_database(16)


@pytest.fixture
def pg18(_new_database: Callable[[int], Database]) -> Database:
    """A fresh database on the newest supported PostgreSQL."""
    return _new_database(18)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that the server's account can enter; a server left in it is killed."""
    folder = new_folder()
    yield folder
    _remove_with_servers(folder)


@pytest.fixture
def own_server(open_folder: Path) -> NewServer:
    """Makes a server, not yet started, that no other test uses: `own_server(major=16, settings={…})`."""
    numbers = count(1)

    def new_server(*, major: int = 18, settings: dict[str, str] | None = None) -> EmbeddedServer:
        folder = open_folder / f"server{next(numbers)}"
        return EmbeddedServer(folder, major=major, settings={**_TEST_SETTINGS, **(settings or {})})

    return new_server


@contextlib.contextmanager
def _database_while(server: EmbeddedServer, major: int, test: str) -> Iterator[Database]:
    readable = re.sub(r"\W+", "_", test.removeprefix("test_"))[:40]
    database = _create_database(server, major, f"{readable}_{next(_numbers)}")
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        roles_before = _roles(admin)
    try:
        yield database
    finally:
        server.start()
        _clean_up(database, roles_before)


_numbers = count(1)


def _create_database(server: EmbeddedServer, major: int, name: str) -> Database:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(name)))
    return Database(server, major, name)


def _roles(admin: Connection) -> set[str]:
    return {name for (name,) in admin.execute("SELECT rolname FROM pg_roles")}


def _clean_up(database: Database, roles_before: set[str]) -> None:
    databases = [database, *database._siblings]
    names = [d.name for d in databases]
    for connection in (c for d in databases for c in d._open):
        with contextlib.suppress(psycopg.Error):
            connection.close()
    # A test may have left commits waiting for a standby that is gone: this session must not wait with them.
    no_wait = "-c synchronous_commit=local -c statement_timeout=60s"
    with psycopg.connect(database.server.dsn(), autocommit=True, options=no_wait) as admin:
        _forget_settings(admin)
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND (datname = ANY (%s) OR backend_type = 'walsender')",
            (names,),
        )
        for name in names:
            _roll_back_prepared(database.server.dsn(name), no_wait, admin, name)
        admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT temporary")
        admin.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")
        for name in names:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            admin.execute(drop)
        new_roles = [sql.Identifier(role) for role in sorted(_roles(admin) - roles_before)]
        if new_roles:
            listed = sql.SQL(", ").join(new_roles)
            admin.execute(sql.SQL("DROP OWNED BY {}").format(listed))
            admin.execute(sql.SQL("DROP ROLE {}").format(listed))


def _forget_settings(admin: Connection) -> None:
    changed = admin.execute("SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%%.auto.conf'").fetchone()
    roles = admin.execute("SELECT count(*) FROM pg_db_role_setting").fetchone()
    if roles is not None and roles[0]:
        admin.execute("ALTER ROLE ALL RESET ALL")
        admin.execute("ALTER ROLE postgres RESET ALL")
    if changed is not None and changed[0]:
        admin.execute("ALTER SYSTEM RESET ALL")
        admin.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if admin.execute("SHOW synchronous_standby_names").fetchone() == ("",):
                return
            time.sleep(0.01)


def _roll_back_prepared(dsn: str, options: str, admin: Connection, database: str) -> None:
    prepared = admin.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (database,)).fetchall()
    if prepared:
        with psycopg.connect(dsn, autocommit=True, options=options) as inside:
            for (gid,) in prepared:
                inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))


def _remove_with_servers(folder: Path) -> None:
    for lock in list(folder.rglob("lock")):
        EmbeddedServer(lock.parent).discard()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep_after_killed_runs() -> None:
    """Servers outlive the process that started them if it is killed; so a killed test run leaves some."""
    for folder in left_behind():
        _remove_with_servers(folder)
