"""Nobody may blind the recorder unseen: a thread that proves, every few seconds, that the stream is complete.

Each look reads the fingerprint (fingerprint.py) and sends a canary (canaries.py). What differs from the baseline is judged
(differences.py); what only the stream can explain waits until the stream has passed the fingerprint's position (heard.py).

    a difference that may have cost changes   an alarm; a wish for an image, with a gap from the last position at which all
                                              was known to be well. It is durable before anything else happens
    … and capture is still broken             nothing is acknowledged, it is repaired where the owner's intent is plain
                                              (repair.py), and the wish is held until all is whole again
    … and it is over (VACUUM FULL)            acknowledging goes on: what comes now does come through
    a weaker promise (synchronous_commit off) an alarm, as long as it lasts

The position "known to be well" is that of a clean look some seconds ago, not of the last one: a commit that waits for a
standby takes effect in the stream before it can be seen in the catalog.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError
from ballast.postgres import session
from ballast.postgres.lsn import format_lsn
from ballast.vault import repair, standing, wish
from ballast.vault.canaries import Canaries
from ballast.vault.config import Config
from ballast.vault.differences import Difference, compare, compare_apart_from_tables
from ballast.vault.fingerprint import Baseline, Fingerprint, read_baseline, replace_baseline, take_fingerprint
from ballast.vault.heard import Heard
from ballast.vault.incident import NOT_OURS, Incidents, Watched, blinding
from ballast.vault.logbook import Logbook
from ballast.vault.sequences import SequenceWatch
from ballast.vault.token import read_tokens, token_in_use

_TICK_S = 0.1
_AFTER_DDL_S = 0.2
"""The stream tells of a change just before the catalog shows it: its commit waits for our own acknowledgement."""
_AT_MOST_EVERY_S = 1.0
_FOR_STREAM_S = 1.0
_SETTLED_S = 2.0
_OVERDUE_S = 30.0
_EVERYTHING_EVERY_S = 300.0
"""Where no event triggers tell of structure."""

NO_BASELINE = "it is not known how this server should be, so nobody would notice a change: run `ballast protect`"


class Guardian:
    """`run` in a thread of its own; `canary_seen` and `heard` are the receiver's to call."""

    def __init__(self, settings: Config, timeline: int, log: Logbook) -> None:
        self._settings, self._log = settings, log
        self._state_dir = settings.state_dir
        self._every_s = settings.record.check_every_s
        self._conn: psycopg.Connection[Any] | None = None
        self._receiver: Watched
        self._canaries, self._sequences, self._heard = Canaries(), SequenceWatch(), Heard()
        self._timeline = timeline
        self._incidents = Incidents(settings, timeline, log, self._canaries)
        self._unjudged: Fingerprint | None = None
        self._clean: tuple[float, int] | None = None
        self._passed_over = 0
        self._compare_at = 0.0
        self._sounded: set[str] = set()
        self.alarms: tuple[str, ...] = ()
        """For the health file: what is wrong now, and what was and is not imaged yet."""
        self.checks = 0

    def canary_seen(self, nonce: str) -> None:
        """It came out of the stream."""
        self._canaries.seen(nonce)

    def hear(self, messages: Sequence[bytes]) -> None:
        """A batch as it was received."""
        self._heard.hear(messages)

    def watch(self, receiver: Watched) -> None:
        """Before the receiver runs: what was broken when the last recorder ended is broken still."""
        self._receiver = receiver
        self._heard.tokens = read_tokens(self._state_dir)
        baseline = None
        with contextlib.suppress(BallastError):  # said by the first look
            baseline = read_baseline(self._state_dir)
        self._incidents.watch(receiver, baseline)

    # When to look

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`. Its own troubles are alarms, and never end it."""
        while not stop.is_set():
            seen = self._signs()
            try:
                self.look(stop)
            except (psycopg.Error, BallastError, OSError) as error:
                self._cannot_look(str(error).strip())
            except Exception as error:
                self._log.error("bug", step="guardian", reason=repr(error))
                self._cannot_look(repr(error))
            self._wait(stop, seen)
        self._disconnect()

    def _signs(self) -> tuple[int, int, bool]:
        """When one of them changes it is worth looking at once."""
        return self._heard.messages, self._receiver.connections, bool(self._receiver.blind_because)

    def _wait(self, stop: threading.Event, seen: tuple[int, int, bool]) -> None:
        began = time.monotonic()
        until = began + self._every_s
        while (now := time.monotonic()) < until and not stop.wait(min(_TICK_S, max(until - now, 0))):
            if (signs := self._signs()) != seen:
                seen = signs
                until = min(until, max(began + min(_AT_MOST_EVERY_S, self._every_s), time.monotonic() + _AFTER_DDL_S))

    # One look

    def look(self, stop: threading.Event) -> None:
        """Compare, judge, and do what must be done."""
        self._heard.tokens = read_tokens(self._state_dir)
        baseline = read_baseline(self._state_dir)
        if baseline is None:
            self._tell([], [NO_BASELINE])
            return
        conn = self._connected()
        now = take_fingerprint(conn, self._settings.publication, self._settings.slot)
        found = compare_apart_from_tables(baseline.fingerprint, now)
        if any(d.kind == "server" for d in found):
            self._tell(found)
            return  # nothing of ours is written to another server; the receiver ends by itself
        self._look_for_canary()
        if self._canaries.lost:
            found.append(_LOST)
        if blinding(found) or baseline.incident is not None:
            baseline = self._meet(conn, baseline, now, blinding(found))
        elif self._receiver.blind_because:
            self._incidents.blind_by_itself(conn, baseline)
        more = self._send(conn, baseline)
        if baseline.incident is None:
            found += self._judge_tables(conn, baseline, stop)
        more += self._see_to_dump(conn, baseline.fingerprint)
        self._tell(found, more)
        self.checks += 1

    def _look_for_canary(self) -> None:
        durable_lsn, passed_over = self._receiver.durable_lsn, self._receiver.passed_over_lsn  # in this order
        if passed_over != self._passed_over:
            self._passed_over = passed_over
            self._canaries.forget()  # it may lie in the gap that the receiver has found and noted
        self._canaries.look(durable_lsn)

    def _judge_tables(
        self, conn: psycopg.Connection[Any], baseline: Baseline, stop: threading.Event
    ) -> list[Difference]:
        """What the stream may explain: as soon as it has come so far. Clean: the baseline follows."""
        now, was = self._unjudged, baseline.fingerprint
        if now is None or now.position < was.position:
            now = self._unjudged = take_fingerprint(conn, self._settings.publication, self._settings.slot)
        deadline = time.monotonic() + _FOR_STREAM_S
        while self._receiver.durable_lsn < now.position:
            if time.monotonic() > deadline or stop.wait(0.02):
                return []
        self._unjudged = None
        found = compare(was, now, self._heard.told())
        if blinding(found):
            self._meet(conn, baseline, now, blinding(found))
            return found
        if not was.event_triggers:  # then nobody but us gives a new table an identity
            for oid in now.tables.keys() - was.tables.keys():
                repair.settle(conn, int(oid), now.tables[oid].name, self._log)
        self._follow(baseline, now)
        return [d for d in found if not d.blinds]

    def _meet(
        self, conn: psycopg.Connection[Any], baseline: Baseline, now: Fingerprint, found: list[Difference]
    ) -> Baseline:
        self._sound(found, baseline.good_lsn)
        baseline = self._incidents.meet(conn, baseline, now, found)
        if baseline.incident is None:
            self._unjudged = None
        return baseline

    def _follow(self, baseline: Baseline, now: Fingerprint) -> None:
        """All is well: what has changed since was in order."""
        self._incidents.release()  # what a recorder that was killed may have left
        good, at = baseline.good_lsn, time.monotonic()
        if self._clean is None or at - self._clean[0] >= _SETTLED_S:
            good = max(good, self._clean[1]) if self._clean is not None else good
            self._clean = (at, now.position)
        was = baseline.fingerprint  # settings are what they were at `protect`: an alarm lasts as long as its cause
        adopted = msgspec.structs.replace(now, settings=was.settings, overrides=was.overrides)
        replace_baseline(self._state_dir, baseline, Baseline(adopted, good))

    # The canary, and the sequences with it

    def _send(self, conn: psycopg.Connection[Any], baseline: Baseline) -> list[str]:
        """What could not be sent, for the alarms."""
        if self._canaries.under_way_s:
            late = self._canaries.under_way_s
            if late > _OVERDUE_S and self._receiver.state == "recording":
                return [f"nothing has come through for {late:.0f} s"]
            return []
        if baseline.incident is not None and not self._canaries.lost:
            return []  # it would be lost for a reason that is known
        try:
            with conn.transaction():
                self._canaries.write(conn)
            row = conn.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
            assert row is not None
            self._canaries.sent(row[0])
        except psycopg.Error as error:
            if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
                repair.recreate_canary(conn, self._log, token_in_use(self._state_dir))
            return [_refused("the canary cannot be written", error)]
        try:
            with conn.transaction():
                self._sequences.tell(conn, token_in_use(self._state_dir))
        except psycopg.Error as error:
            self._sequences.forget()
            return [_refused("the values of sequences cannot be told", error)]
        return []

    def _see_to_dump(self, conn: psycopg.Connection[Any], expected: Fingerprint) -> list[str]:
        """No event trigger tells of roles; at the start, not of what an earlier version of ours did not heed either. Where there
        are none, of nothing."""
        everything = time.monotonic() >= self._compare_at
        try:
            if not standing.is_dumped(conn, self._state_dir, self._timeline, everything=everything):
                standing.ask_for_dump(self._state_dir, self._timeline)
        except psycopg.Error as error:
            return [_refused("whether roles have changed cannot be seen", error)]
        if everything:
            self._compare_at = float("inf") if expected.event_triggers else time.monotonic() + _EVERYTHING_EVERY_S
        return []

    # Alarms

    def _sound(self, differences: Iterable[Difference], good_lsn: int) -> None:
        for difference in differences:
            if difference.text not in self._sounded:
                self._sounded.add(difference.text)
                self._log.alarm(
                    "capture_changed", kind=difference.kind, subject=difference.subject, was=difference.was,
                    now=difference.now, meaning=difference.meaning, blinds=difference.blinds, good_lsn=good_lsn,
                )  # fmt: skip

    def _tell(self, differences: Sequence[Difference], more: Iterable[str] = ()) -> None:
        """The alarms of this moment; each is logged when it is new."""
        self._sound([d for d in differences if not d.blinds or d.kind in NOT_OURS], 0)
        more = list(more)
        for text in more:
            if text not in self._sounded:
                self._log.alarm("guardian", reason=text)
        gaps = [
            f"coverage gap from {format_lsn(w.from_lsn)} until a new image is taken: {w.reason}"
            for w in wish.pending(self._state_dir)
            if w.from_lsn is not None
        ]
        self._sounded = {*(d.text for d in differences), *more}
        self.alarms = tuple(dict.fromkeys([*(d.text for d in differences), *more, *gaps]))

    def _cannot_look(self, reason: str) -> None:
        text = f"nobody can say whether the stream is complete: {reason}"
        if text not in self._sounded:
            self._log.warning("cannot_guard", reason=reason)
        self._sounded.add(text)
        self.alarms = (text, *(a for a in self.alarms if a.startswith("coverage gap")))
        if self._conn is not None and (self._conn.broken or self._conn.closed):
            self._conn = None

    # Its connection

    def _connected(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            conn = session.connect(
                self._settings.dsn, application_name="ballast guardian", connect_timeout=5, tcp_user_timeout=10_000
            )
            # Not as an option of the connection: the fingerprint shows what new sessions have.
            conn.execute("SET synchronous_commit = local")
            conn.execute("SET statement_timeout = '10s'")
            conn.execute("SET lock_timeout = '2s'")
            self._conn = conn
            self._sequences.forget()
        return self._conn

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


_LOST = Difference("canary", "canary", "sent", "not received", "what is written does not come through", None)


def _refused(what: str, error: psycopg.Error) -> str:
    if not error.sqlstate:
        raise error  # the connection is gone
    return f"{what}: {str(error).strip().splitlines()[0]}"
