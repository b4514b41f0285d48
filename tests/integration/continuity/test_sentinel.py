"""What befalls a platform, and that everybody comes home with all that was ordered: real servers, real kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from ballast.continuity import health
from ballast.continuity.duplicate import incarnations, read
from ballast.continuity.entries import Offered
from ballast.continuity.helm import BOARD, INTAKE
from ballast.continuity.intake import Intake
from ballast.continuity.settings import LEAST_LIFEBOAT_BYTES
from ballast.postgres import EmbeddedServer
from ballast.vault import health as vault_health
from ballast.vault.config import load
from ballast.vault.health import RecorderHealth
from ballast.vault.store import open_store
from ballast.vault.verify import verify
from tests.folders import a_folder
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost
from tests.integration.continuity.small_shop import SHOPS


@pytest.fixture(scope="module")
def sea() -> Iterator[Sea]:
    with a_folder() as folder:
        made = Sea(folder)
        try:
            yield made
        finally:
            made.discard()


def test_files_are_lost_and_all_come_home_to_a_new_server(sea: Sea) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders at home")
        sea.lose_files()
        sea.until(lambda: sea.course.mode == "afloat", "the lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > 20, "orders in the lifeboat")
        sea.until(lambda: sea.course.mode == "returning", "the new server")
        assert sea.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'") == [(sea.verifier,)]
        sea.came_home(number)
    assert sea.identifier != before
    nothing_is_lost(sea, shoppers)
    (copy,) = incarnations(open_store(sea.folder / "vault"))
    sea.until(lambda: sea.health.copied, "the copy of the intake")
    kept = {(e.tenant, e.payload["key"]) for e in read(open_store(sea.folder / "vault"), copy) if e.kind == "order"}
    assert {at for at, where in shoppers.acknowledged.items() if where == "lifeboat"} <= kept
    assert not verify(open_store(sea.folder / "vault")).faults


def test_rows_are_deleted_table_by_table_and_what_others_did_meanwhile_comes_back_as_well(sea: Sea) -> None:
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea, count=2) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders at home")
        before = shoppers.taken("home")
        with psycopg.connect(sea.dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO shop VALUES ('quiet', 'Quiet'); INSERT INTO stock VALUES ('quiet', 99998)")
        deleting = threading.Thread(target=sea.lose_rows)
        deleting.start()
        sea.until(lambda: shoppers.taken("home") > before + 10, "orders while rows are deleted")
        with psycopg.connect(sea.dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO country VALUES ('FR')")
            conn.execute("INSERT INTO shop VALUES ('new', 'New'); INSERT INTO stock VALUES ('new', 100000)")
            conn.execute("INSERT INTO orders VALUES ('quiet', 'a', 'new'), ('quiet', 'b', 'new')")
        deleting.join(60)
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        sea.came_home(number)
    nothing_is_lost(sea, shoppers)
    assert shoppers.paid
    assert sea.kept, "the data of the emptied server is kept"
    assert "were emptied: of" in sea.decided
    assert "they are brought in again" in sea.decided
    assert sea.query("SELECT code FROM country WHERE code = 'FR'")
    assert sea.query("SELECT name FROM shop WHERE tenant IN ('new', 'quiet') ORDER BY name") == [("New",), ("Quiet",)]
    assert "committed after that moment" not in sea.health.alarm
    with psycopg.connect(sea.dsn, autocommit=True) as conn:
        for table in ("orders", "stock", "shop"):
            conn.execute(f"DELETE FROM {table} WHERE tenant IN ('new', 'quiet')".encode())


def test_rows_are_deleted_in_one_large_transaction_and_the_files_at_once_after_it(sea: Sea) -> None:
    sea.ensure()
    number = sea.course.number
    with psycopg.connect(sea.dsn, autocommit=True) as conn:
        for shop in SHOPS:
            conn.execute(b"INSERT INTO orders SELECT %s, 'bulk' || g, '' FROM generate_series(1, 5000) g", (shop,))
    with Shoppers(sea, count=2) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders at home")
        sea.lose_rows_at_once()
        with psycopg.connect(sea.dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO shop VALUES ('after', 'After'); INSERT INTO stock VALUES ('after', 100000)")
        sea.lose_files()
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        sea.came_home(number)
    nothing_is_lost(sea, shoppers)
    assert "as the recorder's spool shows" in sea.decided
    assert "were emptied: of" in sea.decided
    assert "another takes its place" not in sea.decided
    assert sea.query("SELECT count(*) FROM orders WHERE key LIKE 'bulk%'") == [(5000 * len(SHOPS),)]
    assert sea.query("SELECT name FROM shop WHERE tenant = 'after'") == [("After",)]
    with psycopg.connect(sea.dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM stock WHERE tenant = 'after'; DELETE FROM shop WHERE tenant = 'after'")
        for shop in SHOPS:
            conn.execute(b"DELETE FROM orders WHERE tenant = %s AND key LIKE 'bulk%%'", (shop,))


def test_a_server_that_is_restarted_is_waited_for_and_nothing_is_recovered(sea: Sea) -> None:
    sea.ensure()
    before, kept, number = sea.identifier, sea.kept, sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        pid = sea.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        sea.until(lambda: shoppers.taken("lifeboat") > 5, "orders in the lifeboat")
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
    assert (sea.identifier, sea.kept) == (before, kept)
    assert "nothing needs to be recovered" in sea.decided
    nothing_is_lost(sea, shoppers)


def test_rows_go_while_everybody_is_in_the_lifeboat_and_the_recorder_comes_later(sea: Sea) -> None:
    """It crashed; as soon as it is back everything is deleted in it, of which the record does not know yet."""
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    recorder = recorder_of(sea)
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        os.kill(recorder, signal.SIGSTOP)
        try:
            sea.until(lambda: killed(sea) and shoppers.taken("lifeboat") > 5, "orders in the lifeboat")
            sea.until(lambda: emptied_at_once(sea), "the server to be back")
            sea.until(lambda: "does not tell when its rows went" in sea.decided, "the question when they went")
        finally:
            os.kill(recorder, signal.SIGCONT)
        sea.came_home(number)
    assert sea.identifier != before
    assert "the record tells by now when its rows went" in sea.decided
    nothing_is_lost(sea, shoppers)


def killed(sea: Sea) -> bool:
    """The server, should it be there: it does not come back while this is asked again and again."""
    if (pid := sea.server.pid) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


def recorder_of(sea: Sea) -> int:
    told = vault_health.read_state(load(sea.config_path).state_dir, vault_health.RECORDER_FILE, RecorderHealth)
    assert told is not None
    return told.pid


def emptied_at_once(sea: Sea) -> bool:
    """Whether there was a server in which all rows could be deleted; nobody waits for the recorder."""
    try:
        with psycopg.connect(sea.dsn, connect_timeout=2) as conn:
            conn.execute("SET synchronous_commit = local")
            for table in ("note", "orders", "stock", "shop"):
                conn.execute(f"DELETE FROM {table}".encode())
    except psycopg.OperationalError:
        return False
    return True


def test_one_shop_is_hit_and_the_others_stay_where_they_are(sea: Sea) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    hit = SHOPS[3]
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders at home")
        sea.lose_shop(hit)
        sea.until(lambda: sea.course.mode != "home", "the loss to be noticed")
        assert sea.course.only == {hit}
        sea.came_home(number)
    assert sea.identifier == before
    elsewhere = {shop for (shop, _), where in shoppers.acknowledged.items() if where == "lifeboat"}
    assert elsewhere <= {hit}
    nothing_is_lost(sea, shoppers)


def test_one_shop_is_emptied_table_by_table_and_what_it_sold_meanwhile_comes_back_as_well(sea: Sea) -> None:
    """The sentinel is slow: it looks when all is over. A table that was emptied first was filled again by then, and emptied again."""
    sea.ensure()
    before, number, hit = sea.identifier, sea.course.number, SHOPS[2]
    with Shoppers(sea, shops=(hit,)) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 8, "orders before")
        with stopped(sea):
            sea.lose_shop_by_table(hit, lambda: more_at_home(sea, shoppers))
        sea.until(lambda: shoppers.taken("lifeboat") > 5, "orders in the lifeboat")
        sea.came_home(number)
    assert sea.identifier == before
    nothing_is_lost(sea, shoppers)
    assert sea.query(f"SELECT count(*) FROM orders WHERE tenant = '{hit}' AND key LIKE 'old%'") == [(50,)]


def test_every_shop_is_emptied_table_by_table_and_another_is_opened_so_that_each_is_put_back_by_itself(
    sea: Sea,
) -> None:
    sea.ensure()
    before, number = sea.identifier, sea.course.number
    with Shoppers(sea, count=2) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders before")
        with stopped(sea):
            for shop in SHOPS:
                sea.board.ring(f"empty {shop}")
            sea.lose_rows(between=lambda: more_at_home(sea, shoppers))
            with psycopg.connect(sea.dsn, autocommit=True) as conn:
                conn.execute("INSERT INTO shop VALUES ('last', 'Last'); INSERT INTO stock VALUES ('last', 100000)")
        sea.until(
            lambda: {shop for (shop, _), where in shoppers.acknowledged.items() if where == "lifeboat"} == set(SHOPS),
            "orders of all in the lifeboat",
        )
        sea.came_home(number)
    assert sea.identifier == before
    nothing_is_lost(sea, shoppers)
    with psycopg.connect(sea.dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM stock WHERE tenant = 'last'; DELETE FROM shop WHERE tenant = 'last'")


def test_a_shop_is_emptied_again_while_it_is_put_back_and_another_with_it(sea: Sea) -> None:
    sea.ensure()
    before, number, hit = sea.identifier, sea.course.number, SHOPS[2:4]
    with Shoppers(sea, count=2, shops=hit) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 8, "orders before")
        with stopped(sea):
            for shop in hit:  # what is heard when all is over: both are missed at once
                sea.board.ring(f"empty {shop}")
            sea.lose_shop_by_table(hit[0], lambda: more_at_home(sea, shoppers))
            sea.lose_shop(hit[1])
            holder = in_the_way(sea, hit[1])
        there = f"SELECT FROM shop WHERE tenant = '{hit[0]}'"
        sea.until(lambda: shoppers.taken("lifeboat") > 5 and sea.query(there), "the first to be put back")
        sea.lose_shop(hit[0])
        holder.close()
        sea.came_home(number)
        home = shoppers.taken("home")
        sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
    assert sea.identifier == before
    assert f"rows of {hit[0]} went again" in sea.decided
    nothing_is_lost(sea, shoppers)


def test_everything_is_deleted_while_a_shop_is_put_back(sea: Sea) -> None:
    sea.ensure()
    before, number, hit = sea.identifier, sea.course.number, SHOPS[2]
    with Shoppers(sea, count=2) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 20, "orders before")
        with stopped(sea):
            sea.lose_shop_by_table(hit, lambda: more_at_home(sea, shoppers))
            holder = in_the_way(sea, hit)
        sea.until(lambda: shoppers.taken("lifeboat") > 0, "the shop to be in the lifeboat")
        assert sea.course.only == {hit}
        more_at_home(sea, shoppers)
        sea.lose_rows()
        sea.until(lambda: sea.course.only is None, "the second loss to be noticed")
        holder.close()
        sea.came_home(number)
    assert sea.identifier != before
    assert "was not put back" not in sea.health.alarm
    nothing_is_lost(sea, shoppers)


def in_the_way(sea: Sea, shop: str) -> psycopg.Connection[Any]:
    """As long as this is open the shop cannot be put back."""
    holder = psycopg.connect(sea.dsn)
    holder.execute("INSERT INTO shop VALUES (%s, 'in the way')", (shop,))
    return holder


def more_at_home(sea: Sea, shoppers: Shoppers) -> None:
    """Until some more orders were taken there."""
    before = shoppers.taken("home")
    sea.until(lambda: shoppers.taken("home") > before + 8, "orders at home")


@contextmanager
def stopped(sea: Sea) -> Iterator[None]:
    """The sentinel sees nothing meanwhile."""
    (pid,) = sea.processes("ballast.continuity.sentinel")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_whoever_is_killed_on_the_way_the_end_is_the_same(sea: Sea) -> None:
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.lose_files(kill=False)
        sea.until(lambda: sea.course.mode != "home", "the loss to be noticed")
        assert sea.kill("ballast.continuity.sentinel")
        sea.until(lambda: shoppers.taken("lifeboat") > 5, "orders in the lifeboat")
        sea.until(lambda: restorer_at_work(sea), "the restorer")
        assert sea.kill("ballast.continuity.restorer")
        sea.until(lambda: (found := health.restorer(sea.sea)) is not None and found.opened, "the new server to be open")
        assert sea.kill("ballast.continuity.sentinel")
        sea.until(lambda: sea.course.mode == "returning", "the way home")
        sea.kill("ballast.continuity.holding")
        pid = sea.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        sea.came_home(number)
    nothing_is_lost(sea, shoppers)


def restorer_at_work(sea: Sea) -> bool:
    """Whether one runs that has said something."""
    found = health.restorer(sea.sea)
    return found is not None and found.pid in sea.processes("ballast.continuity.restorer")


def test_home_is_lost_a_second_time_while_everybody_comes_home_and_the_vault_and_the_lifeboat_are(sea: Sea) -> None:
    sea.ensure()
    number, vault = sea.course.number, sea.folder / "vault"
    with Shoppers(sea) as shoppers:
        sea.lose_files()
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        holders: list[psycopg.Connection[Any]] = []
        sea.until(lambda: gate_held(sea, holders), "the new server")
        sea.until(lambda: sea.course.mode == "returning" and sea.course.back, "somebody to be home")
        vault.rename(sea.folder / "unmounted")
        try:
            sea.lose_files()
            holders[0].close()
            sea.until(lambda: sea.course.mode == "afloat" and sea.course.vault_away, "the second loss to be noticed")
            sea.kill_lifeboats()
            here = shoppers.taken("lifeboat")
            sea.until(lambda: shoppers.taken("lifeboat") > here + 5, "orders in the lifeboat that was raised")
        finally:
            (sea.folder / "unmounted").rename(vault)
        sea.came_home(number)
    nothing_is_lost(sea, shoppers)


def test_home_is_emptied_table_by_table_after_a_restart_while_what_the_lifeboat_took_is_merged_there(sea: Sea) -> None:
    """What was refused there, since half of what it needs was gone, is done when the rows are back."""
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        pid = sea.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        sea.until(lambda: stock_deleted(sea), "home to be back, and a table to be emptied")
        sea.until(lambda: sea.health.refused, "an order to be refused at home")
        begun = datetime.now(UTC).isoformat()
        sea.lose_rows(lambda: None)
        sea.until(lambda: deletion_seen(sea, begun), "the deletion to be noticed")
        sea.came_home(number)
    assert sea.query("SELECT count(*) FROM ballast_merge.exception WHERE settled_at IS NULL") == [(0,)]
    nothing_is_lost(sea, shoppers)


def deletion_seen(sea: Sea, since: str) -> bool:
    """Whether the sentinel has decided since then that rows were deleted."""
    return any(one.at > since and "rows that were deleted" in one.what for one in sea.health.decisions)


def stock_deleted(sea: Sea) -> bool:
    """Whether home is there, and nobody has anything in stock any more."""
    with suppress(psycopg.Error), psycopg.connect(sea.dsn, connect_timeout=2, autocommit=True) as conn:
        conn.execute("DELETE FROM stock")
        return True
    return False


def test_home_is_killed_while_its_recovery_ends_and_the_recovery_goes_on_to_its_end(sea: Sea) -> None:
    """Everybody is back by then: nobody would miss what is left of it, its foreign keys unchecked and its gate in the way."""
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.lose_files()
        holders: list[psycopg.Connection[Any]] = []
        sea.until(lambda: gate_held(sea, holders), "the new server")
        sea.until(lambda: sea.course.mode == "returning", "the way home")
        sea.until(lambda: sea.query(MISSING) == [(0,)], "everybody to be back")
        sea.until(lambda: killed(sea) and sea.course.mode == "afloat", "the second loss to be noticed")
        holders[0].close()
        sea.came_home(number)
    assert sea.query("SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    assert sea.query("SELECT polname FROM pg_policy") == []
    assert sea.query("SELECT finished_at IS NOT NULL FROM ballast_recovery.origin") == [(True,)]
    assert "the recovery goes on" in sea.decided
    nothing_is_lost(sea, shoppers)


MISSING = "SELECT count(*) FROM ballast_recovery.tenant WHERE back_at IS NULL"


def gate_held(sea: Sea, holders: list[psycopg.Connection[Any]]) -> bool:
    """Whether there is a table of a new server, which is held so that the recovery cannot end as long as that lives."""
    with suppress(psycopg.Error):
        conn = psycopg.connect(sea.dsn, connect_timeout=2)
        conn.execute("LOCK TABLE note IN ACCESS SHARE MODE")
        holders.append(conn)
    return bool(holders)


def test_the_vault_is_away_as_well_and_who_was_in_the_lifeboat_ahead_is_served(sea: Sea) -> None:
    sea.ensure()
    number, vault = sea.course.number, sea.folder / "vault"
    vault.rename(sea.folder / "unmounted")
    sea.until(lambda: sea.health.vault_away, "it to be noticed that the vault is away")
    sea.lose_files()
    with Shoppers(sea) as shoppers:
        sea.until(lambda: sea.course.vault_away, "the lifeboat that was built ahead")
        sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
        (sea.folder / "unmounted").rename(vault)
        sea.came_home(number)
    nothing_is_lost(sea, shoppers)


def test_home_is_back_before_any_lifeboat_could_be_made_and_nobody_waits_for_the_vault(sea: Sea) -> None:
    sea.ensure()
    before, number, vault = sea.identifier, sea.course.number, sea.folder / "vault"
    vault.rename(sea.folder / "unmounted")
    try:
        sea.until(lambda: sea.health.vault_away, "it to be noticed that the vault is away")
        sea.kill_lifeboats()
        with Shoppers(sea) as shoppers:
            sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
            pid = sea.server.pid
            assert pid is not None
            os.kill(pid, signal.SIGINT)
            sea.until(lambda: sea.course.mode == "launching", "the loss to be noticed")
            sea.came_home(number)
            home = shoppers.taken("home")
            sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
    finally:
        (sea.folder / "unmounted").rename(vault)
    assert sea.identifier == before
    assert shoppers.taken("lifeboat") == 0
    nothing_is_lost(sea, shoppers)


def test_it_asks_where_it_is_to_also_after_a_loss_while_nothing_ran_and_the_lifeboat_is_raised_if_killed(
    sea: Sea,
) -> None:
    sea.ensure()
    sea.stop()
    sea.settle('"ask"')
    shutil.rmtree(sea.server.pgdata)
    sea.start()
    with Shoppers(sea) as shoppers:
        sea.until(lambda: "recover --now" in sea.health.waits_for, "the sentinel to ask")
        sea.until(lambda: shoppers.taken("lifeboat") > 5, "orders in the lifeboat")
        sea.stop()  # in the middle of it
        (sea.sea / BOARD / "course.json").write_bytes(b"")  # as a power cut may leave it; the incident is there
        sea.start()
        here = shoppers.taken("lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > here + 5, "orders in the lifeboat again")
        shop = SHOPS[2]
        accepted = Offered(shop, "order:not committed", "order", {"key": "not committed"}, datetime.now(UTC))
        Intake(sea.sea / INTAKE, reserve_bytes=0).take([accepted])
        sea.kill_lifeboats()
        here = shoppers.taken("lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > here + 5, "orders in the lifeboat once more")
        sea.until(lambda: "with all that was in it" in sea.decided, "that to be told")
        with psycopg.connect(sea.course.lifeboat, autocommit=True) as conn:
            count = "SELECT count(*) FROM orders WHERE tenant = %s AND key = 'not committed'"
            sea.until(lambda: conn.execute(count, (shop,)).fetchone() == (1,), "what was accepted to be done")
        assert sea.course.mode == "afloat"
        former = sea.course.lifeboat
        (boat,) = (path for path in (sea.sea / "lifeboat").iterdir() if EmbeddedServer(path).dsn() == former)
        with (boat / "pgdata" / "grown").open("wb") as much:
            os.posix_fallocate(much.fileno(), 0, LEAST_LIFEBOAT_BYTES)
        sea.until(lambda: sea.course.lifeboat != former, "another lifeboat in the place of one that takes too much")
        here = shoppers.taken("lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > here + 5, "orders in the other lifeboat")
        sea.until(lambda: not boat.exists(), "the former to be thrown away")
        told = subprocess.run(
            [sys.executable, "-m", "ballast.cli", "recover", "--now", "--config", str(sea.config_path)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        sea.came_home(sea.course.number)
    nothing_is_lost(sea, shoppers)
    shown = subprocess.run(
        [sys.executable, "-m", "ballast.cli", "status", "--config", str(sea.config_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "everybody is at home" in shown.stdout
