"""A mall for the measurements: shops filled as a set, web processes and the sandbox provider under Granian, wrk as the load."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo

from ballast.mall.migrate import migrate
from ballast.mall.settings import Settings
from ballast.postgres import EmbeddedServer
from bench.setting import Setting, stop

_HERE = Path(__file__).parent
SHOP, PRODUCT, SKU = 1, 6, 16


def made_id(kind: int, number: int) -> UUID:
    """The id that mall.sql gave: of shop n, of product s * 10000 + p, of its first SKU."""
    return UUID(f"{kind:08x}-0000-7000-8000-{number:012x}")


CARDS = 32
"""Gift cards of each measured shop."""


def gift_code(shop: int, number: int) -> str:
    """The code that mall.sql gave to a shop's card, 0 to `CARDS` - 1."""
    return "GFT" + f"{shop * 100 + number:013}".translate(str.maketrans("0123456789", "ABCDEFGHJK"))


@dataclass(frozen=True)
class Sizes:
    """How many shops, of which `measured` have `products` products with three SKUs, the others `elsewhere` with one."""

    shops: int
    measured: int
    products: int
    elsewhere: int


class Mall:
    """A migrated, filled database on a server of its own."""

    def __init__(self, here: Setting, sizes: Sizes, name: str = "mall", **server: str) -> None:
        self.here, self.sizes = here, sizes
        self.server: EmbeddedServer = here.server(
            name, max_wal_size="8GB", checkpoint_timeout="30min", shared_buffers="1GB", **server
        )
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE mall")
        self.dsn = self.server.dsn("mall")
        migrate(self.dsn)
        self.fill(1, sizes.shops)
        self.port, self.sandbox_port = free_port(), free_port()
        self.settings = Settings(
            app_dsn=make_conninfo(self.dsn, user="mall_app"),
            identity_dsn=make_conninfo(self.dsn, user="mall_identity"),
            platform_dsn=make_conninfo(self.dsn, user="mall_platform"),
            owner_dsn=self.dsn,
            unpaid_per_shopper=0,  # thousands order from one address and pay nothing
            unpaid_per_address=0,
            secret=secrets.token_hex(32),
            base_url=f"http://127.0.0.1:{self.port}",
            sandbox_url=f"http://127.0.0.1:{self.sandbox_port}",
            sandbox_file=str(here.folder / f"{name}-sandbox.sqlite"),
            sandbox_delay_s=0.0,
            sandbox_redirect_wait_s=10.0,
            # One address and few shops stand for many here.
            **dict.fromkeys({one for one in Settings.__struct_fields__ if one.endswith("_per_minute")}, 10**9),  # type: ignore[arg-type]
        )

    def fill(self, first: int, last: int) -> None:
        """Shops first … last."""
        values = {
            "first": first,
            "last": last,
            "measured": self.sizes.measured,
            "products": self.sizes.products,
            "elsewhere": self.sizes.elsewhere,
        }
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            client = psycopg.ClientCursor(connection)
            for statement in (_HERE / "mall.sql").read_text().split(";\n"):
                if statement.strip():
                    client.execute(statement, values)  # type: ignore[arg-type]

    def one(self, statement: str) -> Any:
        """The first column of the first row, as the superuser."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None

    @contextlib.contextmanager
    def web(self, workers: int = 2, **changes: Any) -> Any:
        """The mall's web processes; its address."""
        settings = msgspec.structs.replace(self.settings, **changes)
        with serve(self.here, "ballast.mall.web.serve:application", self.port, workers, environment(settings)) as url:
            yield url

    @contextlib.contextmanager
    def sandbox(self) -> Any:
        """The sandbox payment provider; its address."""
        target = "ballast.mall.sandbox.serve:application"
        with serve(self.here, target, self.sandbox_port, 1, environment(self.settings)) as url:
            yield url


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process reads them."""
    given = {f"BALLAST_MALL_{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}
    return {**given, "BALLAST_CONFIG": "/nowhere"}


@contextlib.contextmanager
def serve(here: Setting, target: str, port: int, workers: int, more: dict[str, str]) -> Any:
    """Granian with `workers` processes of one thread, ended afterwards; the address."""
    command = [
        sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--workers", str(workers), "--no-ws",
        "--loop", "uvloop", "--http", "1", "--host", "127.0.0.1", "--port", str(port), target,
    ]  # fmt: skip
    log = here.folder / f"web-{port}.log"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | more
    with log.open("ab") as output:
        child = subprocess.Popen(command, env=environ, stdout=output, stderr=output, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if child.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{target} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(child)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Load:
    """What wrk found. Answers that were no 2xx or 3xx are `bad`."""

    per_second: float
    p50_ms: float
    p99_ms: float
    bad: int
    transferred: int
    answers: int


def wrk(url: str, seconds: float, connections: int, script: str, here: Setting, threads: int = 1) -> Load:
    """Load by wrk, with a Lua script."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is missing, which makes the load: apt-get install wrk")
    path = here.folder / "load.lua"
    path.write_text(script + _REPORT)
    done = subprocess.run(
        [program, "-t", str(threads), "-c", str(connections), "-d", f"{seconds:.0f}s", "-s", str(path), url],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    found = re.search(r"FOUND (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None:
        raise SystemExit(f"wrk said nothing that can be read:\n{done.stdout}\n{done.stderr}")
    answers, duration_us, size, status, sockets, p50, p99 = (int(one) for one in found.groups())
    if not answers:
        raise SystemExit(f"nothing was answered:\n{done.stdout}")
    return Load(
        (answers - status) / duration_us * 1e6, p50 / 1e3, p99 / 1e3, status + sockets, size // answers, answers
    )


_REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("FOUND %d %d %d %d %d %d %d\\n", summary.requests, summary.duration, summary.bytes, e.status,
    e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
