"""The platform of a replay: `ballast up` in a folder of its own, filled with shops, ended without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psycopg

from ballast.continuity.board import Board
from ballast.errors import BallastError
from ballast.postgres import EmbeddedServer
from ballast.supervise import Note, look
from ballast.supervise.processes import PARENT, end_left
from ballast.up.platform import DATABASE

PASSWORD = "replay-of-2020"  # noqa: S105 - of play accounts, in a folder that is removed
PRODUCTS, ORDERS, PICTURES = 8, 4, 12
"""Of a seeded shop: little, so that 300 of them are made soon. Pictures: so many shops have some."""
_PORT = 8000
_UP_S, _SEED_S, _STOP_S = 120.0, 300.0, 60.0
_POLL_S = 0.1
_SHOPS = "SELECT slug FROM mall.directory ORDER BY slug"


class StageError(BallastError):
    """The platform of the replay could not be set up."""


class Stage:
    """Set up by `open`, and gone at the end of the `with` block, whatever happened in it."""

    def __init__(self, port: int | None, *, keep: bool) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ballast-replay-"))
        self.home.chmod(0o755)  # the server's account passes through
        self.folder = Path(os.path.realpath(self.home / "platform"))
        self.port, self.sandbox_port = ports(port)
        self.base = f"http://127.0.0.1:{self.port}"
        self.server = EmbeddedServer(self.folder / "server")
        self.board = Board(self.folder / "continuity" / "board")
        self._keep = keep
        self._up: subprocess.Popen[bytes] | None = None
        self._seeding: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        """The platform's settings."""
        return self.folder / "ballast.toml"

    @property
    def console(self) -> Path:
        """What `ballast up` has said."""
        return self.home / "up.log"

    @property
    def dsn(self) -> str:
        """The platform's database, as its owner."""
        return self.server.dsn(DATABASE)

    def note(self) -> Note | None:
        """How its parts are; None: it does not run."""
        return look(self.folder)

    def start(self) -> None:
        """Start it; `is_up` tells when it can be used."""
        with self.console.open("wb") as console:
            self._up = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ballast.vault.lifeline", "ballast.cli", "up"),
                    *("--folder", str(self.folder), "--port", str(self.port)),
                    *("--sandbox-port", str(self.sandbox_port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self.home,
                start_new_session=True,  # a Ctrl-C is ours, and it is ended in order
                env={**os.environ, PARENT: str(os.getpid())},
            )

    def is_up(self) -> bool:
        """All parts are there. StageError where it has ended."""
        self._refuse_ended()
        note = self.note()
        return note is not None and note.all_up

    def seed(self, shops: int, seed: int) -> None:
        """Begin to make shops; `is_seeded` tells when they are there."""
        self._seeding = subprocess.Popen(
            [
                *(sys.executable, "-m", "ballast.vault.lifeline", "ballast.cli", "mall", "seed", "--json"),
                *("--shops", str(shops), "--orders", str(ORDERS), "--products", str(PRODUCTS)),
                *("--pictures", str(PICTURES), "--seed", str(max(seed, 1)), "--config", str(self.config)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.home / "seed.json").open("wb"),
            stderr=(self.home / "seed.log").open("wb"),
            start_new_session=True,
            env={**os.environ, PARENT: str(os.getpid()), "BALLAST_MALL_SEED_PASSWORD": PASSWORD},
        )

    def is_seeded(self) -> bool:
        """StageError where that failed."""
        self._refuse_ended()
        assert self._seeding is not None
        code = self._seeding.poll()
        if code:
            said = (self.home / "seed.log").read_text(errors="replace")
            raise StageError(f"the shops could not be made ({code}): {said.strip()[-1500:]}", "Look at what it says.")
        return code == 0

    def count_shops(self) -> int:
        """How many there are, while they are made."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.dsn, connect_timeout=2) as connection:
            row = connection.execute("SELECT count(*) FROM mall.idempotency WHERE scope = 'seed'").fetchone()
            return int(row[0]) if row else 0
        return 0

    def slugs(self) -> list[str]:
        """Of all shops."""
        return list(msgspec.json.decode((self.home / "seed.json").read_bytes())["slugs"])

    def _refuse_ended(self) -> None:
        if self._up is None or self._up.poll() is not None:
            said = self.console.read_text(errors="replace") if self.console.exists() else ""
            raise StageError(f"the platform has ended; it said: {said.strip()[-800:]}", f"Look into {self.folder}.")

    def close(self) -> None:
        """End all of it, in order; a second Ctrl-C meanwhile: at once. The folder is removed unless it is to be kept."""
        former = signal.signal(signal.SIGINT, lambda *_: self._tell(signal.SIGINT))
        try:
            for process in (self._seeding, self._up):
                if process is not None:
                    _end(process)
            end_left(self.folder)
            for server in self._servers():
                server.stop() if self._keep else server.discard()
            if not self._keep:
                shutil.rmtree(self.home, ignore_errors=True)
        finally:
            signal.signal(signal.SIGINT, former)

    def _servers(self) -> list[EmbeddedServer]:
        boats = self.folder / "continuity" / "lifeboat"
        return [self.server, EmbeddedServer(boats), *(EmbeddedServer(one.parent) for one in boats.glob("*/pgdata"))]

    def _tell(self, number: int) -> None:
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ports(wanted: int | None) -> tuple[int, int]:
    """Of the pages and of the payment provider: those that are wanted, else 8000 and 8001, else two that are free."""
    if wanted is not None:
        return wanted, wanted + 1
    return (_PORT, _PORT + 1) if is_free(_PORT) and is_free(_PORT + 1) else (_free(), _free())


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True
