"""What a client really sees when its database is lost in this way or that, and what is made of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import psycopg
import pytest

from ballast.continuity.signs import Failure, Sign, Watched, sign_of
from ballast.postgres import EmbeddedServer
from tests.fix_postgres import Database, NewServer

pytestmark = pytest.mark.any_version


def failure_of(work: Callable[[], object]) -> Failure:
    with pytest.raises(psycopg.Error) as caught:
        work()
    error = caught.value
    timed_out = isinstance(error, psycopg.errors.ConnectionTimeout)
    return Failure(error.sqlstate or "", str(error), timed_out)


@pytest.fixture
def lost(own_server: NewServer) -> EmbeddedServer:
    made = own_server()
    made.start()
    with psycopg.connect(made.dsn(), autocommit=True) as conn:
        conn.execute("CREATE TABLE shop (id int PRIMARY KEY)")
    return made


def test_a_stopped_server_refuses_and_a_killed_one_is_gone(lost: EmbeddedServer) -> None:
    dsn = lost.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn:
        lost.kill()
        assert sign_of(failure_of(lambda: conn.execute("SELECT 1"))) is Sign.GONE
    assert sign_of(failure_of(lambda: psycopg.connect(dsn))) is Sign.REFUSED


def test_a_removed_data_folder_is_lost_for_old_and_new_connections(lost: EmbeddedServer) -> None:
    with psycopg.connect(lost.dsn(), autocommit=True) as conn:
        dsn = lost.dsn()
        shutil.rmtree(lost.pgdata)
        old = {sign_of(failure_of(lambda: conn.execute("CREATE TABLE other ()")))}
    new = sign_of(failure_of(lambda: [psycopg.connect(dsn).execute("SELECT * FROM shop"), time.sleep(0.1)]))
    lost.kill()

    assert old <= {Sign.GONE, Sign.MISSING}
    assert new in (Sign.GONE, Sign.REFUSED, Sign.MISSING)


def test_dropped_tables_and_databases_are_missing(pg: Database) -> None:
    assert sign_of(failure_of(lambda: pg.run("SELECT * FROM shop"))) is Sign.MISSING
    assert sign_of(failure_of(lambda: pg.run("SELECT * FROM mall.shop"))) is Sign.MISSING
    gone = psycopg.conninfo.make_conninfo(pg.dsn, dbname="never_there")
    assert sign_of(failure_of(lambda: psycopg.connect(gone))) is Sign.MISSING


def test_a_server_that_takes_no_writes_is_told(pg: Database) -> None:
    pg.run("CREATE TABLE shop (id int)")
    failure = failure_of(lambda: pg.run("SET default_transaction_read_only = on", "INSERT INTO shop VALUES (1)"))
    assert sign_of(failure) is Sign.READ_ONLY


@pytest.mark.parametrize(
    "statements",
    [("SET statement_timeout = '50ms'", "SELECT pg_sleep(5)")],
)
def test_a_slow_answer_is_slow(pg: Database, statements: tuple[str, ...]) -> None:
    assert sign_of(failure_of(lambda: pg.run(*statements))) is Sign.SLOW


def test_a_statements_own_fault_says_nothing_of_the_database(pg: Database) -> None:
    assert sign_of(failure_of(lambda: pg.run("SELECT 1/0"))) is Sign.NONE
    assert sign_of(failure_of(lambda: pg.run("SELEC 1"))) is Sign.NONE


def test_slowness_never_adds_up_to_a_loss_but_three_refusals_do() -> None:
    watched = Watched()
    for _ in range(20):
        watched = watched.after(Sign.SLOW)
    assert not watched.lost

    watched = watched.after(Sign.REFUSED).after(Sign.REFUSED).after(Sign.NONE).after(Sign.REFUSED).after(Sign.GONE)
    assert not watched.lost
    watched = watched.after(Sign.REFUSED)
    assert (watched.lost, watched.why) == (True, Sign.REFUSED)
    assert watched.after(Sign.NONE).lost  # an answer of somebody is not the shops being back
    assert not watched.home().lost


def test_a_missing_relation_is_a_loss_at_once() -> None:
    assert Watched().after(Sign.MISSING).lost
