"""The programs that make the platform, as data: what each needs, how one sees that it is ready, when it stops."""

from __future__ import annotations

import http.client
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ballast.continuity import health as sea_health
from ballast.continuity.board import Board
from ballast.continuity.helm import BOARD
from ballast.mall import settings as mall
from ballast.postgres.postmaster import PidFile, find_postmaster
from ballast.supervise import Part
from ballast.up.platform import Platform, password_of
from ballast.vault import health
from ballast.vault.health import RecorderHealth

HANDLER = "ballast.mall.homecoming:take_in"
PROBE = "SELECT EXISTS (SELECT FROM mall.shop)"
UNDECIDED = """
SELECT d.shop_id, d.key FROM mall.exception_deed d JOIN mall.exception e USING (shop_id, exception_id) WHERE e.settled_at IS NULL
"""
_OTHERS = ("app_dsn", "identity_dsn", "platform_dsn", "owner_dsn")
_AT_ONCE_S = 10.0
"""Shops wait for server, recorder and sentinel: each is started again at once where it lived at least so long."""
_FIRST, _SECOND, _THIRD, _LAST = range(4)
_LOCAL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def parts_of(platform: Platform) -> list[Part]:
    """All of them, in the order in which they start.

    They stop the other way round: the faces first, so that nobody's order is cut off; the worker; the recorder, which seals what
    it holds; the server last."""
    up, ready_file = platform.up, platform.folder / "worker.ready"
    where = ("--config", str(platform.config_path))
    base = {"BALLAST_CONFIG": str(platform.config_path)}
    every = {**base, **mall.to_environ(platform.mall)}
    ours = {**base, **mall.to_environ(platform.mall, without=("owner_dsn",))}
    password = password_of(platform.owner_dsn)
    owner = {"PGPASSWORD": password} if password else {}  # where ballast.toml has the DSN, it is without
    prepare = Part(
        "prepare",
        tied("ballast.up.prepare", *where, "--folder", str(platform.folder)),
        needs=("server",) if platform.embedded else (),
        once=True,
        stops=_THIRD,
        env={**every, **owner, "BALLAST_DSN": platform.owner_dsn},
    )
    sea = platform.sea.continuity
    recording = tied("ballast.vault.recorder", *where)
    if sea.enabled:
        recording = tied("ballast.continuity.holding", *where, "--folder", str(platform.continuity_dir))
    recorder = Part(
        "recorder",
        recording,
        needs=("prepare",),
        ready=Records(platform.vault_config(()).state_dir, platform.continuity_dir if sea.enabled else None),
        stops=_THIRD,
        start_patience_s=3600.0,  # it may have much to catch up with, and says itself what it waits for
        lived_s=_AT_ONCE_S,
        stop_patience_s=330.0,  # it seals what it holds; killed, it would do so at the next start
        env=owner,
    )
    parts = [prepare, recorder]
    if sea.enabled:
        server_folder = ("--server", str(platform.server_dir), "--major", str(up.postgres)) if platform.embedded else ()
        sentinel = Part(
            "sentinel",
            tied(
                "ballast.continuity.sentinel",
                *where,
                *server_folder,
                "--handler",
                HANDLER,
                "--probe",
                PROBE,
                "--undecided",
                UNDECIDED,
            ),
            needs=("prepare",),
            ready=Watches(platform.continuity_dir),
            lived_s=_AT_ONCE_S,
            stops=_SECOND,
            env={**every, **owner},
        )
        parts.append(sentinel)
    if platform.embedded:
        server = Part(
            "server",
            tied("ballast.postgres", str(platform.server_dir), "--major", str(up.postgres)),
            ready=Serves(platform.server_dir / "pgdata"),
            stops=_LAST,
            start_patience_s=600.0,  # after a crash it replays its log
            stop_patience_s=90.0,
            lived_s=_AT_ONCE_S,
            hurry=signal.SIGQUIT,
            quiet=True,
        )
        parts.insert(0, server)
    if up.sandbox_port:
        sandbox = Part(
            "sandbox",
            granian("ballast.up.faces:sandbox", up.sandbox_host, up.sandbox_port, workers=1),
            needs=("prepare",),
            ready=Answers(up.sandbox_host, up.sandbox_port, "/"),
            stops=_FIRST,
            env={**base, **mall.to_environ(platform.mall, without=_OTHERS)},
            address=platform.mall.sandbox_url,
        )
        parts.append(sandbox)
    worker = Part(
        "worker",
        tied("ballast.mall.worker", "--ready", str(ready_file)),
        needs=("recorder",),
        ready=Wrote(ready_file),
        stops=_SECOND,
        env=ours,
    )
    web = Part(
        "web",
        granian("ballast.up.faces:web", up.host, up.port, workers=up.web_workers),
        needs=("recorder",),
        ready=Answers(up.host, up.port, "/healthz", status=200),
        stops=_FIRST,
        env=ours,
        address=platform.mall.base_url,
    )
    return [*parts, worker, web]


def tied(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a module of Python that the kernel ends with the process that started it."""
    return (sys.executable, "-m", "ballast.vault.lifeline", module, *arguments)


def granian(target: str, host: str, port: int, *, workers: int) -> tuple[str, ...]:
    """The command of an ASGI application behind Granian."""
    return tied(
        "granian", "--interface", "asgi", "--factory", "--host", host, "--port", str(port), "--workers", str(workers),
        "--no-ws", "--respawn-failed-workers", "--workers-kill-timeout", "10", target,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answers:
    """Something answers HTTP there; with `status`, that."""

    host: str
    port: int
    path: str
    status: int | None = None

    def __call__(self, pid: int) -> bool:
        """Within half a second."""
        asked = http.client.HTTPConnection(_LOCAL.get(self.host, self.host), self.port, timeout=0.5)
        try:
            asked.request("GET", self.path)
            return self.status in (None, asked.getresponse().status)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asked.close()


@dataclass(frozen=True, slots=True)
class Records:
    """The recorder of this state folder has caught up, and commits wait for it, where they are to and can."""

    state_dir: Path
    continuity_dir: Path | None = None
    """Whose course may say that there is nothing to record just now."""

    def __call__(self, pid: int) -> bool:
        """By its own word, if it is that process's."""
        if self.continuity_dir is not None and Board(self.continuity_dir / BOARD).course().mode != "home":
            return True  # shops are in the lifeboat, and their pages need no recorder
        found = health.read_state(self.state_dir, health.RECORDER_FILE, RecorderHealth)
        if found is None or found.pid != pid or found.state != "recording":
            return False
        return found.armed or found.acknowledge == "off" or bool(found.not_armed_because)


@dataclass(frozen=True, slots=True)
class Watches:
    """The sentinel of this folder looks at home."""

    continuity_dir: Path

    def __call__(self, pid: int) -> bool:
        """By its own word, if it is that process's."""
        found = sea_health.sentinel(self.continuity_dir)
        return found is not None and found.pid == pid


@dataclass(frozen=True, slots=True)
class Serves:
    """The server in this data folder accepts connections."""

    pgdata: Path

    def __call__(self, pid: int) -> bool:
        """By its own word, if its process lives."""
        noted, process = PidFile.read(self.pgdata / "postmaster.pid"), find_postmaster(self.pgdata)
        return noted is not None and noted.ready and process is not None and process.pid == noted.pid


@dataclass(frozen=True, slots=True)
class Wrote:
    """A process has written its number into this file."""

    path: Path

    def __call__(self, pid: int) -> bool:
        """Whether it is that one's."""
        try:
            return self.path.read_text() == str(pid)
        except OSError:
            return False
