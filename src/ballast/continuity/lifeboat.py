"""The lifeboat: a server of this machine alone, rebuilt from the vault, where shops are while their database is away.

It is a cache: what must last is in the intake before it is in here, so the server does not sync. It waits for a loss with the
structure built, and with some tenants as they were a while ago, for the case that the vault is away as well; launched it is open
as soon as the shared rows of the moment stand, and a tenant is in it when it was first asked for
(`SELECT ballast.ensure_tenant('…')` in any session, or `fetch`). At its end it is thrown away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
from psycopg.conninfo import make_conninfo

from ballast.errors import RestoreError
from ballast.postgres import EmbeddedServer
from ballast.recovery import Wish, ensure, recover
from ballast.recovery.aim import Aiming
from ballast.recovery.watcher import Silent
from ballast.vault import Resolved, Vault

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
        self._aiming: Aiming | None = None
        self._running: threading.Thread | None = None
        self._seen = _Seen()
        self._failure: BaseException | None = None

    def make_ready(self) -> None:
        """Start it, empty."""
        self._server.discard()  # what an earlier process left is of an earlier moment
        self._server.start()

    def build(self, vault: Vault, resolved: Resolved, tenants: Iterable[str] = ()) -> None:
        """Ahead of a loss: the structure as of `resolved`, and these tenants. What `recover` raises."""
        self._aim(vault, resolved)
        self._launch(vault, resolved)
        for tenant in tenants:
            self.fetch(tenant)
        self._pause()
        self.built = resolved

    def launch(self, vault: Vault, resolved: Resolved) -> None:
        """Structure and shared rows are as of `resolved`; returns when tenants can be fetched. What `recover` raises."""
        self._aim(vault, resolved)
        self._launch(vault, resolved)

    def aim_ahead(self, vault: Vault) -> None:
        """A loss was noticed: what does not need its moment, while that is looked for. As `launch` raises."""
        if self.built is not None and self._aiming is None:
            self._aiming = Aiming.begin(vault, self._server.dsn())

    def take_as_it_is(self) -> Resolved:
        """The vault is away: whoever is in it is served as of the moment that it was built for, which is returned."""
        if self.built is None:
            raise RestoreError("this lifeboat was not built ahead", "Launch it.")
        self._leave_aim()
        self._seen.is_open = True
        return self.built

    def _aim(self, vault: Vault, resolved: Resolved) -> None:
        """What was built ahead becomes one of that moment; or the server is made anew."""
        self.aim_ahead(vault)
        aiming, self._aiming = self._aiming, None
        is_aimed = aiming is not None and aiming.at(resolved)
        if self.built is not None and not is_aimed:
            self.built = None
            self.make_ready()
        self.built = None
        target = aiming.target if aiming is not None and is_aimed else None
        self._wish = msgspec.structs.replace(self._wish, target=target)

    def _leave_aim(self) -> None:
        aiming, self._aiming = self._aiming, None
        if aiming is not None:
            aiming.leave()

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
        self._running, self._seen = None, _Seen()
        self._wish = Wish(jobs=self._jobs, settings=self._settings, asked_only=threading.Event(), reads_back=False)

    def resume(self, vault: Vault, resolved: Resolved) -> None:
        """Go on with the one that an earlier process launched as of `resolved`, with all that is in it. As `launch` raises."""
        self._server.start()
        self._launch(vault, resolved)

    def resume_as_it_is(self) -> None:
        """The same while the vault is away: nobody can come into it until `go_on`. ServerError."""
        self._server.start()
        self._seen.is_open = True

    @property
    def is_alone(self) -> bool:
        """Whether it was resumed without the vault."""
        return self._running is None and self.built is None and self._seen.is_open

    def go_on(self, vault: Vault, resolved: Resolved) -> None:
        """The vault is back: as `resume`, and who is in it is served meanwhile. As `launch` raises."""
        self._launch(vault, resolved, going_on=True)

    def dsn(self, role: str = "") -> str:
        """Where it is, as `role`; default: its superuser."""
        return make_conninfo(self._server.dsn(), **({"user": role} if role else {}))

    def fetch(self, tenant: str, timeout_s: float = 10.0) -> bool:
        """Returns when this tenant is in it; False: the record has no such tenant."""
        self._refuse_failed()
        return ensure(self._server.dsn(), tenant, timeout_s=timeout_s)

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
        self._leave_aim()
        self._server.discard()
        if self._running is not None:
            self._running.join(_ENDS_S)  # one that reads from a store that hangs ends with that

    def _sail(self, vault: Vault, resolved: Resolved, seen: _Seen) -> None:
        try:
            recover(vault, resolved, self._server.dsn(), self._wish, seen)
        except BaseException as failure:
            self._failure = failure
        finally:
            seen.turned.set()

    def _refuse_failed(self) -> None:
        if self._failure is not None:
            raise RestoreError(f"the lifeboat is lost: {self._failure}", "Launch another.") from self._failure


class _Seen(Silent):
    """Sees it open."""

    def __init__(self) -> None:
        self.turned = threading.Event()
        self.is_open = False

    def opened(self) -> None:
        """Tenants can be fetched."""
        self.is_open = True
        self.turned.set()
