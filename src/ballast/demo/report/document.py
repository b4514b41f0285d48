"""The report for programs."""

from __future__ import annotations

from typing import Any

import msgspec

from ballast.demo.outcome import Outcome, claims, compared, figures
from ballast.demo.wanted import How, Victim


class Kill(msgspec.Struct, frozen=True):
    """Who was killed, and when: seconds after the loss."""

    victim: Victim
    after_s: float


class Promise(msgspec.Struct, frozen=True):
    """One of them; `kept` None: shown, not judged."""

    name: str
    kept: bool | None
    seen: dict[str, Any]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay went."""

    seed: int
    how: How
    shops: int
    took_s: float
    moments: dict[str, float]
    """Seconds after the loss."""
    killed: tuple[Kill, ...]
    promises: tuple[Promise, ...]
    broken: tuple[str, ...]
    """Which orders, payments, changes, in words."""

    @property
    def failed(self) -> list[str]:
        """Names of the promises that were broken."""
        return [one.name for one in self.promises if one.kept is False]


def of(outcome: Outcome) -> bytes:
    """As JSON."""
    found, kept = figures(outcome), compared(outcome)
    lost = outcome.started_at if outcome.log.begun is None else outcome.log.begun
    told = Document(
        seed=outcome.wanted.seed,
        how=outcome.wanted.how,
        shops=outcome.wanted.shops,
        took_s=round(outcome.took_s, 1),
        moments={moment: round(at - lost, 2) for moment, at in outcome.log.at.items()},
        killed=tuple(Kill(one.victim, round(one.at - lost, 2)) for one in outcome.killed),
        promises=tuple(Promise(one.name, one.kept, one.seen) for one in claims(outcome, found, kept)),
        broken=tuple(one.what for one in kept.broken) if kept else (),
    )
    return msgspec.json.format(msgspec.json.encode(told))
