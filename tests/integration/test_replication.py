"""The replication stream against real servers: what it brings, what may be acknowledged, and how it ends."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg
import pytest

from ballast.errors import IntegrityError, ServerError
from ballast.postgres import pgoutput
from ballast.postgres.pgoutput import Begin, Commit, Delete, Insert, LogicalMessage, Message, Update
from ballast.postgres.replication import (
    HEADER_BYTES,
    Batch,
    PublicationLost,
    Replication,
    ReplicationError,
    connect,
)
from tests.fix_postgres import Database

NAME = "ballast_test"
E = TypeVar("E", bound=Exception)
Connect = Callable[..., Replication]


@pytest.fixture
def streams() -> Iterator[Connect]:
    """Opens replication connections that are closed before the database goes."""
    opened: list[Replication] = []

    def open_stream(database: Database, name: str = NAME) -> Replication:
        opened.append(connect(database.dsn, name))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()


def protected(database: Database, stream: Replication, *tables: str) -> int:
    """Publish everything, and have a slot; gives its consistent point."""
    database.run(*(tables or ("CREATE TABLE t (id int PRIMARY KEY, v text)",)))
    database.run("CREATE PUBLICATION p FOR ALL TABLES")
    return stream.create_slot("s", export_snapshot=False).consistent_point


def collect(
    stream: Replication, until: Callable[[list[LogicalMessage]], bool], *, acknowledge: bool = True
) -> list[LogicalMessage]:
    """Receive (and acknowledge) until it is enough."""
    seen: list[LogicalMessage] = []
    deadline = time.monotonic() + 20
    while not until(seen):
        assert time.monotonic() < deadline, f"only {seen}"
        seen += take(stream, acknowledge=acknowledge)
    return seen


def collect_to_the_end(stream: Replication, error: type[E]) -> tuple[list[LogicalMessage], E]:
    """Receive and acknowledge until it fails."""
    seen: list[LogicalMessage] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            batch = stream.receive(0.1)
            seen += decoded(batch)
            stream.durable(batch.end_lsn)
            stream.acknowledge()
        except error as e:
            return seen, e
    raise AssertionError(f"it goes on: {seen}")


def take(stream: Replication, *, acknowledge: bool = True) -> list[LogicalMessage]:
    batch = stream.receive(0.1)
    if acknowledge:
        stream.durable(batch.end_lsn)
        stream.acknowledge()
    return decoded(batch)


def decoded(batch: Batch) -> list[LogicalMessage]:
    return [pgoutput.decode(message[HEADER_BYTES:]) for message in batch.messages]


def commits(n: int) -> Callable[[list[LogicalMessage]], bool]:
    return lambda seen: sum(isinstance(message, Commit) for message in seen) >= n


def in_background(do: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def make_synchronous(database: Database) -> None:
    database.run(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'", "SELECT pg_reload_conf()")


def wait_until_sync(stream: Replication, database: Database) -> None:
    deadline = time.monotonic() + 10
    while database.query("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
        assert time.monotonic() < deadline
        take(stream)


def keep_acknowledging(stream: Replication, threads: list[threading.Thread]) -> list[LogicalMessage]:
    """Receive until these have ended, for at most a few seconds."""
    seen: list[LogicalMessage] = []
    deadline = time.monotonic() + 4
    while any(t.is_alive() for t in threads) and time.monotonic() < deadline:
        seen += take(stream)
    return seen


def test_the_server_says_who_it_is(pg: Database, streams: Connect) -> None:
    stream = streams(pg)

    identity = stream.identify_system()

    assert identity.database == pg.name
    assert identity.timeline == 1
    assert [(identity.system_identifier,)] == pg.query("SELECT system_identifier::text FROM pg_control_system()")
    assert identity.flush_lsn > 0
    assert stream.server_version // 10000 == pg.major


def test_a_snapshot_and_the_stream_meet_exactly_at_the_slots_consistent_point(pg: Database, streams: Connect) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR ALL TABLES")
    pg.run("INSERT INTO t VALUES (1)")
    stream = streams(pg)

    slot = stream.create_slot("s")
    pg.run("INSERT INTO t VALUES (2)")
    with psycopg.connect(pg.dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SET TRANSACTION SNAPSHOT '{slot.snapshot_name}'")  # type: ignore[call-overload]
        in_snapshot = reader.execute("SELECT id FROM t").fetchall()
    stream.start("s", slot.consistent_point, ["p"])
    seen = collect(stream, commits(1))

    assert in_snapshot == [(1,)]
    assert [m.new for m in seen if isinstance(m, Insert)] == [(b"2",)]
    begin = next(m for m in seen if isinstance(m, Begin))
    assert begin.final_lsn >= slot.consistent_point


def test_the_stream_brings_changes_messages_and_both_ends_of_a_transaction(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    start = protected(pg, stream)
    stream.start("s", start, ["p"])
    with pg.connect(autocommit=False) as writer:
        writer.execute("SELECT pg_logical_emit_message(true, 'ballast.actor', 'lin')")
        writer.execute("INSERT INTO t VALUES (1, 'a'), (2, null)")
        writer.execute("UPDATE t SET v = 'b', id = 3 WHERE id = 1")
        writer.execute("DELETE FROM t WHERE id = 2")
        writer.execute("SELECT extract(epoch FROM now()) * 1000000")

    seen = collect(stream, commits(1))

    kinds = [type(m).__name__ for m in seen]
    assert kinds == ["Begin", "Message", "Relation", "Insert", "Insert", "Update", "Delete", "Commit"]
    begin, message, *_, update, delete, commit = seen
    assert isinstance(begin, Begin)
    assert isinstance(commit, Commit)
    assert (begin.final_lsn, begin.commit_ts_us) == (commit.commit_lsn, commit.commit_ts_us)
    assert commit.end_lsn > commit.commit_lsn
    assert abs(commit.commit_ts_us / 1e6 - time.time()) < 60
    assert isinstance(message, Message)
    assert (message.prefix, message.content, message.transactional) == ("ballast.actor", b"lin", True)
    assert isinstance(update, Update)
    assert (update.old, update.new) == ((b"1", None), (b"3", b"b"))
    assert isinstance(delete, Delete)
    assert (delete.old, delete.old_is_full) == ((b"2", None), False)


def test_a_batch_says_where_its_last_whole_transaction_ends(pg18: Database, streams: Connect) -> None:
    stream = streams(pg18)
    start = protected(pg18, stream)
    stream.start("s", start, ["p"])
    pg18.run(*(f"INSERT INTO t VALUES ({i}, repeat('x', 1000))" for i in range(30)))

    batches: list[Batch] = []
    while sum(b.commits for b in batches) < 30:
        batches.append(stream.receive(1.0, max_bytes=2500))

    for batch in batches:
        kinds = [type(m) for m in decoded(batch)]
        assert batch.commits == kinds.count(Commit)
        assert Commit not in kinds[batch.whole :]
        assert batch.bytes == sum(map(len, batch.messages)) < 2500 + 1100
        ends = [m.end_lsn for m in decoded(batch) if isinstance(m, Commit)]
        if ends:
            assert batch.end_lsn == ends[-1]
            assert batch.whole > 0
    assert len(batches) > 10


def test_a_synchronous_commit_returns_only_after_its_end_is_acknowledged(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    start = protected(pg, stream)
    stream.start("s", start, ["p"])
    make_synchronous(pg)
    wait_until_sync(stream, pg)

    writer = in_background(lambda: pg.run("INSERT INTO t VALUES (1, 'a')"))
    batch = stream.receive(5.0)
    while not batch.commits:
        batch = stream.receive(5.0)
    waiting_for = decoded(batch)[-1]
    assert isinstance(waiting_for, Commit)
    stream.feedback(waiting_for.commit_lsn, waiting_for.commit_lsn, waiting_for.commit_lsn)
    writer.join(0.7)
    waited = writer.is_alive()
    stream.durable(batch.end_lsn)
    stream.acknowledge(force=True)
    writer.join(5)

    assert waited, "the commit LSN alone must not release the client"
    assert not writer.is_alive()


def test_ddl_and_commits_of_other_databases_do_not_hang_on_a_synchronous_stream(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    start = protected(pg, stream)
    other = pg.another()
    other.run("CREATE TABLE elsewhere (id int)")
    stream.start("s", start, ["p"])
    make_synchronous(pg)
    wait_until_sync(stream, pg)

    took: list[float] = []

    def work() -> None:
        for database, statement in [
            (pg, "CREATE TABLE ddl_only (id int PRIMARY KEY)"),
            (other, "INSERT INTO elsewhere VALUES (1)"),
            (pg, "INSERT INTO t VALUES (1, 'a')"),
            (pg, "ALTER TABLE ddl_only ADD COLUMN x text"),
        ]:
            begun = time.monotonic()
            database.run(statement)
            took.append(time.monotonic() - begun)

    worker = in_background(work)
    keep_acknowledging(stream, [worker])

    assert not worker.is_alive(), f"hangs after {took}"
    assert max(took) < 1.0


def test_no_keepalive_is_acknowledged_past_a_commit_that_is_not_durable(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    start = protected(pg, stream)
    stream.start("s", start, ["p"])
    make_synchronous(pg)
    wait_until_sync(stream, pg)

    writer = in_background(lambda: pg.run("INSERT INTO t VALUES (1, 'a')"))
    batch = stream.receive(5.0)
    while not batch.commits:
        batch = stream.receive(5.0)
    changer = in_background(lambda: pg.run("CREATE TABLE later (id int)"))
    until = time.monotonic() + 0.7
    while time.monotonic() < until:  # keepalives come, with a wal_end past our commit
        stream.receive(0.05)
        stream.acknowledge(force=True)

    assert writer.is_alive()
    assert changer.is_alive()
    stream.durable(batch.end_lsn)
    stream.acknowledge()
    keep_acknowledging(stream, [writer, changer])
    assert not writer.is_alive()
    assert not changer.is_alive()


def test_a_stream_goes_on_from_our_own_position(pg: Database, streams: Connect) -> None:
    first = streams(pg)
    start = protected(pg, first)
    first.start("s", start, ["p"])
    pg.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
    seen = collect(first, commits(2), acknowledge=False)
    cut = next(m.end_lsn for m in seen if isinstance(m, Commit))
    first.close()

    again = streams(pg)
    deadline = time.monotonic() + 10
    while pg.query("SELECT 1 FROM pg_replication_slots WHERE active"):
        assert time.monotonic() < deadline
    again.start("s", cut, ["p"])
    seen = collect(again, commits(1))

    assert [m.new[0] for m in seen if isinstance(m, Insert)] == [b"2"]


def test_a_large_transaction_arrives_in_bounded_batches(pg18: Database, streams: Connect) -> None:
    stream = streams(pg18)
    start = protected(pg18, stream)
    stream.start("s", start, ["p"])
    pg18.run("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 60000) i")

    rows, batches = 0, []
    while not any(b.commits for b in batches):
        batch = stream.receive(2.0, max_bytes=1 << 20)
        stream.acknowledge(force=True)
        rows += sum(m[HEADER_BYTES] == ord("I") for m in batch.messages)
        batches.append(batch)

    assert rows == 60000
    assert max(b.bytes for b in batches) < (1 << 20) + 1000


def test_a_terminated_walsender_is_a_clean_error_after_what_it_had_sent(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    start = protected(pg, stream)
    stream.start("s", start, ["p"])
    pg.run("INSERT INTO t VALUES (1)")
    time.sleep(0.3)
    pg.run(f"SELECT pg_terminate_backend({stream.backend_pid}, 5000)")

    seen, ended = collect_to_the_end(stream, ReplicationError)

    assert any(isinstance(m, Commit) for m in seen)
    assert ended.sqlstate in ("57P01", "")
    with pytest.raises(ServerError):
        stream.receive(0)


def test_a_dropped_publication_ends_the_stream_on_16(pg16: Database, streams: Connect) -> None:
    stream = streams(pg16)
    start = protected(pg16, stream)
    stream.start("s", start, ["p"])
    pg16.run("INSERT INTO t VALUES (1)", "DROP PUBLICATION p", "INSERT INTO t VALUES (2)")

    seen, ended = collect_to_the_end(stream, PublicationLost)

    assert 'publication "p" does not exist' in str(ended)
    assert [m.new[0] for m in seen if isinstance(m, Insert)] == [b"1"]


def test_a_dropped_publication_is_noticed_on_18_and_nothing_after_it_is_acknowledged(
    pg18: Database, streams: Connect
) -> None:
    stream = streams(pg18)
    start = protected(pg18, stream)
    stream.start("s", start, ["p"])
    pg18.run("INSERT INTO t VALUES (1)")
    collect(stream, commits(1))
    acknowledged = stream.tracker.flush_lsn
    pg18.run("DROP PUBLICATION p")
    pg18.run("INSERT INTO t VALUES (2)", "SELECT pg_logical_emit_message(true, 'x', 'y')")
    last = pg18.query("SELECT pg_current_wal_lsn() - '0/0'")[0][0]

    seen, _ = collect_to_the_end(stream, IntegrityError)

    assert not any(isinstance(m, Message) for m in seen)
    assert [n.blinds for n in stream.notices] == [True] * len(stream.notices) != []
    assert acknowledged <= stream.tracker.flush_lsn < last
    with pytest.raises(PublicationLost):
        stream.receive(0)


def test_an_owner_may_choose_to_go_on_blind(pg18: Database, streams: Connect) -> None:
    stream = streams(pg18)
    start = protected(pg18, stream)
    stream.start("s", start, ["p"], stop_when_blind=False)
    pg18.run("DROP PUBLICATION p", "INSERT INTO t VALUES (2)", "SELECT pg_logical_emit_message(true, 'x', '')")

    seen = collect(stream, commits(1))

    assert [type(m) for m in seen] == [Begin, Message, Commit]
    assert any(n.blinds for n in stream.notices)


def test_refusals_say_what_to_do(pg: Database, streams: Connect) -> None:
    stream = streams(pg)
    protected(pg, stream)

    with pytest.raises(ReplicationError, match="already exists") as taken:
        stream.create_slot("s")
    with pytest.raises(ReplicationError, match="does not exist") as missing:
        stream.start("nowhere", 0, ["p"])

    assert taken.value.sqlstate == "42710"
    assert missing.value.sqlstate == "42704"
    assert stream.identify_system().database == pg.name  # the connection is still good


def test_a_slot_waits_for_running_transactions_but_not_for_ever(pg18: Database, streams: Connect) -> None:
    pg18.run("CREATE TABLE t (id int)")
    busy = pg18.connect(autocommit=False)
    busy.execute("INSERT INTO t VALUES (1)")
    stream = streams(pg18)

    with pytest.raises(ReplicationError, match="did not answer"):
        stream.create_slot("s", timeout_s=0.5)
    busy.rollback()


def test_a_temporary_slot_goes_with_its_connection(pg18: Database, streams: Connect) -> None:
    stream = streams(pg18)
    stream.create_slot("s", temporary=True)
    stream.close()

    deadline = time.monotonic() + 10
    while pg18.query("SELECT 1 FROM pg_replication_slots"):
        assert time.monotonic() < deadline


def test_no_server_is_an_error_with_advice(open_folder: Any) -> None:
    with pytest.raises(ReplicationError, match="No replication connection"):
        connect(f"host={open_folder} dbname=x", NAME)


def test_values_are_printed_alike_whatever_the_role_has_set(
    pg: Database, streams: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Shanghai")
    monkeypatch.setenv("PGDATESTYLE", "German")
    pg.run(
        f'ALTER DATABASE "{pg.name}" SET IntervalStyle = iso_8601',
        f'ALTER DATABASE "{pg.name}" SET bytea_output = escape',
        f'ALTER DATABASE "{pg.name}" SET extra_float_digits = 0',
    )
    stream = streams(pg)
    start = protected(pg, stream, "CREATE TABLE v (id int PRIMARY KEY, t timestamptz, i interval, b bytea, f float8)")
    stream.start("s", start, ["p"])
    pg.run(r"INSERT INTO v VALUES (1, '2024-02-03 04:05:06+00', '1 day 02:00', '\x00ff', 0.1::float8 + 0.2)")

    row = next(m for m in collect(stream, commits(1)) if isinstance(m, Insert))

    assert row.new == (b"1", b"2024-02-03 04:05:06+00", b"1 day 02:00:00", rb"\x00ff", b"0.30000000000000004")
