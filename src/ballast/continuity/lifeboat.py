"""The lifeboat: a server of this machine alone, rebuilt from the vault, where shops are while their database is away.

It is a cache: what must last is in the intake before it is in here, so the server does not sync. It waits for a loss with the
structure built, in two databases: one in which nobody is, which is launched and is open as soon as the shared rows of the moment
stand, and a tenant is in it when it was first asked for (`SELECT ballast.ensure_tenant('…')` in any session, or `fetch`); and a
copy of it with some tenants as they were a while ago, for the case that the vault is away as well. At its end it is thrown away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo

from ballast.errors import RestoreError
from ballast.postgres import EmbeddedServer
from ballast.recovery import Wish, ensure, recover
from ballast.recovery.aim import aim, structure_of
from ballast.recovery.target import Target
from ballast.recovery.watcher import Silent
from ballast.vault import Resolved, Vault, read_rows, tenants

_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}
_ENDS_S = 30.0
_READ_TO_BE_KEPT = 2
"""What was read so often the vault keeps in memory (`vault.hot`)."""
_MOST_AHEAD_BYTES = 16 << 20
"""More than this is read when it is wanted: it would push out what shops are read from."""
_BARE, _AHEAD, _PASSED = "postgres", "ahead", "passed"
"""Databases: the one that is launched; the copy that is taken as it is; that one when it is not wanted any more."""
_SETTINGS_OF = f"""
SELECT format('ALTER DATABASE {_AHEAD} SET %I TO %L', split_part(one, '=', 1), substr(one, strpos(one, '=') + 1))
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS one
 WHERE d.datname = '{_BARE}' AND s.setrole = 0
"""
"""Those of a database, which a copy of it has not: without them plans would be kept that look past the gate (`recovery.gate`)."""
_IS_COPIED = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)"


class Lifeboat:
    """One server, launched once."""

    def __init__(
        self,
        folder: Path,
        *,
        major: int = 18,
        jobs: int = 2,
        settings: tuple[str, ...] = (),
        nodes: int = 1,
        node: int = 0,
    ) -> None:
        """`nodes`, `node`: how many machines have one, and which of them this is; the application asks for the server's settings
        `ballast.nodes` and `ballast.node`."""
        of_several = {"ballast.nodes": str(nodes), "ballast.node": str(node)} if nodes > 1 else {}
        self._server = EmbeddedServer(folder, major=major, settings={**_SETTINGS, **of_several})
        self._jobs, self._settings = jobs, settings
        self._wish = Wish(jobs=jobs, settings=settings, asked_only=threading.Event(), reads_back=False)
        self.built: Resolved | None = None
        """As of when structure, and whom else it holds, stand in it ahead of a loss."""
        self.outgrown_bytes = 0
        """So much it takes of the disk, where that is more than it may."""
        self._database = _BARE
        self._target: Target | None = None
        """What it has, while it was built ahead."""
        self._running: threading.Thread | None = None
        self._seen = _Seen()
        self._failure: BaseException | None = None

    def make_ready(self) -> None:
        """Start it, empty."""
        self._server.discard()  # what an earlier process left is of an earlier moment
        self._server.start()

    def build(self, vault: Vault, resolved: Resolved, tenants: Iterable[str] = ()) -> None:
        """Ahead of a loss: the structure as of `resolved`, and these tenants. What `recover` raises: what was built before may be
        taken as it is all the same."""
        former, target = self.built, self._target
        try:
            self._aim(vault, resolved)
            self._launch(vault, resolved)
            self._pause()
            self._target = structure_of(vault, resolved, self.dsn())
        except BaseException:
            if former is not None and self._has_copy():
                self._calm()
                self.built, self._target = former, target
            raise
        self._copy()
        self._database = _AHEAD
        try:
            self._launch(vault, resolved)
            for tenant in tenants:
                self.fetch(tenant)
            self._pause()
        finally:
            self._database = _BARE
        self.built = resolved

    def launch(self, vault: Vault, resolved: Resolved) -> None:
        """Structure and shared rows are as of `resolved`; returns when tenants can be fetched. What `recover` raises."""
        self._aim(vault, resolved)
        with self._beside() as conn:
            if _is_copied(conn):  # who resumes it is not to take that for the one that was launched
                conn.execute(f"ALTER DATABASE {_AHEAD} RENAME TO {_PASSED}".encode())
        self._launch(vault, resolved)

    def take_as_it_is(self) -> Resolved:
        """The vault is away: whoever is in it is served as of the moment that it was built for, which is returned."""
        if self.built is None:
            raise RestoreError("this lifeboat was not built ahead", "Launch it.")
        self._database = _AHEAD
        self._seen.is_open = True
        return self.built

    def _aim(self, vault: Vault, resolved: Resolved) -> None:
        """What was built ahead becomes one of that moment; or the server is made anew."""
        target, self._target = self._target, None
        is_built, self.built = self.built is not None, None
        if is_built and not (target is not None and aim(vault, resolved, self.dsn(), target)):
            target = None
            self.make_ready()
        self._wish = msgspec.structs.replace(self._wish, target=target)

    def _copy(self) -> None:
        with self._beside() as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {_AHEAD}".encode())
            conn.execute(f"CREATE DATABASE {_AHEAD} TEMPLATE {_BARE} STRATEGY file_copy".encode())
            for (statement,) in conn.execute(_SETTINGS_OF.encode()).fetchall():
                conn.execute(statement)

    def _has_copy(self) -> bool:
        with suppress(psycopg.Error), self._beside() as conn:
            return _is_copied(conn)
        return False

    def _beside(self) -> psycopg.Connection[Any]:
        """To speak about its databases, which nobody may be in then."""
        return psycopg.connect(self._server.dsn("template1"), autocommit=True)

    def _launch(self, vault: Vault, resolved: Resolved, *, going_on: bool = False) -> None:
        assert self._running is None
        seen = _Seen() if going_on else self._seen  # until that one sees it open, it is as open as it was
        self._running = threading.Thread(target=self._sail, args=(vault, resolved, seen), name="lifeboat", daemon=True)
        self._running.start()
        seen.turned.wait()
        self._seen = seen
        self._refuse_failed()

    def _pause(self) -> None:
        assert self._wish.asked_only is not None
        assert self._running is not None
        self._wish.asked_only.set()
        self._running.join()
        self._refuse_failed()
        self._calm()

    def _calm(self) -> None:
        """As before it was launched."""
        if self._running is not None:
            self._running.join()
        self._running, self._seen, self._failure = None, _Seen(), None
        self._wish = Wish(jobs=self._jobs, settings=self._settings, asked_only=threading.Event(), reads_back=False)

    def resume(self, vault: Vault, resolved: Resolved) -> None:
        """Go on with the one that an earlier process launched as of `resolved`, with all that is in it. As `launch` raises."""
        self._start_again()
        self._launch(vault, resolved)

    def resume_as_it_is(self) -> None:
        """The same while the vault is away: nobody can come into it until `go_on`. ServerError."""
        self._start_again()
        self._seen.is_open = True

    def _start_again(self) -> None:
        self._server.start()
        with self._beside() as conn:
            self._database = _AHEAD if _is_copied(conn) else _BARE

    @property
    def is_alone(self) -> bool:
        """Whether it was resumed without the vault."""
        return self._running is None and self.built is None and self._seen.is_open

    def go_on(self, vault: Vault, resolved: Resolved) -> None:
        """The vault is back: as `resume`, and who is in it is served meanwhile. As `launch` raises."""
        self._launch(vault, resolved, going_on=True)

    def dsn(self, role: str = "") -> str:
        """Where it is, as `role`; default: its superuser."""
        return make_conninfo(self._server.dsn(self._database), **({"user": role} if role else {}))

    def fetch(self, tenant: str, timeout_s: float = 10.0) -> bool:
        """Returns when this tenant is in it; False: the record has no such tenant."""
        self._refuse_failed()
        return ensure(self.dsn(), tenant, timeout_s=timeout_s)

    @property
    def is_afloat(self) -> bool:
        """Whether it is open and tenants can be fetched, and it may go on so."""
        return not self.outgrown_bytes and self._seen.is_open and self._failure is None and self._server.running()

    def leave(self) -> None:
        """Stop it, and keep what is in it for `resume`."""
        self._server.stop("fast", timeout_s=5.0)  # at once it would lose the last commits, which it does not wait for

    def sink(self) -> None:
        """Throw it away."""
        assert self._wish.asked_only is not None
        self._wish.asked_only.set()
        self._server.discard()
        if self._running is not None:
            self._running.join(_ENDS_S)  # one that reads from a store that hangs ends with that

    def _sail(self, vault: Vault, resolved: Resolved, seen: _Seen) -> None:
        try:
            recover(vault, resolved, self.dsn(), self._wish, seen)
        except BaseException as failure:
            self._failure = failure
        finally:
            seen.turned.set()

    def _refuse_failed(self) -> None:
        if self._failure is not None:
            raise RestoreError(f"the lifeboat is lost: {self._failure}", "Launch another.") from self._failure


def read_ahead(vault: Vault, is_wanted: Callable[[], bool]) -> None:
    """What a launch reads first is in memory from now on: who there is, and what all share, with the parts of the record in which
    that stands. Left off when `is_wanted`. StoreError, IntegrityError."""
    newest = vault.resolve(None)
    tenants(vault, newest)
    for _ in range(_READ_TO_BE_KEPT):
        size = 0
        for chunk in read_rows(vault, newest, tenant=None):
            size += len(chunk.buffer)
            if is_wanted() or size > _MOST_AHEAD_BYTES:
                return


def _is_copied(conn: psycopg.Connection[Any]) -> bool:
    return conn.execute(_IS_COPIED, [_AHEAD]).fetchone() == (True,)


class _Seen(Silent):
    """Sees it open."""

    def __init__(self) -> None:
        self.turned = threading.Event()
        self.is_open = False

    def opened(self) -> None:
        """Tenants can be fetched."""
        self.is_open = True
        self.turned.set()
