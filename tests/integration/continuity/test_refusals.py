"""A server that answers and takes no writes: it is left, and gone back to when it takes them again. It is somebody else's, whom
nobody here may stop or make anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ballast.continuity.signs import Sign
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost


@pytest.fixture(scope="module")
def sea() -> Iterator[Sea]:
    folder = Path(tempfile.mkdtemp(prefix="ballast-test-", dir="/tmp"))
    folder.chmod(0o755)
    made = Sea(folder, automatic="", ours=False)
    try:
        yield made
    finally:
        made.discard()
        shutil.rmtree(folder, ignore_errors=True)


def writing(sea: Sea, *statements: str) -> None:
    """As somebody who may write although others may not."""
    with psycopg.connect(sea.dsn, autocommit=True, options="-c default_transaction_read_only=off") as conn:
        for statement in statements:
            conn.execute(statement.encode())


SETTING = "default_transaction_read_only"
HOWS = {
    "server": (
        (f"ALTER SYSTEM SET {SETTING} = on", "SELECT pg_reload_conf()"),
        (f"ALTER SYSTEM RESET {SETTING}", "SELECT pg_reload_conf()"),
    ),
    "database": ((f"ALTER DATABASE shops SET {SETTING} = on",), (f"ALTER DATABASE shops RESET {SETTING}",)),
}


def status(sea: Sea) -> str:
    return subprocess.run(
        [sys.executable, "-m", "ballast.cli", "status", "--config", str(sea.config_path)],
        capture_output=True, text=True, check=False, timeout=60,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
def test_a_server_that_is_set_read_only_is_left_until_it_takes_writes(sea: Sea, how: str) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    closed, opened = HOWS[how]
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        writing(sea, *closed)
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        assert sea.course.why is Sign.READ_ONLY
        told = " ".join(status(sea).split())
        assert f"{SETTING} is on for the {how}" in told, told
        assert "to take writes again" in told, told
        writing(sea, *opened)
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
    assert sea.identifier == before
    nothing_is_lost(sea, shoppers)
