"""What happens when changes may be missing from the record, from the first look that shows it until capture is whole again.

In this order, so that a crash in between loses nothing: production is told nothing more, as long as capture is broken; the
gap is durable, as a wish for an image that is held; what can be repaired is repaired; then the wish may be granted and
acknowledging goes on. The baseline stays as it was until then, so that a recorder started in between finds the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
import psycopg

from ballast.vault import repair, wish
from ballast.vault.canaries import Canaries
from ballast.vault.config import Config
from ballast.vault.differences import Difference, compare_apart_from_tables, settled
from ballast.vault.fingerprint import Baseline, Fingerprint, Incident, replace_baseline, take_fingerprint
from ballast.vault.health import now_iso
from ballast.vault.logbook import Logbook
from ballast.vault.token import token_in_use

NOT_OURS = ("slot", "server")
"""Kinds of differences that the receiver sees to; it acknowledges nothing meanwhile."""

_TRIES, _TRY_AGAIN_S = 20, 0.1


class Watched(Protocol):
    """The receiver, as far as the guardian is concerned."""

    durable_lsn: int
    connections: int
    publication_losses: int
    passed_over_lsn: int

    @property
    def state(self) -> str: ...
    @property
    def blind_because(self) -> str: ...
    def blinded(self, reason: str) -> None: ...
    def clear(self) -> None: ...


class Incidents:
    """Used by the guardian's thread alone."""

    def __init__(self, settings: Config, timeline: int, log: Logbook, canaries: Canaries) -> None:
        self._settings, self._timeline, self._log = settings, timeline, log
        self._state_dir = settings.state_dir
        self._canaries = canaries
        self._receiver: Watched
        self._whole_lsn = 0
        """Where capture was whole again after the last incident."""
        self._losses = 0
        self._blinded = False

    def watch(self, receiver: Watched, baseline: Baseline | None) -> None:
        """Before the receiver runs: what was broken when the last recorder ended is broken still."""
        self._receiver = receiver
        if baseline is not None and baseline.incident is not None:
            self._blind(baseline.incident.reason)

    def meet(
        self, conn: psycopg.Connection[Any], baseline: Baseline, now: Fingerprint, found: list[Difference]
    ) -> Baseline:
        """Blinding differences are there, or an incident lasts. The baseline to go on with, and whether it still lasts."""
        was, incident = baseline.fingerprint, baseline.incident
        if found:
            if self._is_broken(settled(was, now, _oids(found)), now):
                self._blind("; ".join(d.text for d in found))
            baseline, incident = self._write_down(baseline, found)
            repair.repair(
                conn, self._settings.publication, was, now, found, self._log, token_in_use(self._settings.state_dir)
            )
            now = take_fingerprint(conn, self._settings.publication, self._settings.slot)
        assert incident is not None
        adopted = settled(was, now, _names(incident.oids))
        if self._is_broken(adopted, now):
            self._blind(incident.reason)
            return baseline
        whole = Baseline(adopted, baseline.good_lsn)
        replace_baseline(self._state_dir, baseline, whole)
        self._canaries.forget()
        self._whole_lsn, self._losses = now.position, self._receiver.publication_losses
        self._log.info("whole_again", reason=incident.reason, from_lsn=incident.from_lsn, to_lsn=now.position)
        self._go_on()
        return whole

    def blind_by_itself(self, conn: psycopg.Connection[Any], baseline: Baseline) -> None:
        """The stream says that it lacks something, and the catalog is whole: it has come to a stretch that is over."""
        receiver = self._receiver
        if self._blinded:  # it was ours, and `protect` has accepted what is now
            self._go_on()
            return
        at = receiver.durable_lsn
        if at >= self._whole_lsn:  # else it is the stretch of which the gap is written down already
            asked = wish.leave(
                self._state_dir, "image", self._timeline, receiver.blind_because, from_lsn=min(baseline.good_lsn, at)
            )
            self._log.alarm("gap_begins", from_lsn=asked.from_lsn, reason=asked.reason, wish=asked.id)
        if receiver.publication_losses > self._losses and conn.info.server_version < 180000:
            self._pass_over(conn)
        self._losses = receiver.publication_losses
        self._go_on()

    def release(self) -> None:
        """Whatever was held may be granted: all is whole."""
        for asked in wish.pending(self._state_dir):
            if asked.held:
                wish.release(self._state_dir, asked.id)

    def _blind(self, reason: str) -> None:
        self._blinded = True
        self._receiver.blinded(reason)

    def _go_on(self) -> None:
        self.release()
        self._blinded = False
        self._receiver.clear()

    def _is_broken(self, adopted: Fingerprint, now: Fingerprint) -> bool:
        return self._canaries.lost or bool(blinding(compare_apart_from_tables(adopted, now)))

    def _write_down(self, baseline: Baseline, found: list[Difference]) -> tuple[Baseline, Incident]:
        """The gap, durably; the same incident only once, unless it has grown."""
        oids, incident = _oids(found), baseline.incident
        known = _names(incident.oids) if incident is not None else frozenset()
        if incident is not None and (known is None or (oids is not None and oids <= known)):
            return baseline, incident
        reason = "; ".join(d.text for d in found)
        asked = wish.leave(
            self._state_dir, "image", self._timeline, reason,
            oids=None if oids is None else map(int, oids), from_lsn=baseline.good_lsn, held=True,
        )  # fmt: skip
        if {d.kind for d in found} & {"event_trigger", "unannounced"}:
            wish.leave(self._state_dir, "catalog", self._timeline, reason, id="catalog")
        every = None if oids is None or known is None else tuple(sorted(map(int, oids | known)))
        if incident is None:
            incident = Incident(now_iso(), reason, baseline.good_lsn, every, (asked.id,))
        else:
            reason, wishes = f"{incident.reason}; {reason}", (*incident.wishes, asked.id)
            incident = msgspec.structs.replace(incident, oids=every, reason=reason, wishes=wishes)
        lasting = msgspec.structs.replace(baseline, incident=incident)
        replace_baseline(self._state_dir, baseline, lasting)
        self._log.alarm("gap_begins", from_lsn=baseline.good_lsn, tables=every, reason=reason, wish=asked.id)
        return lasting, incident

    def _pass_over(self, conn: psycopg.Connection[Any]) -> None:
        """Before version 18 a stream cannot be read where there was no publication, not even when there is one again.

        The slot is moved past it. The receiver finds that, and notes what was passed over as a gap."""
        conn.execute("SET statement_timeout = 0")
        try:
            for _ in range(_TRIES):
                try:
                    row = conn.execute(
                        "SELECT (end_lsn - '0/0')::bigint"
                        " FROM pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())",
                        (self._settings.slot,),
                    ).fetchone()
                except psycopg.errors.ObjectInUse:  # the receiver is just trying
                    time.sleep(_TRY_AGAIN_S)
                    continue
                self._canaries.forget()
                to_lsn = row[0] if row else 0
                self._log.alarm("slot_advanced", to_lsn=to_lsn, message="past a stretch without publication")
                return
        finally:
            conn.execute("SET statement_timeout = '10s'")


def blinding(differences: Iterable[Difference]) -> list[Difference]:
    """Those for which changes may be missing, and that are ours to meet."""
    return [d for d in differences if d.blinds and d.kind not in NOT_OURS]


def _oids(differences: Iterable[Difference]) -> frozenset[str] | None:
    found: set[str] = set()
    for difference in differences:
        if difference.relations is None:
            return None
        found.update(difference.relations)
    return frozenset(found)


def _names(oids: Sequence[int] | None) -> frozenset[str] | None:
    return None if oids is None else frozenset(map(str, oids))
