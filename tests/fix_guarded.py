"""`guarded`: a recording that is looked after by the guardian, for tests that try to blind it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ballast.postgres import pgoutput, session
from ballast.postgres.lsn import parse_lsn
from ballast.vault import frames, server, wish
from ballast.vault.fingerprint import read_baseline, take_fingerprint, write_baseline
from ballast.vault.wish import Wish
from tests.fix_postgres import Database
from tests.fix_recorder import TOKEN, Recording

CHECK_S = 0.5
WITHIN_S = 10.0
"""A few looks, on a machine that has other things to do."""

LIST = "CREATE PUBLICATION ballast FOR TABLE t, u, ballast.canary WITH (publish_via_partition_root = false)"


class Guarded(Recording):
    """A recording with what the guardian rests on: our objects, event triggers, the baseline."""

    def __init__(self, db: Database, folder: Any, publication: str = "", **record: Any) -> None:
        self.publication = publication
        super().__init__(db, folder, check_every_s=CHECK_S, **record)

    def publish(self) -> None:
        self.db.run("CREATE TABLE u (id bigint PRIMARY KEY, body text)")
        with session.connect(self.db.dsn) as conn:
            server.install(conn, "tenant_id", {"public.t": ["id"], "public.u": ["id"]}, lambda _: TOKEN)
            assert server.install_event_triggers(conn) is None
        if self.publication:
            self.db.run(self.publication)
        else:
            super().publish()

    def protect(self) -> None:
        super().protect()
        with session.connect(self.db.dsn) as conn:
            write_baseline(self.config.state_dir, take_fingerprint(conn, "ballast", "ballast"))

    @property
    def good_lsn(self) -> int:
        """Up to where all is known to be well."""
        baseline = read_baseline(self.config.state_dir)
        assert baseline is not None
        return baseline.good_lsn

    def guard(self) -> None:
        """Recording, and looked at at least once since."""
        self.start()
        self.clean()

    def clean(self) -> None:
        """Until one more clean look is behind us."""
        before = self._position()
        self.until(lambda: self._position() > before, "a clean look", WITHIN_S)

    def _position(self) -> int:
        baseline = read_baseline(self.config.state_dir)
        assert baseline is not None
        return baseline.fingerprint.position

    def lsn(self) -> int:
        """Where production's WAL ends."""
        ((lsn,),) = self.db.query("SELECT pg_current_wal_insert_lsn()::text")
        return parse_lsn(lsn)

    def alarm(self, *words: str) -> str:
        """Until the health file has an alarm with these words; the alarm."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [a for a in self.health.alarms if all(word in a for word in words)]
            return bool(found)

        self.until(there, f"an alarm with {words}", WITHIN_S)
        return found[0]

    def logged(self, *words: str) -> None:
        """Until an alarm in the log says so."""

        def there() -> bool:
            lines = self.log("capture_changed") + self.log("gap_begins") + self.log("blind") + self.log("guardian")
            return any(all(word in str(line) for word in words) for line in lines)

        self.until(there, f"{words} in the log", WITHIN_S)

    def gap(self, *, before: int, tables: tuple[str, ...] | None = None) -> Wish:
        """Until an image is wished for with a gap from before `before`, and nothing holds it any more."""
        oids = None
        if tables is not None:
            rows = self.db.query("SELECT oid::bigint FROM pg_class WHERE relname = ANY (%s) ORDER BY 1", list(tables))
            oids = tuple(oid for (oid,) in rows)
        found: list[Wish] = []

        def there() -> bool:
            wishes = wish.pending(self.config.state_dir)
            found[:] = [w for w in wishes if w.kind == "image" and not w.held and w.oids == oids]
            return bool(found)

        self.until(there, f"a wish for an image of {tables}: {wish.pending(self.config.state_dir)}", WITHIN_S)
        assert found[0].from_lsn is not None
        assert found[0].from_lsn <= before, "the gap begins after what was lost"
        return found[0]

    def whole(self) -> None:
        """Until what is written is acknowledged and recorded again."""
        rows: set[int] = set()

        def one_comes_through() -> bool:  # the first may still be part of the gap
            rows.add(int(time.time() * 1000))
            self.db.run(f"INSERT INTO t VALUES ({max(rows)})")
            time.sleep(0.5)
            return bool(rows & self.ids()) and self.health.state == "recording"

        self.until(one_comes_through, "a row to come through", 20.0)
        self.until(lambda: self.health.acknowledged_lsn >= self.health.durable_lsn > 0, "acknowledging", WITHIN_S)


New = Callable[..., Guarded]


@pytest.fixture
def guarded(open_folder: Any) -> Iterator[New]:
    made: list[Guarded] = []

    def new(db: Database, **more: Any) -> Guarded:
        folder = open_folder / f"guarded{len(made)}"
        folder.mkdir()
        made.append(Guarded(db, folder, acknowledge=more.pop("acknowledge", "off"), **more))
        return made[-1]

    yield new
    for recording in made:
        recording.configure(on_recorder_loss="wait")
        for process in recording.started:
            if process.poll() is None:
                process.kill()
                process.wait()


def assert_nobody_had_to_wait(recording: Recording) -> None:
    """And nothing is missing."""
    assert not recording.log("blind")
    assert not recording.log("gap_begins")


def contents(recording: Recording, prefix: str) -> list[bytes]:
    """Of all messages with that prefix in the spool."""
    found = []
    for payload in recording.payloads():
        for _, message in frames.messages(payload):
            if message[0] == ord("M"):
                decoded = pgoutput.decode(message)
                if isinstance(decoded, pgoutput.Message) and decoded.prefix == prefix:
                    found.append(decoded.content)
    return found


def said(recording: Recording, prefix: str) -> str:
    """The same as one text."""
    return b"\n".join(contents(recording, prefix)).decode()
