"""A lifeboat rebuilt from a vault: what is asked for is in it and nothing else, and it leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ballast.continuity.lifeboat import Lifeboat, read_ahead
from ballast.errors import BallastError, RestoreError
from ballast.vault import Vault, read_rows
from tests.fix_postgres import Database
from tests.integration.test_restore import FILL, SHOP, TENANTS
from tests.kept import Kept

pytestmark = pytest.mark.any_version


@pytest.fixture
def kept(pg: Database, open_folder: Path) -> Kept:
    pg.run(*SHOP, *FILL)
    made = Kept(pg, open_folder, TENANTS)
    made.look()
    return made


@pytest.fixture
def boat(open_folder: Path) -> Iterator[Lifeboat]:
    made = Lifeboat(open_folder / "boat")
    made.make_ready()
    yield made
    made.sink()


def test_a_tenant_is_in_it_when_it_is_asked_for_and_others_cannot_be_taken_for_empty(
    kept: Kept, boat: Lifeboat
) -> None:
    boat.launch(kept.vault, kept.vault.resolve(None))
    assert boat.is_afloat

    assert boat.fetch("t5")
    assert not boat.fetch("never there")
    with psycopg.connect(boat.dsn(), autocommit=True) as conn:
        there = conn.execute("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL").fetchall()
    assert there == [("t5",)]
    for tenant in (f"t{n}" for n in range(1, 10)):
        boat.fetch(tenant)
    assert boat.is_afloat
    assert boat.fetch("t5")
    with psycopg.connect(boat.dsn(), autocommit=True) as conn:
        assert conn.execute("SELECT ballast.ensure_tenant('t1')").fetchone() == (True,)


def test_what_a_launch_reads_first_is_there_though_the_store_is_gone(kept: Kept, open_folder: Path) -> None:
    def shared() -> list[bytes]:
        return [bytes(chunk.buffer) for chunk in read_rows(kept.vault, kept.vault.resolve(None), tenant=None)]

    before = shared()
    read_ahead(kept.vault, lambda: False)
    runs = [path for path in open_folder.rglob("*.parquet") if path.is_file()]
    assert runs
    for path in runs:
        path.rename(path.with_suffix(".away"))
    assert shared() == before != []


def test_who_is_in_a_hurry_is_served_before_those_who_asked_earlier(kept: Kept, open_folder: Path) -> None:
    boat = Lifeboat(open_folder / "boat", jobs=1)
    boat.make_ready()
    boat.launch(kept.vault, kept.vault.resolve(None))

    def ask(tenant: str, urgent: str) -> None:
        with psycopg.connect(boat.dsn(), autocommit=True) as conn:
            conn.execute("SELECT set_config('ballast.urgent', %s, false)", (urgent,))
            assert conn.execute("SELECT ballast.ensure_tenant(%s)", (tenant,)).fetchone() == (True,)

    def waited_for(conn: psycopg.Connection[Any], tenants: int) -> None:
        until = time.monotonic() + 30
        while conn.execute("SELECT tenants_waited_for FROM ballast_recovery.progress").fetchone() != (tenants,):
            assert time.monotonic() < until
            time.sleep(0.05)

    try:
        with (
            psycopg.connect(boat.dsn()) as holding,
            psycopg.connect(boat.dsn(), autocommit=True) as conn,
            ThreadPoolExecutor() as crowd,
        ):
            holding.execute(
                "LOCK ballast_recovery.tenant IN SHARE MODE"
            )  # the first one is under way as long as this lasts
            asked = [crowd.submit(ask, "t1", "off")]
            waited_for(conn, 1)
            asked += [crowd.submit(ask, f"t{n}", "off") for n in range(2, 6)]
            waited_for(conn, 5)
            asked += [crowd.submit(ask, "t6", "on")]
            waited_for(conn, 6)
            holding.rollback()
            for one in asked:
                one.result()
            rows = conn.execute("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL ORDER BY back_at")
            order = [tenant for (tenant,) in rows]
        assert order[:2] == ["t1", "t6"]
        assert sorted(order) == [f"t{n}" for n in range(1, 7)]
    finally:
        boat.sink()


def test_built_ahead_some_are_in_it_where_it_is_taken_as_it_is_and_nobody_where_it_is_launched(
    kept: Kept, open_folder: Path
) -> None:
    def back(boat: Lifeboat) -> list[str]:
        with psycopg.connect(boat.dsn(), autocommit=True) as conn:
            assert conn.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)
            rows = conn.execute("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL").fetchall()
            for (tenant,) in rows:
                conn.execute("SELECT set_config('ballast.tenant', %s, false)", (tenant,))
                there = conn.execute("SELECT count(*) FROM item WHERE tenant = %s", (tenant,)).fetchone()
                assert there is not None
                assert there[0] > 0
        return [tenant for (tenant,) in rows]

    at = kept.vault.resolve(None)
    for number, launched in enumerate((False, True)):
        boat = Lifeboat(open_folder / f"boat{number}")
        try:
            boat.make_ready()
            boat.build(kept.vault, at, ["t5"])
            if launched:
                boat.launch(kept.vault, at)
                assert back(boat) == []
                assert boat.fetch("t1")
            else:
                assert boat.take_as_it_is() == at
            assert back(boat) == (["t1"] if launched else ["t5"])
            boat.leave()
            again = Lifeboat(open_folder / f"boat{number}")
            again.resume_as_it_is()
            assert back(again) == (["t1"] if launched else ["t5"])
        finally:
            boat.sink()


def test_a_vault_that_goes_away_while_it_is_built_anew_leaves_what_was_built_before(kept: Kept, boat: Lifeboat) -> None:
    at = kept.vault.resolve(None)
    boat.build(kept.vault, at, ["t5"])
    away = Vault.open(kept.url)
    Path(kept.url).rename(Path(kept.url).with_name("gone"))
    with pytest.raises((BallastError, OSError)):
        boat.build(away, at, ["t5"])
    assert boat.take_as_it_is() == at
    with psycopg.connect(boat.dsn(), autocommit=True) as conn:
        assert conn.execute("SELECT ballast.ensure_tenant('t5')").fetchone() == (True,)


def test_what_cannot_be_rebuilt_is_told_at_launch(kept: Kept, boat: Lifeboat) -> None:
    with psycopg.connect(boat.dsn(), autocommit=True) as conn:
        conn.execute("CREATE TABLE somebodys (id int)")
    with pytest.raises(RestoreError, match="not empty"):
        boat.launch(kept.vault, kept.vault.resolve(None))
    assert not boat.is_afloat


def test_killed_it_is_not_afloat_and_a_new_one_takes_its_place(kept: Kept, open_folder: Path) -> None:
    boat = Lifeboat(open_folder / "boat")
    boat.make_ready()
    boat.launch(kept.vault, kept.vault.resolve(None))
    pid = boat._server.pid
    assert pid is not None
    psutil.Process(pid).kill()
    with pytest.raises((psycopg.Error, RestoreError)):
        boat.fetch("t5")
    assert not boat.is_afloat
    boat.sink()

    other = Lifeboat(open_folder / "boat")
    other.make_ready()
    other.launch(kept.vault, kept.vault.resolve(None))
    assert other.fetch("t5")
    other.sink()
    assert not (open_folder / "boat").exists()


def test_started_again_without_the_vault_it_serves_who_is_in_it_and_takes_in_others_when_that_is_back(
    kept: Kept, open_folder: Path
) -> None:
    first = Lifeboat(open_folder / "boat")
    first.make_ready()
    at = kept.vault.resolve(None)
    first.launch(kept.vault, at)
    assert first.fetch("t5")
    first.leave()

    boat = Lifeboat(open_folder / "boat")
    try:
        boat.resume_as_it_is()
        assert (boat.is_afloat, boat.is_alone) == (True, True)
        with psycopg.connect(boat.dsn(), autocommit=True) as conn:
            assert conn.execute("SELECT ballast.ensure_tenant('t5')").fetchone() == (True,)
            with pytest.raises(psycopg.Error):
                conn.execute("SELECT ballast.ensure_tenant('t1', '200 milliseconds')")
        boat.go_on(kept.vault, at)
        assert (boat.is_afloat, boat.is_alone) == (True, False)
        assert boat.fetch("t1")
    finally:
        boat.sink()
