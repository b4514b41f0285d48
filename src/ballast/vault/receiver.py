"""The receiving loop: take what has arrived, write it, fdatasync once, say so. Everything else is kept out of it.

What production is told is never more than what is durable here, and nothing at all while somebody has reason to
doubt that the stream is complete (`blinded`) or a gap is not yet written into the vault. The connection is then kept:
who chose to wait for the recorder waits, and no watchdog takes a silent recorder for a lost one.

The spool alone says where to begin. A server that crashed has forgotten acknowledgements and would send again from
the slot's position; a slot that stands further than the spool is a gap, a log that ends before it is a fork.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg

from ballast.errors import SpoolFull
from ballast.postgres import replication
from ballast.postgres.pgoutput import EPOCH_US
from ballast.postgres.replication import HEADER_BYTES, Batch, PublicationLost, Replication, ReplicationError
from ballast.vault import health, wish
from ballast.vault.canary import CanaryWatch
from ballast.vault.continuation import Missing, Origin, SlotLost, SlotTaken, examine, left_timeline
from ballast.vault.durable import remove_file, replace_file
from ballast.vault.failpoints import reach
from ballast.vault.health import GAP_FILE, SERVER_FILE, PendingGap, ServerSeen, State, now_iso
from ballast.vault.logbook import Logbook
from ballast.vault.slot import SlotState
from ballast.vault.spool import Spool

_IDLE_S = 0.25
_STORE_IDLE_S = 0.01
_SPEAK_EVERY_S = 1.0
_LOOK_EVERY_S = 0.1
_SYNC_AT_BYTES = 4 << 20
_LARGE_BYTES = 1 << 20
"""Of the stream: some 20,000 deleted rows. Sealing so much takes a good part of a tenth of a second."""
_RETRY_FULL_S, _LONGEST_FULL_S = 1.0, 15.0
_FIRST_WAIT_S = 0.2
_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")
_COMMIT_TIME_AT = HEADER_BYTES + 18  # 'C', flags, commit LSN, end LSN, time
_SLOT_IS_UNUSABLE = ("42704", "55000")


class Receiver:
    """One thread runs it; the methods under "told by others" may be called by any.

    `in_store` (`acknowledge = "store"`) tells the cut up to which the vault's store has everything: no later one is
    acknowledged then."""

    def __init__(
        self,
        *,
        dsn: str,
        slot: str,
        publication: str,
        origin: Origin,
        spool: Spool,
        state_dir: Path,
        log: Logbook,
        read_slot: Callable[[], SlotState | None],
        on_blind: Literal["stop", "continue"] = "stop",
        on_gap: Callable[[PendingGap], None] = lambda gap: None,
        on_canary: Callable[[str], None] = lambda nonce: None,
        on_messages: Callable[[Sequence[bytes]], None] = lambda messages: None,
        in_store: Callable[[], int] | None = None,
        longest_wait_s: float = 10.0,
    ) -> None:
        self._dsn, self._slot, self._publication = dsn, slot, publication
        self._origin, self._spool, self._state_dir, self._log = origin, spool, state_dir, log
        self._read_slot = read_slot
        self._go_on_blind = on_blind == "continue"
        self._on_gap, self._on_canary, self._on_messages = on_gap, on_canary, on_messages
        self._in_store = in_store
        self._content_lsn = 0
        self._stop = threading.Event()
        self._blind = ""
        self._gap = health.read_state(state_dir, GAP_FILE, PendingGap)
        self._pass_blind_until = 0
        self._canary = CanaryWatch()
        self._nonces: list[str] = []
        self._wait_s, self._longest_wait_s = _FIRST_WAIT_S, longest_wait_s
        self._full_at = -1
        self._full_wait_s = _RETRY_FULL_S
        self._target = 0
        self._spoke_at = self._looked_at = 0.0
        self._closed_for: set[str] = set()

        self.state: State = "starting"
        self.reason = ""
        self.since = now_iso()
        self.durable_lsn = 0
        self.received_lsn = 0
        self.acknowledged_lsn = 0
        self.began_lsn = 0
        """Where this connection began."""
        self.streaming = False
        """Whether the server sends to us."""
        self.batches = self.commits = self.reconnects = self.connections = 0
        self.publication_losses = 0
        """How often the stream has come to a place where there was no publication."""
        self.passed_over_lsn = 0
        """End of the last gap that was found: what lies before it and was not received will not come."""
        self.last_commit_us: int | None = None

    # Told by others

    def stop(self) -> None:
        """End `run` within half a second."""
        self._stop.set()

    def blinded(self, reason: str) -> None:
        """The stream may lack changes: acknowledge nothing from here on (unless the owner chose availability)."""
        if not self._blind:
            self._blind = reason
            self._log.alarm("blind", reason=reason, acknowledging=self._go_on_blind, durable_lsn=self.durable_lsn)

    def clear(self) -> None:
        """What `blinded` said is repaired, and the time until now is a gap in the vault."""
        if self._blind:
            self._log.info("blind_no_more", reason=self._blind)
            self._blind = ""

    def gap_handled(self) -> None:
        """The pending gap is in the vault."""
        if self._gap is not None:
            self._log.info("gap_handled", from_lsn=self._gap.from_lsn, to_lsn=self._gap.to_lsn)
            remove_file(self._state_dir / GAP_FILE)
            self._gap = None

    # Read by others

    @property
    def pending_gap(self) -> PendingGap | None:
        """A gap that is not in the vault yet."""
        return self._gap

    @property
    def blind_because(self) -> str:
        """What `blinded` was told last and nobody has cleared yet; ""."""
        return self._blind

    @property
    def silent_because(self) -> str:
        """Why nothing is acknowledged; "" if it is."""
        if self._go_on_blind:
            return ""
        if self._blind:
            return self._blind
        return "a gap is not yet written into the vault" if self._gap else ""

    @property
    def last_commit_at(self) -> str | None:
        """Commit time of the newest recorded commit, by production's clock (ISO, UTC)."""
        if self.last_commit_us is None:
            return None
        return datetime.fromtimestamp(self.last_commit_us / 1e6, UTC).isoformat(timespec="microseconds")

    @property
    def caught_up(self) -> bool:
        """Whether everything was acknowledged that the server had when this connection began."""
        return self.state == "recording"

    # The loop

    def run(self) -> None:
        """Record until `stop`. Fork where a person must decide; the connection's own troubles never end it."""
        while not self._stop.is_set():
            try:
                if self._spool_is_ready():
                    with replication.connect(self._dsn, self._slot) as stream:
                        self._begin(stream)
                        self.streaming = True
                        self._receive(stream)
            except SpoolFull as error:
                self._is_full(str(error))
            except OSError as error:
                full = error.errno in health.NO_ROOM
                self._is_full(f"The disk of {self._state_dir} is full." if full else f"{self._state_dir}: {error}.")
            except SlotLost as error:
                self._again("slot_lost", error)
            except PublicationLost as error:
                self.publication_losses += 1
                self.blinded(str(error))
                self._again("blind", error)
            except (ReplicationError, SlotTaken, psycopg.Error) as error:
                lost = getattr(error, "sqlstate", "") in _SLOT_IS_UNUSABLE
                self._again("slot_lost" if lost else "connecting", error)
            finally:
                self.streaming = False
        self._enter("stopped", "")

    def _is_full(self, reason: str) -> None:
        """What does not fit is sent again from its beginning at every try: less often where it did not help last time."""
        helped = self._full_at != self._spool.durable
        self._full_at = self._spool.durable
        self._full_wait_s = _RETRY_FULL_S if helped else min(2 * self._full_wait_s, _LONGEST_FULL_S)
        self._enter("spool_full", reason)

    def _spool_is_ready(self) -> bool:
        """Without the connection half a transaction is worth nothing, and what was not synced is sent again."""
        if self.state == "spool_full" and self._stop.wait(self._full_wait_s):
            return False
        cut_before = self._spool.cut_bytes
        self._spool.cut()
        if self._spool.cut_bytes > cut_before:
            self._log.info("spool_cut", bytes=self._spool.cut_bytes - cut_before, durable_lsn=self._spool.durable)
        self._spool.rotate_if_due()  # also while the server is away: what was recorded is to be in the vault soon
        if not self._spool.has_room():
            self._enter("spool_full", "Disk or limit leave no room; the sealer must drain the spool first.")
            return False
        return True

    def _begin(self, stream: Replication) -> None:
        server = stream.identify_system()
        durable = self._spool.durable
        slot = self._read_slot()
        missing = examine(
            self._origin,
            durable,
            server,
            slot,
            left_at=self._left_at(stream, server.timeline),
            slot_name=self._slot,
        )
        if missing is not None and slot is not None and slot.active:
            raise SlotTaken(
                f"The replication slot {self._slot} is active: another recorder reads it.",
                "Stop one of the two. A second recorder needs a slot, a state_dir and a vault of its own.",
            )
        if missing is not None:
            self.passed_over_lsn = missing.to_lsn
            self._note_gap(missing)
            self._spool.rotate(gap_to=missing.to_lsn)
        elif self._gap is not None:
            self._on_gap(self._gap)  # found by a former process
        seen = ServerSeen(server.timeline)
        if health.read_state(self._state_dir, SERVER_FILE, ServerSeen) != seen:
            health.write_state(self._state_dir, SERVER_FILE, seen)
        passing = self._go_on_blind or (bool(self._pass_blind_until) and not self._blind)
        stream.start(self._slot, self._spool.durable, [self._publication], stop_when_blind=not passing)
        self._canary = CanaryWatch()
        self._nonces.clear()
        self.connections += 1
        self._target = server.flush_lsn
        self.began_lsn = self.durable_lsn = self.received_lsn = self._spool.durable
        self.acknowledged_lsn = 0  # on this connection
        self._content_lsn = self._spool.durable  # what the spool holds from before counts as well
        self._log.info(
            "streaming", start_lsn=self._spool.durable, server_lsn=server.flush_lsn, backend_pid=stream.backend_pid
        )
        if self.state != "spool_full" or self._full_at != self._spool.durable:
            self._enter("catching_up", "")

    def _left_at(self, stream: Replication, timeline: int) -> int | None:
        seen = health.read_state(self._state_dir, SERVER_FILE, ServerSeen)
        if seen is None or seen.timeline == timeline:
            return None
        left = left_timeline(stream.timeline_history(timeline), seen.timeline)
        return 0 if left is None else left

    def _note_gap(self, missing: Missing) -> None:
        """Durably, before anything is recorded after it: a crash must not make it forgotten."""
        gap = PendingGap(
            timeline=self._origin.timeline,
            from_lsn=missing.from_lsn if self._gap is None else min(self._gap.from_lsn, missing.from_lsn),
            to_lsn=missing.to_lsn,
            reason="the slot had moved on without this recorder (recreated, or read by somebody else)",
            detected_at=now_iso(),
        )
        replace_file(self._state_dir / GAP_FILE, msgspec.json.encode(gap))
        self._gap = gap
        self._log.alarm("gap", from_lsn=gap.from_lsn, to_lsn=gap.to_lsn, reason=gap.reason)
        self._on_gap(gap)

    def _receive(self, stream: Replication) -> None:
        receive, tracker = stream.receive, stream.tracker
        idle_s = _IDLE_S if self._in_store is None else _STORE_IDLE_S
        while not self._stop.is_set():
            try:
                batch = receive(idle_s)
            except PublicationLost as error:
                self.publication_losses += 1
                self.blinded(str(error))
                self._enter("blind", str(error))
                self._stay_connected(stream)
                return
            if batch.messages or tracker.flush_lsn > self.durable_lsn:
                self._record(stream, batch)
            now = time.monotonic()
            self._speak(stream, now, asked=batch.reply_requested)
            if now - self._looked_at > _LOOK_EVERY_S:
                self._looked_at = now
                self._look_around(stream)

    def _record(self, stream: Replication, batch: Batch) -> None:
        reach("receiver.received")
        # Tells the tracker in advance, so that it names the cut which this batch reaches; the server is told in
        # `_speak`, after the sync. Should that fail, the connection ends and the tracker with it.
        stream.durable(batch.end_lsn)
        cut = stream.tracker.flush_lsn
        spool = self._spool
        self._on_messages(batch.messages)
        whole = _payload(batch.messages[: batch.whole])
        rest = _payload(batch.messages[batch.whole :])
        news = bool(whole) or cut > spool.durable
        spool.append(whole, cut if news else None, rest)
        reach("receiver.written")
        if news or spool.undurable_bytes > _SYNC_AT_BYTES:
            durable = spool.sync()
            reach("receiver.synced")
            self._look_for_canary(whole)
            self.durable_lsn = durable  # not before: who sees it must know of every canary up to here
            if whole:
                self._content_lsn = self.durable_lsn
        if rest:
            if spool.undurable_bytes > _LARGE_BYTES:
                spool.set_apart()
            self._nonces += self._canary.look(rest)
        self.received_lsn = stream.tracker.received_lsn
        self.batches += 1
        if batch.commits:
            self.commits += batch.commits
            (sent_at,) = _I64.unpack_from(batch.messages[batch.whole - 1], _COMMIT_TIME_AT)
            self.last_commit_us = sent_at + EPOCH_US

    def _look_for_canary(self, whole: bytes) -> None:
        """It counts with its commit, which may come a batch later than its row."""
        if whole:
            for nonce in [*self._nonces, *self._canary.look(whole)]:
                self._on_canary(nonce)
            self._nonces.clear()

    def _speak(self, stream: Replication, now: float, *, asked: bool) -> None:
        """Report what may be reported, when it is news, when the server asks, and once a second."""
        allowed = self.durable_lsn if self._in_store is None else self._stored()
        news = allowed > self.acknowledged_lsn and not self.silent_because
        if not news and not asked and now - self._spoke_at < _SPEAK_EVERY_S:
            return
        lsn = allowed if news else self.acknowledged_lsn
        stream.feedback(lsn, lsn, lsn)
        self.acknowledged_lsn = lsn
        self._spoke_at = now
        if news:
            reach("receiver.acknowledged")

    def _stored(self) -> int:
        """How far the store has everything. Cuts after which nothing was committed need no object of their own."""
        assert self._in_store is not None
        stored = self._in_store()
        if stored < self._content_lsn:
            self._spool.rotate_if_due()
        return self.durable_lsn if stored >= self._content_lsn else min(stored, self.durable_lsn)

    def _look_around(self, stream: Replication) -> None:
        """What need not be done for every batch."""
        self._spool.rotate_if_due()
        self._close_for_sealing()
        for notice in stream.notices:
            self._log.warning("server_says", severity=notice.severity, message=notice.message, detail=notice.detail)
            if notice.blinds and self.received_lsn >= self._pass_blind_until:
                self.blinded(f"the server says: {notice.message}")
        stream.notices.clear()
        if self.silent_because:
            self._enter("blind" if self._blind else "gap", self.silent_because)
        elif self.acknowledged_lsn >= self._target:
            self._wait_s = _FIRST_WAIT_S
            self._enter("recording", "")
        elif self.state in ("blind", "gap") or (self.state == "spool_full" and self.durable_lsn != self._full_at):
            self._enter("catching_up", "")

    def _close_for_sealing(self) -> None:
        """Somebody asks that all be sealed now: what is in the open file can be. Once a wish, since the store may be away."""
        asked = {one.id for one in wish.pending(self._state_dir) if one.kind == "seal"}
        if asked - self._closed_for and self._spool.rotate_if_due(at_once=True) is not None:
            self._closed_for = asked

    def _pause(self, seconds: float) -> None:
        """While there is no connection. The server may be lost for good: what was recorded by now is to be in the vault soon."""
        until, at_once = time.monotonic() + seconds, True
        while True:
            with contextlib.suppress(SpoolFull, OSError):  # it is found again at the next connection
                self._spool.cut()
                self._spool.rotate_if_due(at_once=at_once)
                self._close_for_sealing()
            at_once = False
            if self._stop.wait(max(0.0, min(_LOOK_EVERY_S, until - time.monotonic()))) or time.monotonic() >= until:
                return

    def _stay_connected(self, stream: Replication) -> None:
        """Say "still here, nothing new" until somebody clears it; what follows is streamed anew then."""
        while self._blind and not self._stop.wait(_IDLE_S):
            self._speak(stream, time.monotonic(), asked=False)
        # The server will warn again while it sends what was committed without the publication: that is the gap.
        self._pass_blind_until = self._read_server_lsn()

    def _read_server_lsn(self) -> int:
        slot = self._read_slot()
        return slot.server_lsn if slot is not None else 0

    def _again(self, state: State, error: Exception) -> None:
        """Wait before the next connection, longer each time until one holds."""
        self.reconnects += 1
        if self._blind and state == "connecting":
            state = "blind"
        self._enter(state, str(error))
        fields: dict[str, Any] = {"reason": str(error), "wait_s": self._wait_s, "durable_lsn": self._spool.durable}
        if state == "connecting":
            self._log.warning("reconnecting", **fields)
        else:
            self._log.alarm(state, **fields)
        self._pause(self._wait_s)
        self._wait_s = min(self._wait_s * 2, self._longest_wait_s)

    def _enter(self, state: State, reason: str) -> None:
        if state != self.state:
            level = "info" if state in ("starting", "recording", "catching_up", "connecting", "stopped") else "alarm"
            self._log.write(
                level,  # type: ignore[arg-type]
                "state",
                state=state,
                before=self.state,
                reason=reason,
                durable_lsn=self.durable_lsn,
            )
            self.since = now_iso()
            self.state = state
        self.reason = reason


def _payload(messages: list[bytes]) -> bytes:
    """As the spool keeps them: the length and the start LSN (as it came) before each message of pgoutput."""
    pack = _U32.pack
    return b"".join([part for m in messages for part in (pack(len(m) - HEADER_BYTES), m[1:9], m[HEADER_BYTES:])])
