"""Home is on another machine, which is silent from one moment to the next, as one that was switched off: nothing is refused, nothing
breaks, and whoever waits for it waits long. Here the other machine is a network namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity.entries import Offered
from ballast.continuity.helm import INTAKE
from ballast.continuity.intake import Intake
from ballast.vault import config
from tests.folders import new_folder
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost
from tests.integration.continuity.small_shop import SHOPS
from tests.integration.continuity.test_refusals import HOWS, writing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another network")

FORWARD = """
import asyncio, sys

async def passed(a, b):
    while data := await a.read(1 << 16):
        b.write(data)
    b.close()

async def serve(near, to_near):
    far, to_far = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(passed(near, to_far), passed(far, to_near), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, sys.argv[1], 5432)
    print("up", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Far:
    """A machine of its own, that leads to a server of this one."""

    def __init__(self, socket: str) -> None:
        number = os.getpid() % 16384
        self.name, near = f"far{number}", f"10.213.{number // 64}.{number % 64 * 4 + 1}"
        self.address = f"10.213.{number // 64}.{number % 64 * 4 + 2}"
        self._near = near
        _ip("netns", "add", self.name)
        _ip("link", "add", f"n{self.name}", "type", "veth", "peer", "name", "far", "netns", self.name)
        _ip("addr", "add", f"{near}/30", "dev", f"n{self.name}")
        _ip("link", "set", f"n{self.name}", "up")
        self._inside("addr", "add", f"{self.address}/30", "dev", "far")
        self._inside("link", "set", "far", "up")
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-c", FORWARD, self.address, socket],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"

    def fall_silent(self) -> None:
        """Nothing of what it sends arrives."""
        self._inside("route", "add", "blackhole", f"{self._near}/32")

    def speak(self) -> None:
        """As before."""
        self._inside("route", "del", "blackhole", f"{self._near}/32")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        _ip("netns", "del", self.name)

    def _inside(self, *said: str) -> None:
        _ip("-n", self.name, *said)


def _ip(*said: str) -> None:
    subprocess.run(["ip", *said], check=True, timeout=20)


@pytest.fixture
def far() -> Iterator[tuple[Sea, Far]]:
    folder = new_folder()
    sea = Sea(folder, automatic="", ours=False)
    here = conninfo_to_dict(sea.dsn)
    machine = Far(f"{here['host']}/.s.PGSQL.{here['port']}")
    settings = config.load(sea.config_path)
    there = make_conninfo(settings.dsn, host=machine.address, port="5432")
    config.write(msgspec.structs.replace(settings, dsn=there), sea.config_path)
    sea.settle("")
    try:
        yield sea, machine
    finally:
        sea.discard()
        machine.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_it_is_left_and_left_again_while_shops_come_home_without_waiting_for_them(far: tuple[Sea, Far]) -> None:
    sea, machine = far
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea) as early:
        sea.until(lambda: early.taken("home") > 10, "orders at home")
        machine.fall_silent()  # whose order is just being committed waits for the recorder
        sea.until(lambda: sea.course.mode == "afloat", "it to be noticed", 30)
        with Shoppers(sea) as late:
            sea.until(lambda: late.taken("lifeboat") > 10, "orders in the lifeboat")
        machine.speak()
        sea.came_home(number)

    read_only, writable = HOWS["database"]
    writing(sea, *read_only)
    sea.until(lambda: sea.course.mode == "afloat", "the second loss to be noticed")
    number = sea.course.number
    now, intake = datetime.now(UTC), Intake(sea.sea / INTAKE, reserve_bytes=0)
    intake.take([Offered(shop, "order:a", "order", {"key": "a"}, now) for shop in SHOPS])
    with psycopg.connect(sea.dsn, options="-c default_transaction_read_only=off") as holder:
        holder.execute("LOCK TABLE orders IN SHARE MODE")  # whoever comes home waits
        writing(sea, *writable)
        sea.until(lambda: intake.closed(), "a shop to be on its way")
        machine.fall_silent()
        sea.until(lambda: "home is lost again" in sea.decided, "that loss to be noticed", 20)
        with Shoppers(sea) as again:
            sea.until(lambda: again.taken("lifeboat") > 20, "orders of those who were on their way", 30)
    machine.speak()
    sea.came_home(number)
    for shoppers in (early, late, again):
        nothing_is_lost(sea, shoppers)
    assert sea.query("SELECT tenant FROM orders WHERE key = 'a' ORDER BY 1") == [(shop,) for shop in SHOPS]
