"""The canary, and what else goes with the stream."""

import msgspec
import psycopg
import pytest

from ballast.vault.records import SequenceState
from ballast.vault.sequences import PREFIX as SEQUENCES
from ballast.vault.sequences import Told
from tests.fix_guarded import WITHIN_S, New, contents
from tests.fix_postgres import Database

pytestmark = pytest.mark.any_version


def test_a_deleted_canary_sings_again(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    pg.run("DELETE FROM ballast.canary")
    recording.clean()
    recording.until(lambda: pg.query("SELECT count(*) FROM ballast.canary") == [(1,)], "a canary")
    assert not recording.log("gap_begins")


def test_a_dropped_canary_is_put_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    pg.run("DROP TABLE ballast.canary")
    recording.logged("canary cannot be written")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)
    recording.until(lambda: pg.query("SELECT count(*) FROM ballast.canary") == [(1,)], "a canary")


def test_a_canary_that_does_not_come_through(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    pg.run(  # the one way to lose rows that no catalog shows
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON ballast.canary FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    recording.wait_for("blind")
    recording.logged("canary", "not received")
    pg.run("DROP TRIGGER swallow ON ballast.canary")
    recording.gap(before=before)
    recording.whole()


def test_sequences_are_told_when_they_have_changed(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    pg.run(
        "CREATE SEQUENCE a INCREMENT 3 CACHE 5",
        "CREATE SEQUENCE b",
        "SELECT setval('b', 100, false)",
        "SELECT nextval('a')",
    )
    pg.run('CREATE SEQUENCE "odd ""name"""')
    recording.guard()

    def told() -> dict[str, SequenceState]:
        found: dict[str, SequenceState] = {}
        for content in contents(recording, SEQUENCES):
            found.update({s.name: s for s in msgspec.json.decode(content, type=Told).sequences})
        return found

    recording.until(lambda: len(told()) == 3, "all three", WITHIN_S)
    a = told()["a"]
    assert (a.last_value, a.is_called, a.increment, a.cache) == (13, True, 3, 5)  # the session took five of them
    assert (told()["b"].last_value, told()["b"].is_called) == (100, False)
    messages = len(contents(recording, SEQUENCES))
    recording.clean()
    assert len(contents(recording, SEQUENCES)) == messages, "nothing new, nothing said"
    pg.run("SELECT setval('b', 7000)")
    recording.until(lambda: told()["b"].last_value == 7000, "the new value", WITHIN_S)


def test_a_big_transaction_does_not_hide_the_canary(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    with psycopg.connect(pg18.dsn, autocommit=True) as conn:
        for n in range(5):
            rows = (n * 100_000, n * 100_000 + 60_000)
            conn.execute("INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(%s, %s) g", rows)
    recording.clean()
    recording.clean()
    assert not recording.log("capture_changed")
