"""Units of a recovery on demand brought back by other hands: what `unit.Loader` does here, done elsewhere.

Those that somebody waits for are served by the process in charge itself; only the rest is given away.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from ballast.recovery import mark, progress, roster
from ballast.recovery.copying import run_script
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.target import Target, connect_target
from ballast.recovery.unit import Loader, Tallies
from ballast.vault.records import Cut

SETTINGS = (
    "SET session_replication_role = replica; SET synchronous_commit = off; SET jit = off;"
    # Statistics are those of empty tables; a sequential scan of what grows would be the planner's choice.
    " SET enable_seqscan = off"
)
"""Of sessions that put units back."""


class Errand(msgspec.Struct, frozen=True):
    """A unit for whoever brings it back."""

    tenants: tuple[str, ...]
    note: str
    """Names this handing-out of the unit, and no other: by it a worker finds that one before it has done it."""
    cut: Cut
    target: Target
    origin: int
    """Number of the replication origin (`mark`)."""


class Brought(msgspec.Struct, frozen=True):
    """What the record has of a unit, as it was read back."""

    recorded: Tallies
    warning: str | None


def bring(seat: Seat, errand: Errand) -> Brought:
    """Brings the unit back, unless it is. Raises what `Loader.load` does."""
    assert seat.vault is not None
    with connect_target(seat.dsn) as conn:
        progress.join(conn)
        # Until the session of a worker that was lost has ended, nobody knows whether it has committed.
        progress.hold_unit(conn, errand.note)
        before = progress.done_unit(conn, errand.note)
        if before is not None:
            return Brought(before, None)
        warning = mark.mark(conn, errand.origin)
        run_script(conn, SETTINGS)
        return Brought(Loader(conn, seat.vault, errand.cut, errand.target).load(errand.tenants, errand.note), warning)


class Elsewhere:
    """A `Loader` for one thread: each unit is done by somebody else, and waited for."""

    def __init__(
        self, hands: Hands, seat: Seat, cut: Cut, target: Target, origin: int, warnings: dict[str, None]
    ) -> None:
        self._hands, self._seat, self._cut, self._target = hands, seat, cut, target
        self._origin, self._warnings = origin, warnings

    def load(self, tenants: Sequence[str]) -> Tallies:
        """See `Loader.load`."""
        note = f"tenants {tenants[0]} … {secrets.token_hex(8)}"
        errand = Errand(tuple(tenants), note, self._cut, self._target, self._origin)
        (brought,) = self._hands.map(bring, [errand], self._seat)
        if brought.warning is not None:
            self._warnings[brought.warning] = None
        return brought.recorded

    def note_failure(self, tenant: str, why: str) -> None:
        """See `Loader.note_failure`."""
        with connect_target(self._seat.dsn) as conn:
            roster.fail(conn, tenant, why)
