"""`ballast up` as its owner has it: one command, real parts, each of them killed, the whole stopped, killed and started again.

The tests of this file share a folder and follow one another; each brings the platform up first if it finds it down, so that any of
them runs alone as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import pytest

from ballast.continuity.board import Board
from ballast.continuity.helm import BOARD
from ballast.postgres import EmbeddedServer
from ballast.supervise import Note, PartNote, look
from ballast.supervise.processes import left_of
from ballast.up.platform import mall_settings
from tests.fix_mall import MallDatabase, Shop, open_a_shop
from tests.folders import a_folder
from tests.integration.mall.shopping import Shopper

ALL = ["server", "prepare", "recorder", "sentinel", "sandbox", "worker", "web"]


class Up:
    """A platform in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.sandbox_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = EmbeddedServer(folder / "server")
        self.database = MallDatabase(self.server.dsn("mall"))
        self.process: subprocess.Popen[bytes] | None = None
        self.shop: Shop | None = None

    def command(self, *more: str) -> list[str]:
        ports = ["--port", str(self.port), "--sandbox-port", str(self.sandbox_port)]
        return [sys.executable, "-m", "ballast.cli", "up", "--folder", str(self.folder), *ports, *more]

    def ensure(self) -> None:
        """It runs, all parts are there, and so is everybody: also where the test before ended in the middle."""
        if self.process is None or self.process.poll() is not None:
            with (self.folder / "console").open("wb") as console:
                # A script's background job would ignore SIGINT, and whoever inherits that.
                self.process = subprocess.Popen(
                    self.command(), stdout=console, stderr=console, start_new_session=True, cwd="/"
                )
        self.until(lambda: self.note().all_up, "all parts to be up")
        self.until(self.all_are_home, "everybody to be home")

    def said(self) -> str:
        """The console."""
        return (self.folder / "console").read_text()

    def note(self) -> Note:
        return look(self.folder) or Note(0, "", False, (PartNote("none", "", "", None, 0, "", "", ""),))

    def part(self, name: str) -> PartNote:
        return next(part for part in self.note().parts if part.name == name)

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            ended = None if self.process is None else self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"waited for {what} (exit code {ended}); it said:\n{self.said()}")
            time.sleep(0.05)

    def kill_part(self, name: str) -> None:
        """SIGKILL to a part, and until it is there again."""
        before = self.part(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        self.until(lambda: self.part(name).restarts > before.restarts and self.note().all_up, f"{name} to be back")
        assert self.part(name).ended == "was ended by SIGKILL"

    def family(self) -> list[psutil.Process]:
        """Every process of it, the server's too."""
        family = left_of(self.folder)
        if self.server.pid is not None:
            server = psutil.Process(self.server.pid)
            family += [server, *server.children(recursive=True)]
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                family.append(psutil.Process(self.process.pid))
        return family

    def stop(self, *signals: int) -> int:
        """Told to end; its exit code."""
        assert self.process is not None
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(60)

    def discard(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in left_of(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for boat in (self.folder / "continuity" / "lifeboat").glob("*"):
            EmbeddedServer(boat).discard()
        self.server.discard()

    def all_are_home(self) -> bool:
        """Nobody is in the lifeboat."""
        return Board(self.folder / "continuity" / BOARD).course().mode == "home"

    def order(self) -> str:
        """Somebody buys in the shop; the order's page."""
        if self.shop is None:
            self.shop = open_a_shop(self.database, "lin", products=1)
        with httpx.Client(base_url=self.url, timeout=20) as client:
            placed = Shopper(client, self.shop).order(self.shop)  # type: ignore[arg-type]
            return str(placed.headers["location"])

    def orders(self) -> int:
        return int(self.database.run("SELECT count(*) FROM mall.orders")[0][0])


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with a_folder() as folder:
        running = Up(folder / "data")
        running.folder.mkdir(mode=0o755)
        try:
            yield running
        finally:
            running.discard()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _status(up: Up, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ballast.cli", *command], capture_output=True, text=True, timeout=60, check=False
    )


def test_one_command_and_there_is_a_protected_platform(up: Up) -> None:
    up.ensure()
    assert [part.name for part in up.note().parts] == ALL
    up.until(lambda: "Ctrl-C stops all of it" in up.said(), "the addresses to be told")
    link = re.search(rf"{up.url}/link/\S+", up.said())
    assert link is not None, up.said()
    assert httpx.get(link[0]).status_code == 200
    up.order()
    shown = httpx.get(f"{up.url}/s/lin/")
    assert (shown.status_code, "商品0" in shown.text) == (200, True)
    told = _status(up, "status", "--config", str(up.folder / "ballast.toml"))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "undeclared" not in told.stdout
    told = _status(up, "up", "--folder", str(up.folder), "--status")
    assert (told.returncode, "all parts are up" in told.stdout) == (0, True)


def test_nobody_else_may_read_the_secrets_and_no_log_tells_them(up: Up) -> None:
    up.ensure()
    assert (up.folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    secrets = re.findall(r'"([0-9a-f]{64})"', (up.folder / "secrets.json").read_text())
    assert len(secrets) == 4  # the fifth is meant to be shown
    for file in [up.folder / "console", up.folder / "ballast.toml", *(up.folder / "logs").iterdir()]:
        assert not [secret for secret in secrets if secret in file.read_text()], file


def test_commands_beside_it_find_its_database(up: Up) -> None:
    up.ensure()
    found = mall_settings(up.folder / "ballast.toml")
    assert (found.base_url, found.sandbox_url) == (up.url, f"http://127.0.0.1:{up.sandbox_port}")
    with psycopg.connect(found.app_dsn) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == ("mall_app", "mall")


def test_a_second_one_and_a_taken_port_are_refused_before_anything_starts(up: Up) -> None:
    up.ensure()
    second = _status(up, *up.command()[3:])
    assert second.returncode == 1
    assert f"process {up.note().pid}" in second.stderr
    elsewhere = up.folder.parent / "elsewhere"
    taken = _status(up, "up", "--folder", str(elsewhere), "--port", str(up.port), "--sandbox-port", "0")
    assert taken.returncode == 1
    assert f"127.0.0.1:{up.port}" in taken.stderr
    assert not (elsewhere / "server").exists()


@pytest.mark.parametrize("name", ["web", "worker", "recorder", "sandbox", "server"])
def test_a_part_that_is_killed_is_back(up: Up, name: str) -> None:
    up.ensure()
    up.kill_part(name)
    assert httpx.get(f"{up.url}/healthz", timeout=20).status_code == 200
    before = up.orders()
    up.order()  # its commit waits for the recorder
    assert up.orders() == before + 1


def test_when_the_server_itself_is_killed_another_takes_its_place(up: Up) -> None:
    up.ensure()
    up.order()
    before, postmaster = up.orders(), up.server.pid
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)

    def is_another() -> bool:
        """Its number is there long before it serves. (A part that has just begun starts it once more by itself.)"""
        if up.server.pid in (None, postmaster):
            return False
        with contextlib.suppress(psycopg.Error):
            return up.orders() == before
        return False

    up.until(is_another, "another server")
    up.until(lambda: up.note().all_up, "all parts to be up")

    def ordered() -> str:
        with contextlib.suppress(AssertionError):  # 503: a process finds its connections broken when it uses them
            return up.order()
        return ""

    up.until(ordered, "an order to be taken again, in the lifeboat or at home")
    up.until(lambda: up.all_are_home() and up.orders() == before + 1, "everybody to be home")
    up.until(
        lambda: _status(up, "status", "--config", str(up.folder / "ballast.toml")).returncode == 0,
        "the recorder to have caught up",
    )


def test_a_worker_that_is_killed_in_the_middle_of_a_job_leaves_nothing_undone_for_ever(up: Up) -> None:
    up.ensure()
    up.order()
    expiring = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND objid::bigint = hashtext('mall.expire')::oid::bigint"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE usename = 'mall_app' AND wait_event_type = 'Lock'"
    with psycopg.connect(up.database.dsn) as somebody:
        somebody.execute("UPDATE mall.orders SET pay_by = now() - interval '1 hour' WHERE status = 'pending_payment'")
        somebody.commit()
        somebody.execute("SELECT FROM mall.orders FOR UPDATE")  # the job waits for it
        up.until(lambda: up.database.run(expiring) and up.database.run(waiting), "the job to be begun")
        up.kill_part("worker")
    left = "SELECT count(*) FROM mall.orders WHERE status = 'pending_payment'"
    up.until(lambda: up.database.run(left) == [(0,)], "the orders to be cancelled by the next worker", 40)
    up.until(lambda: httpx.get(f"{up.url}/healthz/worker").status_code == 200, "the worker to be well")


def test_where_nothing_happens_nothing_is_written(up: Up) -> None:
    up.ensure()
    up.until(lambda: httpx.get(f"{up.url}/healthz/worker").status_code == 200, "the worker to be at work")
    written = (
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::integer FROM pg_stat_user_tables WHERE schemaname <> 'ballast'"
    )

    def settled() -> bool:
        """Six seconds in which no row was written, of any table of the platform: all that is done often was done."""
        before = up.database.run(written)
        time.sleep(6)
        return up.database.run(written) == before

    up.until(settled, "six seconds without a row written")


def test_killed_itself_it_takes_all_along_and_starts_again(up: Up) -> None:
    up.ensure()
    up.order()
    before, server = up.orders(), up.server.pid
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + 20
    while left_of(up.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_of(up.folder) == []
    assert up.server.pid == server  # it lives on, unharmed
    up.ensure()
    assert up.server.pid == server
    assert up.orders() == before


def test_told_to_end_it_leaves_nothing_running_and_everything_there(up: Up) -> None:
    up.ensure()
    up.order()
    before, family = up.orders(), up.family()
    assert len(family) > len(ALL)

    assert up.stop() == 0

    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert left_of(up.folder) == []
    told = _status(up, "up", "--folder", str(up.folder), "--status")
    assert (told.returncode, "nothing runs" in told.stderr) == (1, True)

    # Started with its server's data gone it does not begin anew with an empty one: all of it comes back.
    (up.folder / "server").rename(up.folder / "away")
    up.ensure()
    up.until(up.all_are_home, "everybody to be home")
    assert up.orders() == before, up.said()[-9000:]
    up.order()
    assert up.orders() == before + 1


def test_told_twice_it_ends_at_once_and_loses_nothing(up: Up) -> None:
    up.ensure()
    up.order()
    before, family = up.orders(), up.family()

    assert up.stop(signal.SIGINT, signal.SIGINT) == 0

    assert psutil.wait_procs(family, timeout=10)[1] == []
    with up.server:
        assert up.orders() == before
