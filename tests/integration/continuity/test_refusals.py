"""A server that answers and takes no writes: it is left, and gone back to when it takes them again. It is somebody else's, whom
nobody here may stop or make anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity import holding, tail
from ballast.continuity.helm import sign_of_error
from ballast.continuity.signs import Sign
from ballast.vault import config
from tests.folders import a_folder
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost
from tests.small_disk import Hog, small_disk


@pytest.fixture(scope="module")
def sea() -> Iterator[Sea]:
    with a_folder() as folder:
        made = Sea(folder, automatic="", ours=False)
        try:
            yield made
        finally:
            made.discard()


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


def test_a_role_that_is_set_read_only_is_told_and_nobody_goes_anywhere(sea: Sea) -> None:
    sea.ensure()
    number = sea.course.number
    writing(sea, "CREATE ROLE clerk LOGIN", "GRANT ALL ON shop TO clerk", f"ALTER ROLE clerk SET {SETTING} = on")
    with Shoppers(sea) as shoppers, psycopg.connect(sea.dsn, user="clerk", autocommit=True) as clerk:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
            clerk.execute("UPDATE shop SET name = name")
        sea.board.ring(f"lost {sign_of_error(caught.value)}")
        sea.until(lambda: "a process was refused a write (read only)" in sea.decided, "that to be told")
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home")
    assert sea.course.number == number
    assert "ALTER ROLE" in status(sea)
    nothing_is_lost(sea, shoppers)


def test_a_server_that_has_become_a_standby_is_left_until_it_is_promoted(sea: Sea) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.server.stop("fast")
        (sea.server.pgdata / "standby.signal").touch()
        sea.server.start()
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        sea.until(lambda: "it is in recovery" in sea.health.waits_for, "it to be told what is waited for")
        assert sea.query("SELECT pg_is_in_recovery()") == [(True,)]
        writing(sea, "SELECT pg_promote()")
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
    assert sea.identifier == before
    nothing_is_lost(sea, shoppers)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_server_whose_disk_is_full_is_left_until_there_is_room(sea: Sea) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    folder = sea.folder / "small"
    owner = sea.server.pgdata.stat()
    with small_disk(folder, 40):
        os.chown(folder, owner.st_uid, owner.st_gid)
        writing(
            sea, f"CREATE TABLESPACE small LOCATION '{folder}'", "ALTER TABLE orders SET TABLESPACE small",
            "ALTER INDEX orders_pkey SET TABLESPACE small",
        )  # fmt: skip
        with Shoppers(sea, 2) as shoppers:
            sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
            hog = Hog(folder)
            sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
            assert sea.course.why is Sign.FULL
            told = " ".join(status(sea).split())
            assert "to take writes again: could not write" in told, told
            hog.unlink()
            sea.came_home(number)
            home = shoppers.taken("home")
            sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
        writing(
            sea, "ALTER TABLE orders SET TABLESPACE pg_default", "ALTER INDEX orders_pkey SET TABLESPACE pg_default"
        )
        writing(sea, "DROP TABLESPACE small")
    assert sea.identifier == before
    nothing_is_lost(sea, shoppers)


def cli(sea: Sea, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ballast.cli", *arguments, "--config", str(sea.config_path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_it_is_lost_and_a_person_recovers_it_on_an_empty_server_in_its_place(sea: Sea) -> None:
    """With `recover --into`: the recorder is stopped for it, and started again."""
    sea.ensure()
    number, before = sea.course.number, sea.identifier
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.server.discard()
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        sea.until(lambda: "recover --now" in sea.health.waits_for, "it to be told what a person can do")
        holding.hold(sea.sea)
        tail.stop_recorder(config.load(sea.config_path))
        sea.server.start()
        with psycopg.connect(sea.server.dsn(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE shops")
        cli(sea, "recover", "--vault", str(sea.folder / "vault"), "--into", sea.dsn)
        holding.let_go(sea.sea)
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home")
    assert sea.identifier != before
    nothing_is_lost(sea, shoppers)


def test_it_is_lost_and_recovered_elsewhere_at_a_persons_word(sea: Sea) -> None:
    """With `recover --now`."""
    sea.ensure()
    number, former = sea.course.number, sea.dsn
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.server.discard()
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        sea.dsn = sea.another.dsn("shops")  # who goes home goes there
        cli(sea, "recover", "--now", "--into", sea.dsn)
        sea.until(lambda: "an empty server at" in sea.health.waits_for, "the empty server to be waited for")
        sea.another.start()
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home")
    followed = conninfo_to_dict(sea.course.at_home(make_conninfo(former, user="clerk")))
    assert followed == conninfo_to_dict(sea.dsn, user="clerk")
    nothing_is_lost(sea, shoppers)
