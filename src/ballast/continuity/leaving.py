"""Home is lost: the lifeboat is launched, and another in its place where that is lost as well."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import psycopg

from ballast.continuity import incident, tail
from ballast.continuity.boats import bring_in_again, do_again, roster
from ballast.continuity.emptied import tenant_emptied
from ballast.continuity.entries import AWAY, before_the_last, open_entries
from ballast.continuity.homecoming import note
from ballast.continuity.incident import Incident
from ballast.continuity.lifeboat import Lifeboat
from ballast.continuity.patience import Busy
from ballast.continuity.signs import OF_DATA, Sign
from ballast.continuity.watching import Watching
from ballast.continuity.wipes import Chosen, Foretold
from ballast.errors import BallastError
from ballast.recovery import Span, later
from ballast.vault import Resolved
from ballast.vault.failpoints import reach
from ballast.vault.moment import show

LAUNCHING = "launching"
"""What is waited for while a lifeboat is made."""
_SEALING_S = 3.0
"""The lifeboat does not wait longer for the newest seconds of the record."""
_AGAIN_S = 1.0
_LOOKING_S, _RAISING_S, _LAUNCHING_S = 20.0, 10.0, 30.0
_RUSH_S = 2.0
"""So long after it is launched everybody comes aboard at once, and this process does nothing else that can wait."""
_UNCONFIRMED_S = 30.0
"""A deletion that was foretold is taken for certain, where for so long nobody can seal it."""
_BRINGING_S = 2.0
"""Shops open without waiting longer for what is brought in again; it goes on."""


class Leaving(Watching):
    """The way into the lifeboat."""

    def _lose(self, why: Sign) -> None:
        now, self._alarmed = datetime.now(UTC), ""
        self._stuck = ""
        if why in (Sign.REFUSED, Sign.GONE) and self._is_full():
            why = Sign.FULL  # a server that cannot write its log ends
        timeline = self._vault.index.newest_timeline if self._vault is not None and self._vault.index.timelines else 0
        self._write_down(
            Incident(now, why, lost=self._recorded(), timeline=timeline, ordered=not self._options.asks),
        )
        reach("sentinel.noted")
        self._process_at = self._stuck_since = time.monotonic()
        said = self._seen.what or self._seen.why if self._seen is not None else ""
        seen = said.strip().splitlines()[0] if said else self._why_full(None) if why is Sign.FULL else ""
        self._decide(f"home is lost: {why}" + (f" ({seen})" if seen else ""), bad=True)
        self._tell(self._course.lost(why, now))
        reach("sentinel.told")
        self._launch()

    def _lose_some(self) -> None:
        """Tenants whose rows are gone while the others are there, as the record confirms."""
        assert self._vault is not None
        asked, self._empty = sorted(self._empty), {}
        self._seal()
        self._refresh()
        moments = {tenant: at for tenant in asked if (at := self._moment_of(tenant))}
        if not moments:
            return
        gone = tuple(moments)
        now = datetime.now(UTC)
        former = self._incident
        only = gone if former is None else (*(former.only or ()), *gone)
        rewound, beyond = (former.rewound, former.beyond) if former is not None else ((), ())
        if former is not None:
            moments = former.moments | moments
        self._write_down(
            Incident(
                now, Sign.EMPTY, lost=self._recorded(), timeline=self._vault.index.newest_timeline,
                only=tuple(dict.fromkeys(only)), ordered=not self._options.asks, moments=moments, rewound=rewound,
                beyond=(*beyond, *(Span(moments[tenant], tenant=tenant) for tenant in gone)),
            ),
        )  # fmt: skip
        self._decide(f"rows of {', '.join(gone)} are gone, and others' are there", bad=True)
        self._tell(self._course.lost(Sign.EMPTY, now, frozenset(gone)))
        self._launch()

    def _seal(self) -> bool:
        """The record's tail comes into the vault; whether all of it has. BallastError, OSError: it does not, or not in time."""
        assert self._vault is not None
        vault, settings, path = self._vault, self._settings, self._options.config_path
        return self._patience(
            "sealing the record's tail",
            lambda: tail.bring_in(vault, settings, path, self._said, _SEALING_S),
            2 * _SEALING_S,
        )

    def _moment_of(self, tenant: str) -> str:
        """The position to which this one alone goes back; "": nothing is missing, or a person must say it, who is told."""
        assert self._vault is not None
        vault = self._vault
        found = self._patience(f"what became of {tenant}", lambda: tenant_emptied(vault, tenant), _LOOKING_S)
        if found is None:
            why = "the record knows of no rows that were taken from it lately"
            self._log.warning("not_lost", tenant=tenant, why=why)
            return ""
        if not found.at:
            self._unclear[tenant] = time.monotonic()
            self._alarm(
                f"rows of {tenant} are missing at home, and the record shows no moment at which all of them went"
                f" ({found.told}): a person must look (ballast changes --tenant {tenant}) and put it"
                " back (ballast rewind)"
            )
        return found.at

    def _second_loss(self) -> None:
        """While everybody was on the way home."""
        assert self._incident is not None
        why, now = self._watched.why, datetime.now(UTC)
        beyond = self._incident.beyond
        if not self._incident.ordered or why not in OF_DATA:
            # Else all go back to before that, if rows were taken from them as well.
            beyond = tuple(s for s in beyond if s.tenant is None or s.until)
            for span in set(self._incident.beyond).difference(beyond):
                self._tell_not_put_back(span)
        self._refresh()
        self._decide(f"home is lost again: {why}", bad=True)
        timeline = self._vault.index.newest_timeline if self._vault is not None else self._incident.timeline
        self._note(
            why=why, lost=self._recorded(), timeline=timeline, only=None, data_lost=False, why_lost="", at="", why_at="",
            foretold="", relaunch=True, moments={}, rewound=(),
            ordered=self._incident.ordered if self._home is not None else not self._options.asks,
            beyond=beyond,
        )  # fmt: skip
        if self._rebuilding is not None:
            self._rebuilding.stop()
        self._rebuilding = self._coming = None
        self._process_at = self._stuck_since = time.monotonic()
        self._tell(self._course.lost(why, now))
        self._launch()

    def _tell_not_put_back(self, span: Span) -> None:
        self._alarm(
            f"{span.tenant} was not put back yet when home was lost: ballast rewind --tenant {span.tenant} --at {span.since}"
        )

    def _launch(self) -> None:
        """The first of this loss, or one in the place of one that was lost."""
        under_way = self._incident
        if self._vault is None:
            self._open_vault()
        if self._vault is None or under_way is None:
            self._try_at = time.monotonic() + _AGAIN_S
            return
        began = time.monotonic()
        if self._vault_away and self._take_as_it_is():
            return
        foretold = self._see_ahead(under_way)
        if foretold is not None:
            self._quiet_until = began + _LAUNCHING_S
        else:
            self._try_to_seal()
        sealed = time.monotonic()
        vault, boats = self._vault, self._boats
        try:
            resolved = self._boat_moment(under_way) if foretold is None else self._resolve(show(foretold.cut))
            chosen = time.monotonic()
            made = self._patience(LAUNCHING, lambda: boats.make(vault, resolved), _LAUNCHING_S, keep=True)
            if made.resolved.cut != resolved.cut:  # it took so long that another is wanted now
                boats.throw_away(made.boat)
                raise Busy("a lifeboat of another moment is wanted", "It is launched in a moment.")
            boat = boats.board(made.number, made.boat, is_new=True)
        except (BallastError, psycopg.Error, OSError):
            self._quiet_until = 0.0
            self._refresh()
            if self._vault_away and self._take_as_it_is():
                return
            self._try_at = time.monotonic() + _AGAIN_S
            raise
        self._note(
            boat=self._boats.number, boat_at=show(resolved.cut), boot=incident.boot_id(),
            foretold=show(foretold.deletion) if foretold is not None else "", relaunch=False,
        )  # fmt: skip
        reach("sentinel.launched")
        opened = time.monotonic()
        if foretold is not None:
            self._quiet_until = opened + _RUSH_S
        self._away_again()
        self._bring_in_again(resolved)
        self._again_into(began_from=0)
        self._roster = roster(boat) if self._course.only is None else sorted(self._course.only)
        last = self._intake.entries()
        self._tell(self._course.launched(boat.dsn(), resolved.committed_at, vault_away=bool(self._vault_away)))
        self._boats.sink_former()
        self._again_into(began_from=last[-1].number if last else 0)
        self._decide(
            f"the lifeboat is afloat {opened - began:.2f} s after that (the record's tail {sealed - began:.2f} s, the moment"
            f" {chosen - sealed:.2f} s), as of"
            f" {resolved.committed_at or resolved.how}"
        )

    def _see_ahead(self, under_way: Incident) -> Foretold | None:
        """The moment that can be told before the record's tail is sealed; for the first lifeboat of a loss: see `_confirm`."""
        if under_way.boat or under_way.at or under_way.moments:
            return None
        try:
            found = self._foretell()
        except Exception as error:  # whatever it is: without it the full way is gone
            self._log.warning("not_foretold", reason=str(error) or type(error).__name__)
            return None
        if found is not None:
            self._decide(f"rows were deleted, as the recorder's spool shows: {found.why}", bad=True)
        return found

    def _confirm(self) -> bool:
        """Whether all that was recorded has been looked at, where the lifeboat was launched before it was sealed. Home is not
        recovered before that; and where it tells another moment, another lifeboat takes the place of this one."""
        under_way = self._incident
        if under_way is None or not under_way.foretold:
            return True
        now = time.monotonic()
        if now < max(self._confirm_at, self._quiet_until):
            return False
        self._waits_for, self._confirm_at = "the end of the record, which is on its way into the vault", 0.0
        if not under_way.at:
            if not self._try_to_seal():
                self._confirm_at = now + _AGAIN_S
                self._unsealed_since = self._unsealed_since or now
                if now - self._unsealed_since < _UNCONFIRMED_S:
                    return False
                # Whoever recovers ends the recorder and seals what it holds himself.
                why = f"rows were deleted, as the spool shows, whose end could not be sealed in {_UNCONFIRMED_S:.0f} s"
                under_way = under_way.going_back(under_way.boat_at, why)
                self._write_down(under_way)
                self._decide(f"the recovery goes to the moment of the lifeboat: {why}", bad=True)
            else:
                under_way = self._note_chosen(under_way, self._choose())
        if under_way.at in (under_way.foretold, under_way.boat_at):
            self._bring_in_again(self._resolve(under_way.boat_at))
            self._note(foretold="")
            self._waits_for, self._unsealed_since = "", 0.0
            return True
        self._decide(
            f"the whole record tells another moment than the lifeboat is of ({under_way.at or 'the newest'}, not"
            f" {under_way.foretold}): another takes its place",
            bad=True,
        )
        self._launch()
        return False

    _confirm_at = _unsealed_since = 0.0

    def _try_to_seal(self) -> bool:
        """Whether all of the record's tail has come into the vault; what stands in the way is logged."""
        try:
            return self._seal()
        except (BallastError, OSError) as error:
            self._log.warning("not_sealed", reason=str(error))
            return False

    def _take_as_it_is(self) -> bool:
        """Where the vault is away: the lifeboat with whom it was built ahead."""
        if self._boats.afloat is not None:
            return False
        taken = self._boats.take_as_it_is()
        if taken is None:
            return False
        boat, resolved = taken
        self._note(boat=self._boats.number, boat_at=show(resolved.cut), boot=incident.boot_id())
        self._again_into(began_from=0)
        self._roster = roster(boat)
        self._tell(self._course.launched(boat.dsn(), resolved.committed_at, vault_away=True))
        self._decide(
            f"the vault is away, too ({self._vault_away}): those shops that are in the lifeboat are served, as of"
            f" {resolved.committed_at}",
            bad=True,
        )
        return True

    def _boat_moment(self, under_way: Incident) -> Resolved:
        assert self._vault is not None
        if under_way.moments:
            moments = [self._resolve(at) for at in under_way.moments.values()]
            return min(moments, key=lambda moment: moment.cut.lsn)
        if under_way.at:
            return self._resolve(under_way.at)
        chosen = self._choose()
        chosen_at = self._note_chosen(under_way, chosen).at
        return self._resolve(chosen_at) if chosen.why else chosen.resolved

    def _note_chosen(self, under_way: Incident, chosen: Chosen) -> Incident:
        """The moment before rows were deleted is written down: when it is recovered, the record may have gone on for hours."""
        if not chosen.why:
            return under_way
        going_back = under_way.going_back(show(chosen.resolved.cut), chosen.why)
        self._write_down(going_back)
        self._decide(f"the record ends in rows that were deleted: {chosen.why}", bad=True)
        return going_back

    def _away_again(self) -> None:
        """Whoever had gone home is away once more."""
        closed = self._intake.closed().difference(self._bringing)  # those are on their way, and there in a moment
        away = [t for t in sorted(closed) if self._course.place(t) != "home"]
        note(self._intake, AWAY, away)

    def _again_into(self, *, began_from: int) -> None:
        """What was accepted, in the lifeboat that has not seen it."""
        left = [
            e for entries in open_entries(self._intake.entries()).values() for e in entries if e.number > began_from
        ]
        if not left or self._handler is None or self._boats.afloat is None:
            return
        try:
            boat, handler, items = self._boats.afloat, self._handler, sorted(left, key=lambda e: e.number)
            count = self._patience("doing again", lambda: do_again(boat, items, handler), _LAUNCHING_S)
        except (BallastError, psycopg.Error) as error:
            self._decide(f"{len(left)} accepted entries could not be done again in the lifeboat: {error}", bad=True)
        else:
            self._decide(f"{count} accepted entries are done again in the lifeboat")

    def _bring_in_again(self, resolved: Resolved) -> None:
        """What was committed after the moment that the lifeboat is of: whoever ordered just then finds the order. Shops do not
        wait long for it; at home it comes in before them."""
        assert self._incident is not None
        assert self._vault is not None
        vault, boat, counters, handler = self._vault, self._boats.afloat, self._settings.tenants.counters, self._handler
        at = show(resolved.cut)
        spans = [span for span in self._incident.beyond if span not in self._incident.not_put_back]
        if boat is None or not spans:
            return

        def work() -> int:
            # It may be of an earlier moment than some of those who are in it go back to.
            starts = {span: vault.resolve(span.since).cut for span in spans}
            earlier = {s for s, cut in starts.items() if cut.timeline == resolved.cut.timeline and cut > resolved.cut}
            found = later(vault, [msgspec.structs.replace(s, since=at) if s in earlier else s for s in spans], counters)
            bring_in_again(boat, found, handler)
            return found.transactions

        try:
            count = self._patience(f"bringing in again, lifeboat {self._boats.number}", work, _BRINGING_S)
        except Busy:
            self._decide(f"what came after {at} is on its way into the lifeboat")
        except (BallastError, psycopg.Error) as error:
            self._decide(f"what came after {at} is not in the lifeboat; it comes in at home: {error}", bad=True)
        else:
            self._decide(f"{count:,} transactions that came after {at} are in the lifeboat as well")

    def _keep_afloat(self) -> None:
        boat, under_way = self._boats.afloat, self._incident
        if under_way is not None and under_way.relaunch:
            if not self._vault_away:
                self._launch()
                return
            self._away_again()  # it may take long: they see what was when home was lost first, and that is said
        if boat is not None and boat.is_afloat:
            if boat.is_alone and self._vault is not None and under_way is not None and not self._vault_away:
                vault, at = self._vault, under_way.boat_at
                self._patience("going on", lambda: boat.go_on(vault, vault.resolve(at)), _LAUNCHING_S, keep=True)
                self._decide("the vault is back: whoever is not in the lifeboat yet can come into it again")
            if boat.built is not None and not self._vault_away and time.monotonic() >= self._renew_at:
                self._renew_at = time.monotonic() + 10 * _AGAIN_S
                self._decide("the vault is back: a lifeboat of the newest moment takes the place of this one")
                self._launch()
            elif self._course.vault_away != bool(self._vault_away):
                self._tell(self._course.launched(boat.dsn(), self._course.as_of, vault_away=bool(self._vault_away)))
            return
        assert under_way is not None
        self._decide("the lifeboat is lost", bad=True)
        if not self._raise(under_way):
            self._launch()

    def _raise(self, under_way: Incident) -> bool:
        """Start the same lifeboat again, with all that is in it; False: another must be launched."""
        if not under_way.boat or under_way.boot != incident.boot_id():
            return False
        try:
            boat = self._raised(under_way)
            self._roster = roster(boat) if under_way.only is None else sorted(under_way.only)
        except (BallastError, psycopg.Error, OSError) as error:
            self._log.warning("not_raised", reason=str(error))
            return False
        self._again_into(began_from=before_the_last(self._intake.entries()))
        if self._course.lifeboat != boat.dsn() or self._course.mode == "launching":
            self._tell(self._course.launched(boat.dsn(), self._course.as_of, vault_away=bool(self._vault_away)))
        self._decide("the lifeboat is started again, with all that was in it")
        return True

    def _raised(self, under_way: Incident) -> Lifeboat:
        boats, vault, at = self._boats, self._vault, under_way.boat_at
        if vault is not None and not self._vault_away:
            try:
                boat = self._patience(
                    "raising the lifeboat", lambda: boats.resume(under_way.boat, vault, vault.resolve(at)), _RAISING_S
                )
                return boats.board(under_way.boat, boat)
            except Busy as error:  # its data needs no vault to be served
                self._vault_away = str(error)
        return boats.resume_as_it_is(under_way.boat)
