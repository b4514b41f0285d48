"""Whether production is protected, in plain words. Pure: what is known goes in, a judgement comes out.

PROTECTED is said only where every part says that it is well, and said it just now. RPO 0 is a promise apart: it holds
while production's commits wait for the recorder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ballast.errors import BallastError
from ballast.vault.config import Record
from ballast.vault.drilled import Drilled
from ballast.vault.health import PROTECTING, RecorderHealth, SealerHealth, Verified

STALE_S = 10.0
"""The recorder writes its health every second; after so long without a word it is taken for away."""

AWAY_S = 60.0
"""A store that does not answer for longer is no hiccup any more."""

_DRILL_LATE_S = 600.0
"""A drill takes its time, and the recorder may have been restarted just before one."""

_DO: dict[str, str] = {
    "starting": "If this lasts, look into its log.",
    "connecting": (
        "It tries again by itself. Is production up, and is the dsn in ballast.toml right? If production is lost: stop the"
        " recorder, then `ballast recover --vault … --into …` on an empty database."
    ),
    "blind": "Nothing is acknowledged until what was changed on production is put back; a new image then follows by itself.",
    "gap": "A new image is taken by itself; until it is there no moment in the gap can be restored exactly.",
    "spool_full": "Make room on the disk, or see why the vault's store does not take what is recorded. It goes on by itself.",
    "slot_lost": "Run `ballast protect` again: it makes a new slot, notes the gap and takes a new image.",
    "fork": "A person must decide: run `ballast protect` on this server to begin a new timeline, or correct the dsn.",
    "stopped": "Start it: `ballast record`.",
}


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong, and what to do about it."""

    what: str
    do: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The judgement."""

    state: Literal["protected", "newest can be lost", "not protected"]
    headline: str
    problems: tuple[Problem, ...]
    """What stands against protection, or weakens it; the gravest first."""
    remarks: tuple[Problem, ...]
    """What needs somebody's attention although production is protected."""

    @property
    def protected(self) -> bool:
        """Whether production is protected as its owner asked for."""
        return self.state == "protected"


class OpenGap(msgspec.Struct, frozen=True):
    """A stretch that lasts, in which the record of tables is not exact."""

    tables: tuple[str, ...] | None
    """None: all."""
    since: str
    """Position."""
    reason: str


class OnProduction(msgspec.Struct, frozen=True):
    """What production itself says just now."""

    slot: Literal["active", "unread", "lost", "missing"]
    waits: bool
    """Commits wait for this recorder (its name stands in synchronous_standby_names)."""


def judge(
    health: RecorderHealth | None,
    *,
    held: bool,
    record: Record,
    now: datetime,
    sealer: SealerHealth | None = None,
    production: OnProduction | None = None,
    gaps: Sequence[OpenGap] = (),
    verified: Verified | None = None,
    damage: BallastError | None = None,
    drilled: Drilled | None = None,
) -> Verdict:
    """`held`: the recorder's process lives. `production`: None where it does not answer. `damage`: what the vault, which
    does answer, lacks of what was put there."""
    grave = [
        *_recorder(health, held=held, now=now),
        *_hanging(production, record, held=held),
        *_slot(production),
        *_fenced(sealer),
        *_damaged(damage),
        *_not_reaching(sealer, now),
        *(_gap(gap) for gap in gaps),
        *_unsound(verified),
        *_unequal(drilled),
    ]
    away = () if any(_not_reaching(sealer, now)) else _sealer(sealer, now)
    remarks = (*away, *_alarms(health, held=held), *_near_full(health, record), *_not_drilled(drilled, record, now))
    if grave:
        return Verdict("not protected", f"NOT PROTECTED: {_sentence(grave[0].what)}", tuple(grave), remarks)
    assert health is not None
    if record.acknowledge == "off":
        behind = f" ({health.lag_bytes:,} bytes behind)" if health.lag_bytes else ""
        headline = (
            'PROTECTED, as configured without waiting (acknowledge = "off"): the newest commits can be lost with'
            f" production{behind}."
        )
        return Verdict("protected", headline, (), remarks)
    if weak := list(_not_waiting(health, production)):
        headline = (
            f"PROTECTED, BUT NOT RPO 0: the newest commits can be lost with production: {_sentence(weak[0].what)}"
        )
        return Verdict("newest can be lost", headline, tuple(weak), remarks)
    where = "in the vault's store" if record.acknowledge == "store" else "on the recorder's disk or in the vault"
    return Verdict("protected", f"PROTECTED: every acknowledged commit is {where} (RPO 0).", (), remarks)


def _damaged(damage: BallastError | None) -> Iterator[Problem]:
    if damage is not None:
        yield Problem(f"the vault cannot be restored from: {damage.what}", damage.do)


def _unsound(verified: Verified | None) -> Iterator[Problem]:
    if verified is not None and not verified.sound:
        yield Problem(
            f"the vault was found not sound at {shown(verified.at)}: {verified.faults} faults",
            "`ballast verify` names them; bring the objects back from a copy of the vault, then verify again.",
        )


def _unequal(drilled: Drilled | None) -> Iterator[Problem]:
    if drilled is not None and not drilled.equal and not drilled.failure:
        first = f": {drilled.named[0]}" if drilled.named else ""
        more = f" and {drilled.differences - 1:,} more" if drilled.differences > 1 else ""
        yield Problem(
            f"the drill of {shown(drilled.at)} found that the vault does not give back what production has{first}{more}",
            "`ballast drill --all` names all of it. Stop the recorder, then `ballast unprotect` and `ballast protect`: the vault"
            " notes a gap and takes a new image, from which on it is exact again.",
        )


def _not_drilled(drilled: Drilled | None, record: Record, now: datetime) -> Iterator[Problem]:
    if drilled is not None and drilled.failure:
        yield Problem(f"the drill of {shown(drilled.at)} could not be carried out: {drilled.failure}")
    every_s = record.drill_every_s
    if drilled is None or every_s is None:
        return
    if (now - moment(drilled.at)).total_seconds() > 2 * every_s + _DRILL_LATE_S:
        yield Problem(
            f"the last drill was held at {shown(drilled.at)}, and one is due every {record.drill_every}",
            "The recorder holds it; if it runs, its log says why it does not.",
        )


def lag_s(health: RecorderHealth | None, now: datetime) -> float | None:
    """Seconds since the newest recorded commit, where production has written more since; 0.0 where it has not."""
    if health is None or health.lag_bytes is None:
        return None
    if health.lag_bytes == 0:
        return 0.0
    if health.last_commit_at is None:
        return None
    return max(0.0, (now - moment(health.last_commit_at)).total_seconds())


def moment(text: str) -> datetime:
    """A time of a state file."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def shown(text: str) -> str:
    """A time of a state file as people read it, in local time."""
    return moment(text).astimezone().isoformat(sep=" ", timespec="seconds")


def _recorder(health: RecorderHealth | None, *, held: bool, now: datetime) -> Iterator[Problem]:
    if not held:
        if health is None:
            yield Problem("the recorder has never run here", "Start it: `ballast record`.")
        elif health.state in ("fork", "slot_lost") or (health.state == "stopped" and health.reason):
            why = "at a fork" if health.state == "fork" else "with an error"
            yield Problem(f"the recorder ended {why}: {health.reason}", _DO[health.state])
        elif health.state == "stopped":
            yield Problem(f"the recorder was stopped at {shown(health.written_at)}", _DO["stopped"])
        else:
            yield Problem(f"the recorder is gone: it last spoke at {shown(health.written_at)}", _DO["stopped"])
        return
    if health is None or health.state in ("stopped", "fork"):
        yield Problem("the recorder is starting", _DO["starting"])
        return
    silent_s = (now - moment(health.written_at)).total_seconds()
    if silent_s > STALE_S:
        yield Problem(
            f"the recorder (process {health.pid}) has said nothing for {silent_s:,.0f} s",
            "Look at its log and at the machine's load. It may be killed and started again: nothing recorded is lost.",
        )
    elif health.state not in PROTECTING:
        words = {
            "starting": "the recorder is starting",
            "connecting": "the recorder has no stream from production",
            "blind": "the stream of changes is not complete",
            "gap": "production has thrown away changes that were not recorded yet",
            "spool_full": "the spool is full",
            "slot_lost": "the replication slot is lost",
        }
        reason = f": {health.reason}" if health.reason else ""
        yield Problem(f"{words.get(health.state, health.state)}{reason}", _DO[health.state])


def _hanging(production: OnProduction | None, record: Record, *, held: bool) -> Iterator[Problem]:
    if held or production is None or not production.waits:
        return
    if record.continue_after_s is None:
        yield Problem(
            "production's commits hang until a recorder is back",
            "If it cannot be started soon, take its name out of synchronous_standby_names (ALTER SYSTEM, reload): commits"
            " go on unprotected then.",
        )
    else:
        yield Problem(f"production's commits hang until its watchdog lets them go ({record.on_recorder_loss})")


def _slot(production: OnProduction | None) -> Iterator[Problem]:
    if production is not None and production.slot in ("lost", "missing"):
        yield Problem(f"production says that the replication slot is {production.slot}", _DO["slot_lost"])


def _fenced(sealer: SealerHealth | None) -> Iterator[Problem]:
    if sealer is not None and sealer.state == "fenced":
        yield Problem(
            f"another recorder writes this vault, which takes nothing from this one: {sealer.reason}",
            "Stop one of the two. Each recorder needs a vault, or a turn at it, of its own.",
        )


def _not_reaching(sealer: SealerHealth | None, now: datetime) -> Iterator[Problem]:
    """What is on one disk only, and will stay so unless somebody sees to it."""
    if sealer is None:
        return
    if sealer.state == "stuck":
        yield Problem(
            f"recorded on the recorder's disk, but not reaching the vault: {sealer.reason}",
            "It stays in the spool, and goes on by itself once this is mended, which must be before the spool is full.",
        )
        return
    since = sealer.trouble_since if sealer.state == "store_away" and sealer.waiting_bytes else None
    if since is not None and (now - moment(since)).total_seconds() > AWAY_S:
        yield Problem(
            f"recorded on the recorder's disk, but not reaching the vault since {shown(since)}: the store does not answer:"
            f" {sealer.reason}",
            "See that the store comes back before the spool is full; what is recorded stays there, and goes on by itself.",
        )


def _gap(gap: OpenGap) -> Problem:
    what = "the whole database" if gap.tables is None else ", ".join(gap.tables)
    return Problem(
        f"the record of {what} is not exact since {gap.since}: {gap.reason}",
        "A new image closes the gap; the recorder takes it by itself. If it does not, see its log.",
    )


def _not_waiting(health: RecorderHealth, production: OnProduction | None) -> Iterator[Problem]:
    if health.not_armed_because:
        yield Problem(f"commits do not wait for the recorder: {health.not_armed_because}")
    elif health.state == "catching_up":
        behind = "" if health.lag_bytes is None else f", {health.lag_bytes:,} bytes behind"
        yield Problem(
            f"the recorder is catching up{behind}",
            "Nothing: as soon as it has, commits wait for it again.",
        )
    elif not health.armed:
        since = f" since {shown(health.exposed_since)}" if health.exposed_since else " yet"
        yield Problem(
            f"commits do not wait for the recorder{since}",
            "Nothing, if it has just started. Otherwise its log says why.",
        )
    elif production is not None and not production.waits:
        yield Problem(
            "somebody took the recorder out of synchronous_standby_names",
            "The recorder puts itself back within seconds. If not, its log says why.",
        )


def _sealer(sealer: SealerHealth | None, now: datetime) -> Iterator[Problem]:
    if sealer is None or sealer.state == "fenced":
        return
    if sealer.state == "store_away":
        yield Problem(
            f"the vault's store does not answer: {sealer.reason}",
            "What is recorded stays in the spool meanwhile; see that the store comes back before the spool is full.",
        )
    elif sealer.waiting_files and (now - moment(sealer.written_at)).total_seconds() > 60:
        yield Problem(
            f"the sealer has said nothing since {shown(sealer.written_at)}, and {sealer.waiting_files:,} spool files wait for it",
            "The recorder starts it again by itself; if this lasts, see its log.",
        )


def _alarms(health: RecorderHealth | None, *, held: bool) -> Iterator[Problem]:
    if health is not None and held:
        yield from (Problem(alarm) for alarm in health.alarms)


def _near_full(health: RecorderHealth | None, record: Record) -> Iterator[Problem]:
    if health is not None and health.spool_bytes > record.spool_limit_bytes // 2:
        share = 100 * health.spool_bytes // record.spool_limit_bytes
        yield Problem(
            f"the spool is {share} % full",
            "At its limit the recorder stops acknowledging. See why the vault does not take what is recorded.",
        )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
