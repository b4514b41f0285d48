"""Production promises less: it waits for nobody, or for nothing durable."""

import time

import pytest

from tests.fix_guarded import WITHIN_S, New, assert_nobody_had_to_wait
from tests.fix_postgres import Database


@pytest.mark.any_version
def test_taken_out_of_the_setting_it_says_so_and_puts_itself_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg, acknowledge="spool")
    recording.guard()
    recording.armed()
    assert recording.standby.past == ()
    with recording.admin() as conn:
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        conn.execute("SELECT pg_reload_conf()")
        before = recording.lsn()
    recording.until(lambda: recording.log("disarmed_by_somebody"), "the alarm", WITHIN_S)
    (told,) = recording.log("disarmed_by_somebody")
    assert (told["level"], told["setting"]) == ("alarm", "")
    recording.until(lambda: recording.standby.past, "it to put itself back", WITHIN_S)
    recording.armed()
    (exposed,) = recording.standby.past
    assert "somebody took the recorder out" in exposed.why
    assert exposed.to_lsn is not None
    assert max(exposed.from_lsn, before) <= exposed.to_lsn  # what was acknowledged before it was noticed is safe
    with recording.session() as conn:
        conn.execute("INSERT INTO t VALUES (1)")
    assert 1 in recording.ids(), "waited for again"
    assert len(recording.log("disarmed_by_somebody")) == 1


@pytest.mark.any_version
@pytest.mark.parametrize(
    ("command", "back", "words"),
    [
        ("ALTER ROLE postgres SET synchronous_commit = off", "ALTER ROLE postgres RESET ALL", ("postgres@*", "off")),
        ("ALTER DATABASE {db} SET synchronous_commit = local", "ALTER DATABASE {db} RESET ALL", ("*@{db}", "local")),
        ("ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM RESET ALL", ("synchronous_commit", "off")),
        ("ALTER SYSTEM SET wal_level = replica", "ALTER SYSTEM RESET ALL", ("wal_level", "after the next restart")),
    ],
    ids=["role", "database", "system", "wal_level"],
)
def test_a_promise_made_weaker(pg: Database, guarded: New, command: str, back: str, words: tuple[str, ...]) -> None:
    recording = guarded(pg)
    recording.guard()
    try:
        pg.run(command.format(db=pg.name), "SELECT pg_reload_conf()")
        recording.alarm(*(word.format(db=pg.name) for word in words))
        recording.clean()
        assert recording.health.alarms, "as long as it lasts"
        assert_nobody_had_to_wait(recording)
    finally:
        pg.run(back.format(db=pg.name), "SELECT pg_reload_conf()")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_made_unsafe(pg18: Database, guarded: New, name: str) -> None:
    set_on_server(pg18, name, "on")  # the servers of these tests begin without
    recording = guarded(pg18)
    recording.guard()
    assert recording.health.alarms == ()
    set_on_server(pg18, name, "off")
    recording.alarm(f"{name}: on → off", "a crash of the server's machine")
    assert_nobody_had_to_wait(recording)
    set_on_server(pg18, name, "on")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)


def set_on_server(db: Database, name: str, value: str) -> None:
    """Until a new session sees it."""
    db.run(f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
    deadline = time.monotonic() + WITHIN_S
    while db.query(f"SHOW {name}") != [(value,)]:
        assert time.monotonic() < deadline, f"{name} stays"
        time.sleep(0.05)
