"""A platform at sea: real server, recorder and sentinel, shoppers who order all the while, and what may befall them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg

from ballast.continuity import health, incident, roles
from ballast.continuity.board import Board
from ballast.continuity.course import Course
from ballast.continuity.entries import Closed, Offered
from ballast.continuity.helm import BOARD, INTAKE, sign_of_error
from ballast.continuity.intake import Intake
from ballast.continuity.settings import LEAST_LIFEBOAT_BYTES
from ballast.continuity.signs import Sign
from ballast.postgres import EmbeddedServer
from ballast.supervise import look
from ballast.supervise.processes import left_of
from ballast.vault import config
from ballast.vault.config import Config, Record, Tenants
from ballast.vault.protect import protect
from tests.fix_protected import Silent
from tests.integration.continuity import small_shop
from tests.integration.continuity.small_shop import SHOPS

ROOT = Path(__file__).parents[3]
_HANDLER = "tests.integration.continuity.small_shop:take_in"


class Sea:
    """One platform, through all that happens to it."""

    def __init__(self, folder: Path, *, automatic: str = "true", vault: str = "", ours: bool = True) -> None:
        """`ours`: the server is one that the platform makes and keeps running; else it is somebody else's, who keeps it so."""
        self.folder, self.sea, self.ours = folder, folder / "continuity", ours
        self.server = EmbeddedServer(folder / "server", settings={"fsync": "off"})
        self.another = EmbeddedServer(folder / "another", settings={"fsync": "off"})
        """That somebody may start."""
        self.process: subprocess.Popen[bytes] | None = None
        self.board = Board(self.sea / BOARD)
        with self.server:
            with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE shops")
            self.dsn = self.server.dsn("shops")
            with psycopg.connect(self.dsn, autocommit=True) as conn:
                for statement in small_shop.TABLES:
                    conn.execute(statement.encode())
                self.verifier = conn.pgconn.encrypt_password(b"secret", b"app", b"scram-sha-256").decode()
                conn.execute(f"CREATE ROLE app LOGIN PASSWORD '{self.verifier}'".encode())
                conn.execute("GRANT SELECT ON shop TO app")
            settings = Config(
                dsn=self.dsn, vault=vault or str(folder / "vault"), state_dir=folder / "state",
                tenants=Tenants(column="tenant", shared=("public.country",)), record=Record(seal_after_s=2.0),
            )  # fmt: skip
            protect(settings, self.config_path, self.dsn, Silent())
        roles.keep(self.sea, {"app": self.verifier, "gone": self.verifier})
        self.settle(automatic)
        if not ours:
            self.server.start()

    @property
    def config_path(self) -> Path:
        return self.folder / "ballast.toml"

    def settle(self, automatic: str) -> None:
        """The settings of continuity."""
        config.write(config.load(self.config_path), self.config_path)
        text = self.config_path.read_text().partition("\n[continuity]")[0]
        self.config_path.write_text(
            f"{text}\n[continuity]\nhandler = {_HANDLER!r}\nprobe = {small_shop.PROBE!r}\n"
            f"lifeboat_bytes = {LEAST_LIFEBOAT_BYTES}\n"
            + (f"\n[recovery]\nautomatic = {automatic}\n" if automatic else "")
        )

    # Running

    def start(self) -> None:
        with (self.folder / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.continuity.running", str(self.folder), *([] if self.ours else ["not ours"])],
                stdout=console, stderr=console, cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
            )  # fmt: skip

    def ensure(self) -> None:
        """It runs, and everybody is at home."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.until(lambda: (note := look(self.folder)) is not None and note.all_up, "all parts to be up")
        self.until(lambda: self.course.mode == "home", "everybody to be at home")
        self.until(
            lambda: self.health.seen_true and self.health.lifeboat == "ready" and not self.health.vault_away,
            "the lifeboat to be ready",
        )

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(60) == 0, self.said()

    def discard(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in left_of(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for boat in (self.sea / "lifeboat").glob("*"):
            EmbeddedServer(boat).discard()
        self.server.discard()
        self.another.discard()

    def said(self) -> str:
        """The end of the console."""
        return (self.folder / "console").read_text()[-6000:]

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s:g} s for {what}; {self.course}; {self.health}\n{self.said()}")
            time.sleep(0.05)

    # Looking

    @property
    def course(self) -> Course:
        return self.board.course()

    @property
    def health(self) -> health.SentinelHealth:
        found = health.sentinel(self.sea)
        return found if found is not None else health.SentinelHealth(0, "", "")

    @property
    def decided(self) -> str:
        """What the sentinel decided lately."""
        return "\n".join(decision.what for decision in self.health.decisions)

    @property
    def identifier(self) -> str:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            row = conn.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
        assert row is not None
        return str(row[0])

    @property
    def kept(self) -> list[Path]:
        """Data of lost servers."""
        return sorted((self.folder / "server").glob("lost-*"))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return conn.execute(statement.encode()).fetchall()

    # What befalls

    def lose_files(self, *, kill: bool = True) -> None:
        """The data folder is removed; the server is killed, or lives on without it."""
        pid = self.server.pid
        assert pid is not None
        if kill:
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["rm", "-rf", str(self.server.pgdata)], check=False)
        subprocess.run(["rm", "-rf", str(self.server.pgdata)], check=True)

    def lose_rows(self, between: Callable[[], object] = lambda: time.sleep(0.7)) -> None:
        """Everything is deleted, table by table, while others go on; a table that somebody adds to meanwhile once more."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("DELETE FROM note")  # of one shop alone
            between()
            conn.execute("DELETE FROM orders")
            between()
            conn.execute("DELETE FROM stock")
            for _ in range(100):
                with contextlib.suppress(psycopg.errors.ForeignKeyViolation):
                    for table in ("orders", "stock", "shop"):
                        conn.execute(f"DELETE FROM {table}".encode())
                    return
        raise AssertionError("the shops cannot be deleted")

    def lose_rows_at_once(self) -> None:
        """Everything is deleted in one transaction, while nobody else can do anything."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute("LOCK TABLE shop, stock, orders, note IN ACCESS EXCLUSIVE MODE")
            for table in ("note", "orders", "stock", "shop"):
                conn.execute(f"DELETE FROM {table}".encode())

    def lose_shop(self, shop: str) -> None:
        """One shop alone is deleted, at once, while nobody orders."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            for table in ("orders", "stock", "shop"):
                conn.execute(f"DELETE FROM {table} WHERE tenant = %s".encode(), (shop,))

    def lose_shop_by_table(self, shop: str, between: Callable[[], object]) -> None:
        """The same, each table in a transaction of its own, that of the orders again with the last."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("DELETE FROM orders WHERE tenant = %s", (shop,))
            between()
            conn.execute("DELETE FROM stock WHERE tenant = %s", (shop,))
            conn.execute("DELETE FROM orders WHERE tenant = %s", (shop,))
            conn.execute("DELETE FROM shop WHERE tenant = %s", (shop,))

    def processes(self, module: str) -> list[int]:
        """Those that run this module."""
        found = []
        for process in left_of(self.folder):
            with contextlib.suppress(psutil.Error):
                if any(word == module for word in process.cmdline()):
                    found.append(process.pid)
        return found

    def kill(self, module: str) -> bool:
        """SIGKILL to the process that runs this module; whether there was one."""
        found = self.processes(module)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def kill_lifeboats(self) -> None:
        """SIGKILL to their servers."""
        for boat in (self.sea / "lifeboat").iterdir():
            if (pid := EmbeddedServer(boat).pid) is not None:
                os.kill(pid, signal.SIGKILL)

    def came_home(self, after: int) -> None:
        """Until a loss that was noticed after the course `after` is over."""
        self.until(lambda: self.course.mode == "home" and self.course.number > after, "everybody to be home")
        for decision in self.health.decisions:
            print(decision.at[14:23], decision.what)


class Shoppers:
    """They order in all shops, at home or in the lifeboat, as a process of the application does."""

    def __init__(self, sea: Sea, count: int = 1, shops: tuple[str, ...] = SHOPS) -> None:
        self._sea, self._shops = sea, shops
        self._stop = threading.Event()
        self._name = f"{random.getrandbits(40):x}"
        self.acknowledged: dict[tuple[str, str], str] = {}
        """Shop and key → where."""
        self.paid: set[tuple[str, str]] = set()
        """Of them, those that were paid at home."""
        self.longest_s = 0.0
        """Between two orders, of anybody."""
        self._last = time.monotonic()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> Shoppers:
        self._last = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def taken(self, where: str) -> int:
        """How many orders were taken there."""
        return sum(place == where for place in list(self.acknowledged.values()))

    def _run(self, number: int) -> None:
        intake = Intake(self._sea.sea / INTAKE, reserve_bytes=0)
        for n in itertools.count():
            if self._stop.is_set():
                break
            shop, key = self._shops[(n + number) % len(self._shops)], f"{self._name}-{number}-{n}"
            while not self._stop.is_set():
                where = self._order(intake, shop, key)
                if where:
                    self.acknowledged[shop, key] = where
                    now = time.monotonic()
                    self.longest_s, self._last = max(self.longest_s, now - self._last), now
                    break
                time.sleep(0.02)
            time.sleep(0.08)  # orders enough, and each is a connection of its own
        intake.close()

    def _order(self, intake: Intake, shop: str, key: str) -> str:
        """Where it was taken; "": not at all, as far as the shopper knows."""
        course = self._sea.course
        place = course.place(shop)
        try:
            if place == "home":
                with psycopg.connect(self._sea.dsn, connect_timeout=2, options="-c statement_timeout=4s") as conn:
                    ensure(conn, shop)
                    small_shop.order(conn, shop, key)
                    conn.commit()
                    with contextlib.suppress(psycopg.Error):
                        is_there = small_shop.pay(conn, shop, key)
                        conn.commit()
                        if is_there:
                            self.paid.add((shop, key))
            elif place == "lifeboat":
                self._sea.board.ring(f"visited {shop}")
                with psycopg.connect(course.lifeboat, connect_timeout=2) as conn:
                    ensure(conn, shop)
                    small_shop.order(conn, shop, key)
                    intake.take([Offered(shop, f"order:{key}", "order", {"key": key}, datetime.now(UTC))])
        except psycopg.errors.ForeignKeyViolation:
            self._sea.board.ring(f"empty {shop}")
            return ""
        except psycopg.Error as error:
            sign = sign_of_error(error)
            if place == "home" and sign not in (Sign.NONE, Sign.SLOW):
                self._sea.board.ring(f"lost {sign}")
            return ""
        except Closed:
            return ""
        return place if place != "nowhere" else ""


def ensure(conn: psycopg.Connection[Any], shop: str) -> None:
    """As an application that knows of recovery: it waits for its shop."""
    there = conn.execute("SELECT to_regprocedure('ballast.ensure_tenant(text, interval)') IS NOT NULL").fetchone()
    if there == (True,):
        conn.execute("SELECT ballast.ensure_tenant(%s, interval '3 seconds')", (shop,))


def nothing_is_lost(sea: Sea, shoppers: Shoppers) -> None:
    """Every acknowledged order is there once, and took one piece; nothing is left to be done."""
    assert shoppers.acknowledged
    sea.until(lambda: not Intake(sea.sea / INTAKE, reserve_bytes=0).entries(), "the intake to be empty")
    there = Counter((tenant, key) for tenant, key in sea.query("SELECT tenant, key FROM orders"))
    missing = [(*at, where) for at, where in shoppers.acknowledged.items() if at not in there]
    assert not missing, (len(missing), len(shoppers.acknowledged), missing[:10])
    assert sea.query("SELECT count(*) FROM note") == [(2,)]
    paid = {(tenant, key): times for tenant, key, times in sea.query("SELECT tenant, key, paid FROM orders")}
    assert not [at for at in shoppers.paid if paid[at] != 1]
    for tenant, orders, left in sea.query(
        "SELECT tenant, (SELECT count(*) FROM orders o WHERE o.tenant = s.tenant AND body = 'new'), left_over FROM stock s"
    ):
        assert orders + left == 100000, tenant
    assert incident.read(sea.sea) is None
    assert sea.health.refused == 0
