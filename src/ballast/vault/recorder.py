"""`ballast record`: the receiving loop in the main thread, and all that must go on beside it.

    main thread     receiver: stream → spool → fdatasync → acknowledge
    supervisor      every second: health file, arming, the slot's WAL, children; here
    guardian        its own thread: whether somebody has made the stream incomplete
    sealer          a child process, as the following: it may be slow, large or dead without a commit waiting for it
    imager, merge   run now and then: when an image is wished for, and when it is time to merge
    watchdog        a process that outlives this one, where commits are not to wait for a lost recorder

Nothing in this process may be heavy: whatever Python computes in another thread, the main thread waits for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError, ConfigError, FencedError, SpoolFull, StoreError
from ballast.vault import arming, config, health, origin, watchdog, wish
from ballast.vault.children import Children
from ballast.vault.continuation import Fork, Origin
from ballast.vault.durable import keep_private, make_folder, remove_file
from ballast.vault.guardian import Guardian
from ballast.vault.health import PendingGap, RecorderHealth, now_iso
from ballast.vault.logbook import Logbook
from ballast.vault.origin import BEGUN_FILE, ORIGIN_FILE
from ballast.vault.receiver import Receiver
from ballast.vault.slot import SlotState, read_slot
from ballast.vault.spool import Spool, usage
from ballast.vault.standby import Standbys, read_standbys

_TICK_S = 1.0
_FIRST_TICK_S = 0.2
"""Until commits wait for it: they may be lost with production until then."""
_ASK_AGAIN_S = 5.0
_NEAR_BYTES = 16 << 20
_WATCHDOG_AGAIN_S = 15.0
_PASSED_OVER_TICKS = 5
_SEAL_ALL_S = 300.0
"""How long the sealer may take to seal what the spool holds when the recorder is stopped."""
_WAITED_FOR_S = 0.05
"""With `acknowledge = "store"`: how long commits are collected for one segment."""
_SWITCH_S = 0.0005
"""How long another thread may keep the receiving loop from running (Python's own default is ten times that)."""


class Recorder:
    """One run of `ballast record`. `run` returns when `stop` was called or SIGTERM or SIGINT came."""

    def __init__(self, config_path: Path, *, log: Logbook | None = None, sealing: bool = True) -> None:
        self._config_path = config_path.absolute()
        self._config = config.load(self._config_path)
        self._log = log or Logbook("recorder")
        self._state_dir = self._config.state_dir
        self._sealing = sealing
        self._stopping = threading.Event()
        self._done = threading.Event()
        self._conn: psycopg.Connection[Any] | None = None
        self._slot: SlotState | None = None
        self._not_armed_because = ""
        self._alarms: dict[str, str] = {}
        self._began_at = now_iso()
        self._nonce = secrets.token_hex(8)  # by it our sealer's word is told from that of a former one
        self._watchdog_at = 0.0
        self._passed_over = 0
        self._has_armed = self._config.record.acknowledge == "off"
        self._counted = (time.monotonic(), 0)
        self._receiver: Receiver | None = None
        self._guardian: Guardian | None = None
        self._origin: Origin | None = None
        self._question: subprocess.Popen[bytes] | None = None
        self._failure: BallastError | None = None

    def stop(self) -> None:
        """End in order: let production go first if that is the owner's choice, then the stream, then the children."""
        self._stopping.set()

    def run(self) -> None:
        """Record. ConfigError, Fork, and whatever else only a person can mend."""
        make_folder(self._state_dir)
        with health.only_one(self._state_dir):
            sys.setswitchinterval(_SWITCH_S)
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, self._on_signal)
            self._log.info("started", pid=os.getpid(), config=str(self._config_path))
            try:
                spool = self._prepare()
                if spool is not None:
                    self._record(spool)
            except BallastError as error:
                self._log.error("ended", reason=error)
                self._write_health("fork" if isinstance(error, Fork) else "stopped", str(error))
                raise
            self._write_health("stopped", "")
            self._log.info("ended")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    # Before the first byte

    def _prepare(self) -> Spool | None:
        """The spool, whole, at the position to go on from; None if told to stop meanwhile."""
        record = self._config.record
        known = health.read_state(self._state_dir, ORIGIN_FILE, Origin)
        begun = health.read_state(self._state_dir, BEGUN_FILE, Origin)
        if begun is not None and _spool(self._config, begun).is_empty():
            known = begun
            health.write_state(self._state_dir, ORIGIN_FILE, begun)
            self._question = origin.asking(self._config_path)
        elif known is None or _spool(self._config, known).is_empty():
            known = self._ask_vault()
            if known is None:
                return None
        else:
            self._question = origin.asking(self._config_path)  # its answer is looked at by the supervisor
        self._origin = known
        spool = _spool(self._config, known)
        while not self._stopping.is_set():
            try:
                spool.recover(known.recorded_until if spool.is_empty() else 0)
            except SpoolFull as error:
                self._log.alarm("spool_full", reason=error)
                self._write_health("spool_full", str(error))
                self._stopping.wait(1.0)
                continue
            for aside in spool.damaged:
                self._log.alarm(
                    "spool_file_damaged", file=str(aside),
                    message="its header cannot be read: what was recorded in it and not sealed yet is not in the vault",
                )  # fmt: skip
                self._alarms[aside.name] = f"the spool file {aside} is damaged; keep a copy of it"
            remove_file(self._state_dir / BEGUN_FILE)
            self._log.info(
                "spool_ready", durable_lsn=spool.durable, cut_bytes=spool.cut_bytes, acknowledge=record.acknowledge
            )
            return spool
        return None

    def _ask_vault(self) -> Origin | None:
        while not self._stopping.is_set():
            try:
                found = origin.answer_of(origin.asking(self._config_path))
            except StoreError as error:
                self._log.alarm("vault_unreachable", reason=error)
                self._write_health("starting", str(error))
                self._stopping.wait(_ASK_AGAIN_S)
                continue
            health.write_state(self._state_dir, ORIGIN_FILE, found)
            return found
        return None

    # Recording

    def _record(self, spool: Spool) -> None:
        assert self._origin is not None
        settings = self._config
        guardian = self._guardian = Guardian(settings, self._origin.timeline, self._log)
        sealed = _SealedUntil(self._state_dir, self._origin.timeline, self._nonce)
        receiver = self._receiver = Receiver(
            dsn=settings.dsn,
            slot=settings.slot,
            publication=settings.publication,
            origin=self._origin,
            spool=spool,
            state_dir=self._state_dir,
            log=self._log,
            read_slot=self._ask_slot,
            on_blind=settings.record.on_blind,
            on_gap=self._pass_on,
            on_canary=guardian.canary_seen,
            on_messages=guardian.hear,
            in_store=sealed if settings.record.acknowledge == "store" else None,
            longest_wait_s=min(10.0, (settings.record.continue_after_s or 30.0) / 3),
        )
        receiver.durable_lsn = spool.durable
        guardian.watch(receiver)
        guarding = threading.Thread(target=guardian.run, args=(self._stopping,), name="guardian")
        guarding.start()
        supervisor = threading.Thread(target=self._supervise, name="supervisor")
        supervisor.start()
        try:
            receiver.run()
        finally:
            with contextlib.suppress(SpoolFull):  # nothing is to be left for the next start that the sealer could take
                spool.cut()
                spool.rotate()
            self._done.set()
            self._stopping.set()
            guarding.join()
            supervisor.join()
            spool.close()
        if self._failure is not None:
            raise self._failure

    def _pass_on(self, gap: PendingGap) -> None:
        """A gap is as good as told when the wish for an image that closes it is durable: the sealer writes it down."""
        assert self._receiver is not None
        wish.leave(
            self._state_dir, "image", gap.timeline, gap.reason,
            from_lsn=gap.from_lsn, to_lsn=gap.to_lsn, id=f"hole-{gap.timeline}-{gap.from_lsn:X}-{gap.to_lsn:X}",
        )  # fmt: skip
        self._receiver.gap_handled()

    def _ask_slot(self) -> SlotState | None:
        with arming.control_connection(self._config.dsn, "ballast recorder") as conn:
            return read_slot(conn, self._config.slot)

    # Beside it, every second

    def _supervise(self) -> None:
        receiver = self._receiver
        assert receiver is not None
        children = None
        if self._sealing:
            children = Children(
                self._config_path, self._config, self._log, nonce=self._nonce, streaming=lambda: receiver.streaming
            )
        try:
            self._guarded(self._see_to_watchdog)
            while not self._stopping.wait(_TICK_S if self._has_armed else _FIRST_TICK_S):
                if children is not None:
                    self._guarded(children.look_after)
                self._guarded(self._see_to_watchdog)
                self._guarded(self._look_at_production)
                self._guarded(self._look_at_answer)
                self._guarded(self._look_at_sealer)
                self._guarded(self._tell_health)
        finally:  # whatever happens: without this thread nobody else ends the receiver
            self._guarded(self._let_go)
            receiver.stop()
            self._done.wait()
            if children is not None:
                children.stop(_SEAL_ALL_S, fenced=isinstance(self._failure, FencedError))
            if self._conn is not None:
                self._conn.close()

    def _see_to_watchdog(self) -> None:
        """Start it, and start it again where it has died: whoever holds its lock lives."""
        record, now = self._config.record, time.monotonic()
        if record.continue_after_s is None or record.acknowledge == "off" or now < self._watchdog_at:
            return
        self._watchdog_at = now + _WATCHDOG_AGAIN_S
        if not health.is_held(self._state_dir, watchdog.LOCK_FILE):
            pid = watchdog.start_beside(self._config_path, self._state_dir)
            self._log.info("watchdog_started", watchdog_pid=pid)

    def _tell_health(self) -> None:
        assert self._receiver is not None
        self._write_health(self._receiver.state, self._receiver.reason)

    def _guarded(self, step: Any) -> None:
        """A step whose failure must not end the supervisor."""
        try:
            step()
        except (psycopg.Error, BallastError, OSError) as error:
            if str(error) != self._alarms.get(step.__name__):
                self._log.warning("cannot_look", step=step.__name__.strip("_"), reason=str(error))
            self._alarms[step.__name__] = str(error)
            if self._conn is not None and (self._conn.broken or self._conn.closed):
                self._conn = None
        except Exception as error:
            self._log.error("bug", step=step.__name__, reason=repr(error))
            self._conn = None
        else:
            self._alarms.pop(step.__name__, None)

    def _control(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            self._conn = arming.control_connection(self._config.dsn, "ballast recorder")
        return self._conn

    def _look_at_production(self) -> None:
        conn = self._control()
        self._slot = read_slot(conn, self._config.slot)
        if self._slot is not None and self._slot.alarming:
            if "slot" not in self._alarms:
                self._log.alarm(
                    "slot_holds_much",
                    wal_status=self._slot.wal_status,
                    held_bytes=self._slot.held_bytes,
                    limit_bytes=self._slot.limit_bytes,
                )
            self._alarms["slot"] = (
                f"production keeps {self._slot.held_bytes} bytes of WAL for the slot, of at most "
                f"{self._slot.limit_bytes}"
            )
        else:
            self._alarms.pop("slot", None)
        self._see_to_arming(conn, read_standbys(conn, self._config.slot))

    def _see_to_arming(self, conn: psycopg.Connection[Any], now: Standbys) -> None:
        receiver, slot, record = self._receiver, self._config.slot, arming.read_record(self._state_dir)
        assert receiver is not None
        named = now.waits_for(slot)
        self._look_at_place(conn, now)
        if self._config.record.acknowledge == "off":
            if now.names(slot):
                arming.disarm(conn, self._state_dir, slot, 'acknowledge = "off"')
                self._log.warning("disarmed", reason='acknowledge = "off"')
            return
        if record.armed and not named:
            event, why = "disarmed_by_somebody", "somebody took the recorder out of the setting"
            if now.names(slot):
                event, why = "demoted", "somebody put others beside the recorder, for whom commits wait in its place"
            record = arming.note_disarmed(self._state_dir, now, why)
            self._log.alarm(event, setting=now.setting, lsn=now.server_lsn)
        near = now.server_lsn - receiver.acknowledged_lsn < _NEAR_BYTES
        self._has_armed = self._has_armed or (named and record.armed)
        if (named and record.armed) or not (receiver.caught_up and near):
            return
        try:
            record = arming.arm(conn, self._state_dir, slot)
        except BallastError as error:
            if str(error) != self._not_armed_because:
                self._log.alarm("not_armed", reason=error)
            self._not_armed_because, self._has_armed = str(error), True
            return
        self._not_armed_because, self._has_armed = "", True
        exposed = record.past[-1] if record.past and record.past[-1].until == record.armed_at else None
        self._log.info(
            "armed",
            message="commits wait for this recorder: RPO 0",
            lsn=record.armed_lsn,
            was_exposed=msgspec.to_builtins(exposed),
        )

    def _look_at_place(self, conn: psycopg.Connection[Any], now: Standbys) -> None:
        """The setting says one thing; what the server makes of it is seen in sync_state, a moment later. For whom commits wait it
        works out when a connection begins, and of one that began while it was a standby itself it is nobody: until it is asked
        to read its settings again, commits would wait for ever after it is promoted."""
        assert self._receiver is not None
        passed = now.waits_for(self._config.slot) and now.passes_over(self._config.slot) and self._receiver.caught_up
        self._passed_over = self._passed_over + 1 if passed else 0
        if self._passed_over < _PASSED_OVER_TICKS:
            self._alarms.pop("demoted", None)
        elif "demoted" not in self._alarms:
            self._alarms["demoted"] = f"commits do not wait for the recorder, although the setting is {now.setting!r}"
            self._log.alarm("demoted", setting=now.setting, lsn=now.server_lsn)
        if self._passed_over and self._passed_over % _PASSED_OVER_TICKS == 0:
            conn.execute("SELECT pg_reload_conf()")

    def _let_go(self) -> None:
        """On the way out."""
        record = self._config.record
        if record.acknowledge == "off":
            return
        if record.continue_after_s is None:
            if arming.read_record(self._state_dir).armed:
                self._log.warning(
                    "stays_armed", message='commits wait until a recorder is back (on_recorder_loss = "wait")'
                )
            return
        conn = self._control()
        if read_standbys(conn, self._config.slot).names(self._config.slot):
            done = arming.disarm(conn, self._state_dir, self._config.slot, "the recorder was stopped")
            self._log.alarm(
                "disarmed",
                message="RPO is no longer 0: the recorder stops, production goes on without it",
                from_lsn=done.exposed.from_lsn if done.exposed else 0,
            )

    def _look_at_answer(self) -> None:
        """The vault was asked in the background whether what we remember of it still holds."""
        if self._question is None or self._question.poll() is None:
            return
        question, self._question = self._question, None
        try:
            found = origin.answer_of(question)
        except StoreError as error:
            self._log.warning("vault_unreachable", reason=error)
            return
        except ConfigError as error:
            self._fail(error)
            return
        assert self._origin is not None
        if _same_history(found, self._origin):
            health.write_state(self._state_dir, ORIGIN_FILE, found)
        else:
            (self._state_dir / ORIGIN_FILE).unlink(missing_ok=True)
            self._fail(
                ConfigError(
                    f"The vault's newest timeline is {found.timeline}, and this recorder recorded "
                    f"{self._origin.timeline}.",
                    "Start it again: it goes on with the newest.",
                )
            )

    def _look_at_sealer(self) -> None:
        told = health.read_state(self._state_dir, health.SEALER_FILE, health.SealerHealth)
        if told is not None and told.state == "fenced" and told.started_by == self._nonce:
            self._fail(FencedError(told.reason, ""))

    def _fail(self, error: BallastError) -> None:
        self._failure = error
        self._stopping.set()

    def _write_health(self, state: health.State, reason: str) -> None:
        receiver, record = self._receiver, arming.read_record(self._state_dir)
        used = usage(self._config.spool_dir)
        written = RecorderHealth(
            pid=os.getpid(),
            state=state,
            since=receiver.since if receiver is not None and receiver.state == state else self._began_at,
            written_at=now_iso(),
            reason=reason,
            timeline=self._origin.timeline if self._origin else 0,
            acknowledge=self._config.record.acknowledge,
            spool_files=used.files,
            spool_bytes=used.bytes,
            armed=record.armed,
            not_armed_because=self._not_armed_because,
            exposed_since=record.exposed.since if record.exposed else None,
            exposed_lsn=record.exposed.from_lsn if record.exposed else None,
            slot_held_bytes=self._slot.held_bytes if self._slot else None,
            slot_limit_bytes=self._slot.limit_bytes if self._slot else None,
            alarms=(*self._alarms.values(), *(self._guardian.alarms if self._guardian is not None else ())),
        )
        if receiver is not None:
            lag = max(self._slot.server_lsn - receiver.durable_lsn, 0) if self._slot is not None else None
            now, commits = time.monotonic(), receiver.commits
            rate = (commits - self._counted[1]) / max(now - self._counted[0], 0.001)
            self._counted = (now, commits)
            written = msgspec.structs.replace(
                written,
                durable_lsn=receiver.durable_lsn,
                received_lsn=receiver.received_lsn,
                acknowledged_lsn=receiver.acknowledged_lsn,
                last_commit_at=receiver.last_commit_at,
                lag_bytes=lag,
                batches=receiver.batches,
                commits=commits,
                reconnects=receiver.reconnects,
                commits_per_s=round(rate, 1),
            )
        try:
            health.write_state(self._state_dir, health.RECORDER_FILE, written)
        except OSError as error:
            self._log.warning("health_not_written", reason=str(error))


def _same_history(a: Origin, b: Origin) -> bool:
    return msgspec.structs.replace(a, recorded_until=0) == msgspec.structs.replace(b, recorded_until=0)


def _spool(settings: config.Config, found: Origin) -> Spool:
    return Spool(
        settings.spool_dir,
        vault_id=found.vault_id,
        timeline=found.timeline,
        limit_bytes=settings.record.spool_limit_bytes,
        file_bytes=settings.record.seal_bytes,
        file_age_s=_WAITED_FOR_S if settings.record.acknowledge == "store" else settings.record.seal_after_s,
    )


class _SealedUntil:
    """How far our own sealer says that the vault has everything of our timeline.

    What is left there of a former recorder, perhaps of another server, says nothing of what we receive."""

    def __init__(self, state_dir: Path, timeline: int, nonce: str) -> None:
        self._state_dir, self._timeline, self._nonce = state_dir, timeline, nonce
        self._lsn = 0

    def __call__(self) -> int:
        # Read each time: within one tick of the kernel's clock nothing else tells two states apart.
        told = health.read_state(self._state_dir, health.SEALER_FILE, health.SealerHealth)
        if told is not None and (told.timeline, told.started_by) == (self._timeline, self._nonce):
            self._lsn = max(self._lsn, told.sealed_lsn)
        return self._lsn


def main() -> None:
    """`python -m ballast.vault.recorder --config ballast.toml`: exit code 0 when told to stop, 1 otherwise."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.vault.recorder")
    parser.add_argument("--config", type=Path, required=True)
    try:
        Recorder(parser.parse_args().config).run()
    except BallastError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
