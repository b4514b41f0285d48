"""Tenants go home: what was accepted of them is done there, and from then on they are served there.

    brought in       what was committed after the moment to which home went back (`recovery.later`)
    merged ahead     what is in the intake so far, while the tenant is still served in the lifeboat
    ballast.home     the intake is closed for it: whoever comes later is sent home
    merged           the few that came in between
    tried again      what could not be merged after that moment, before home went back
    ballast.merged   all of it is there; what the intake holds of it is never done again

Interrupted anywhere the same begins anew: an item is applied once (`recovery.merge`), in the order of acceptance.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

import msgspec
import psycopg

from ballast.continuity.entries import AWAY, HOME, MERGED, Entry, Offered, open_entries
from ballast.continuity.intake import Intake
from ballast.errors import BallastError, ConfigError
from ballast.recovery import Handler, Later, MergeError, MergeItem, Refusal, again_by, merge, take_in, try_again

_FEW, _PASSES = 3, 4
_JOBS = 4
"""Each of them waits for the recorder most of the time."""
_BACK = """
SELECT w.tenant FROM unnest(%s::text[]) WITH ORDINALITY AS w (tenant, place)
  LEFT JOIN ballast_recovery.tenant t ON t.tenant = w.tenant
 WHERE t.tenant IS NULL OR t.back_at IS NOT NULL ORDER BY w.place LIMIT %s
"""
_OVER = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


class GivenUp(Exception):
    """Home was lost meanwhile, and nobody waits for this any more: nothing is noted of it."""


class Came(msgspec.Struct, frozen=True):
    """What became of some tenants."""

    home: tuple[str, ...] = ()
    merged: int = 0
    refused: int = 0
    not_again: tuple[Refusal, ...] = ()
    """Of what was committed after the moment: what could not be brought in."""
    trouble: str = ""
    """Why the others are not home yet."""


def items_of(entries: Iterable[Entry]) -> list[MergeItem]:
    """As `merge` takes them."""
    return [MergeItem(e.tenant, e.key, e.kind, e.payload, e.made_at) for e in entries]


def those_back(dsn: str, wanted: Sequence[str], most: int) -> list[str]:
    """Of these tenants up to `most` that are whole in the database of `dsn`, in their order. psycopg.Error."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=2, application_name="ballast sentinel") as conn:
        try:
            return [row[0] for row in conn.execute(_BACK.encode(), (list(wanted), most)).fetchall()]
        except _OVER:
            return list(wanted[:most])  # no recovery is under way, or it has ended


class HomeComing:
    """The way home, over one intake."""

    def __init__(self, intake: Intake, handler: Handler | None, dsn: str, later: Later | None = None) -> None:
        """`dsn`: of home, as a role that may do what the handler does. Without a handler nobody of whom something was accepted
        can go. `later`: what is to be brought in first, home being opened for it."""
        self._intake, self._handler, self._dsn = intake, handler, dsn
        self._later = later or Later()
        self._brought: set[str] = set()
        self._tried: set[str] = set()
        self._not_again: list[Refusal] = []
        self._ahead: dict[str, int] = {}
        self._merged = self._refused = 0
        self._noting, self._is_given_up = threading.Lock(), False

    def give_up(self) -> None:
        """Home is lost: whoever is on the way stays where he is. From now on nothing is noted here of what may still come to its
        end there; it is done again, which is harmless."""
        with self._noting:
            self._is_given_up = True

    def bring(self, tenants: Sequence[str]) -> Came:
        """Bring these home, all of whom are whole there. Those whom something stopped stay where they are. GivenUp."""
        self._merged = self._refused = 0
        try:
            self.merge_ahead(tenants)
            self._close(tenants)
            self._merge(tenants)
            self._try_again(tenants)
            self._note(MERGED, tenants)
        except (MergeError, BallastError, psycopg.Error) as error:
            if len(tenants) == 1:
                self._open_again(tenants)
                return Came((), self._merged, self._refused, self._told(), str(error))
            return self._one_by_one(tenants)
        return Came(tuple(tenants), self._merged, self._refused, self._told())

    def _one_by_one(self, tenants: Sequence[str]) -> Came:
        """One of them holds up the others."""
        parts = [self.bring((tenant,)) for tenant in tenants]
        return Came(
            tuple(tenant for part in parts for tenant in part.home),
            sum(part.merged for part in parts),
            sum(part.refused for part in parts),
            tuple(refusal for part in parts for refusal in part.not_again),
            next((part.trouble for part in parts if part.trouble), ""),
        )

    def merge_ahead(self, tenants: Sequence[str]) -> None:
        """What is accepted so far of tenants who are whole there, while they go on where they are. MergeError, ConfigError."""
        self._bring_in(tenants)
        for _ in range(_PASSES):
            if len(self._left(tenants)) <= _FEW:
                return
            self._merge(tenants)

    def _bring_in(self, tenants: Sequence[str]) -> None:
        """First of all: what was accepted meanwhile came later."""
        self._see_whether_given_up()
        items = [item for tenant in tenants if tenant not in self._brought for item in self._later.of.get(tenant, ())]
        if items:
            self._not_again += merge(self._dsn, items, take_in, jobs=2).refused
        self._brought.update(tenants)

    def _try_again(self, tenants: Sequence[str]) -> None:
        """Last of all: what was accepted meanwhile may be that somebody does not want it any more."""
        self._see_whether_given_up()
        left = (item for tenant in tenants if tenant not in self._tried for item in self._later.refused.get(tenant, ()))
        handler, items = again_by(self._handler, left)
        if items:
            self._refused += len(try_again(self._dsn, items, handler, jobs=2).refused)
        self._tried.update(tenants)

    def _told(self) -> tuple[Refusal, ...]:
        told, self._not_again = tuple(self._not_again), []
        return told

    def _close(self, tenants: Sequence[str]) -> None:
        closed = self._intake.closed()
        self._note(HOME, [tenant for tenant in tenants if tenant not in closed])

    def _open_again(self, tenants: Sequence[str]) -> None:
        closed = self._intake.closed()
        self._note(AWAY, [tenant for tenant in tenants if tenant in closed])

    def _see_whether_given_up(self) -> None:
        """Another server may answer there by now, which is to be empty."""
        if self._is_given_up:
            raise GivenUp

    def _merge(self, tenants: Sequence[str]) -> None:
        self._see_whether_given_up()
        left = self._left(tenants)
        if not left:
            return
        if self._handler is None:
            raise ConfigError(
                f"nobody is named who does again at home what was accepted of {left[0].tenant}",
                "Name the application's function as [continuity] handler in ballast.toml; the sentinel's log says more.",
            )
        report = merge(self._dsn, items_of(left), self._handler, jobs=_JOBS)
        self._merged += report.applied
        self._refused += len(report.refused)
        for entry in left:
            self._ahead[entry.tenant] = entry.number

    def _left(self, tenants: Collection[str]) -> list[Entry]:
        found = open_entries(self._intake.entries())
        left = [e for tenant in tenants for e in found.get(tenant, ()) if e.number > self._ahead.get(tenant, 0)]
        return sorted(left, key=lambda entry: entry.number)

    def _note(self, kind: str, tenants: Collection[str]) -> None:
        with self._noting:
            self._see_whether_given_up()
            note(self._intake, kind, tenants)


def note(intake: Intake, kind: str, tenants: Collection[str]) -> None:
    """An entry of our own for each of them."""
    if tenants:
        now = datetime.now(UTC)
        intake.take([Offered(t, f"{kind}:{secrets.token_hex(8)}", kind, {}, now, urgent=True) for t in tenants])
