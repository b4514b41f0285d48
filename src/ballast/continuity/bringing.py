"""What shops did elsewhere is brought home: what was committed after the moment that home went back to, and what was accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from ballast.continuity import holding, incident, tail
from ballast.continuity.bounded import bounded
from ballast.continuity.entries import open_entries
from ballast.continuity.helm import INTAKE
from ballast.continuity.homecoming import HomeComing, those_back
from ballast.continuity.incident import Incident
from ballast.continuity.intake import Intake
from ballast.continuity.leaving import LAUNCHING, Leaving
from ballast.continuity.patience import Busy
from ballast.continuity.signs import Watched
from ballast.recovery import Later, Span, open_for
from ballast.vault.failpoints import reach
from ballast.vault.records import Cut

TOGETHER = 40
_AGAIN_S = 1.0
_BRINGING_HOME_S = 10.0
_SHOWN = 5
_BRINGING = "bringing shops home"

T = TypeVar("T")


class Bringing(Leaving):
    """What is done at home for shops that are away."""

    _those_later: Mapping[str, object] = {}
    """Tenants of whom something was committed after the moment that home went back to."""

    def _go_home(self) -> None:
        self._waits_for = ""
        self._watched = Watched()
        self._tell(self._course.home_is_open())
        reach("sentinel.returning")

    def _home_dsn(self, statement_s: int = 20) -> str:
        """Home, for what this thread does there, which also sees to the lifeboat and notices the next loss."""
        return bounded(self._settings.dsn, statement_s)

    def _ask_for(self, tenants: list[str]) -> None:
        """Have the restorer bring these back at once; whoever does not come stands behind the others from then on."""
        for tenant in self._asking.ask(self._home_dsn(), tenants):
            if self._visited.pop(tenant, self) is not self:
                self._visited[tenant] = None

    def _home_coming(self) -> HomeComing:
        if self._coming is None:
            assert self._incident is not None
            if self._handler is None:
                self._load_handler()
            spans = self._spans_beyond(self._incident)
            found = self._later(spans)
            if spans:
                self._open_for(found)
            self._coming = HomeComing(self._intake_of_bringing, self._handler, self._home_dsn(), found)
            self._those_later = found.of
        return self._coming

    def _spans_beyond(self, under_way: Incident) -> tuple[Span, ...]:
        """What home, as it is recorded, does not have: it branches off just there. Another may have been recovered to a moment
        that somebody else has chosen."""
        if not under_way.beyond:
            return ()
        assert self._vault is not None
        index = self._vault.index
        newest = index.newest_timeline
        ends = {(part.timeline, part.to_lsn) for part in index.chain(Cut(newest, index.recorded_until(newest)))}
        found = []
        for span in under_way.beyond:
            if span in under_way.not_put_back:
                self._tell_not_put_back(span)
                continue
            cut = self._resolve(span.since).cut
            if span.tenant is not None or (cut.timeline, cut.lsn) in ends:
                found.append(span)
            else:
                self._alarm(
                    f"home was not recovered to {span.since}: what came after that moment is not brought in again"
                )
        return tuple(found)

    def _open_for(self, found: Later) -> None:
        """Home is made ready for what is brought in, and told is what cannot be."""
        assert self._incident is not None
        if not self._incident.is_opened and self._incident.opened != self._recorded():
            dsn, what = self._home_dsn(), f"making {self._recorded()} ready for what came after that moment"
            for failure in self._at_home_now(what, lambda: open_for(dsn, found), keep=True):
                self._alarm(f"not brought in again: {failure}")
            self._note(opened=self._recorded())
        if found.transactions:
            self._decide(
                f"{found.transactions:,} transactions were committed after that moment, while rows were deleted: they are brought"
                f" in again, in {len(found.of):,} shops; {found.deletions:,} that only deleted are left out"
            )
        if found.unclear:
            shown = " ".join(f"--transaction {position}" for position in found.unclear[:_SHOWN])
            self._alarm(
                f"{len(found.unclear):,} transactions that added or changed rows after that moment took more than they added, and"
                f" are left out as part of the deletion; look whether they were: ballast changes {shown}"
            )

    def _merge_ahead(self) -> None:
        """While home is not recorded yet nobody goes there; but what is known by now can be done there already, and is done again
        should home be lost."""
        waiting = list(open_entries(self._intake.entries()))
        if waiting and self._handler is not None:
            self._home_coming().merge_ahead(those_back(self._home_dsn(), waiting, TOGETHER))

    def _bring(self, wanted: list[str], most: int) -> tuple[str, ...]:
        if not wanted:
            return ()
        dsn = self._home_dsn()
        back = self._at_home_now("looking who is back", lambda: those_back(dsn, wanted, most))
        return self._bring_these(tuple(back)) if back else ()

    def _bring_these(self, tenants: tuple[str, ...]) -> tuple[str, ...]:
        """Who came of them. Busy: it takes long, and goes on: the lifeboat is seen to meanwhile."""
        coming, self._bringing = self._home_coming(), tenants
        is_over = True
        try:
            came = self._at_home_now(_BRINGING, lambda: coming.bring(tenants), keep=True)
        except Busy:
            is_over = False
            raise
        finally:
            if is_over:
                self._bringing = ()
        self._merged, self._refused = self._merged + came.merged, self._refused + came.refused
        self._trouble = came.trouble
        if came.trouble:
            self._try_at = time.monotonic() + _AGAIN_S
            self._log.error("not_home", reason=came.trouble)
        for refusal in came.not_again:
            self._alarm(
                f"{refusal.key.removeprefix('recorded:')} of {refusal.tenant}, committed after that moment, cannot be brought in"
                f" again: {refusal.reason}; it is kept: ballast merge --into DSN --tenant {refusal.tenant} (once more: --retry"
                " --handler ballast.recovery.redo:take_in)"
            )
        if came.home:
            course = self._course
            if self._incident is not None and self._incident.beyond and not self._incident.is_opened:
                self._note(is_opened=True)
            for tenant in came.home:
                course = course.came_home(tenant)
            self._tell(course)
            reach("sentinel.came_home")
        return came.home

    def _at_home_now(self, what: str, work: Callable[[], T], *, keep: bool = False) -> T:
        """Something is done there, and waited for as long as home is not seen lost: a machine that is not there says nothing for
        long. What `work` raises; Busy."""
        return self._patience(what, work, _BRINGING_HOME_S, keep=keep, so_long=lambda: not self._watched.lost)

    def _leave_behind(self) -> None:
        """Home is lost, and those who are on their way do not come to an end there: they are in the lifeboat as before."""
        assert self._coming is not None
        fresh = Intake(self._folder / INTAKE, reserve_bytes=0)
        self._coming.give_up()
        former, self._intake_of_bringing = self._intake_of_bringing, fresh
        self._patience.give_up(_BRINGING, lambda came: former.close())
        self._bringing, self._coming = (), None

    def _merge_leftovers(self) -> None:
        """Of somebody who was in the lifeboat for a moment longer than it was told."""
        if time.monotonic() < self._leftovers_at:
            return
        entries = self._intake.entries()
        if not entries:
            return
        if left := open_entries(entries):
            if not tail.is_recording(self._settings):
                return
            came = HomeComing(self._intake, self._handler, self._home_dsn()).bring(sorted(left))
            if came.merged:
                self._decide(f"{came.merged} entries that had been left in the intake are merged")
            if came.trouble:
                # A clock of its own: a loss is noticed meanwhile.
                self._trouble, self._leftovers_at = came.trouble, time.monotonic() + 10 * _AGAIN_S
                return
            entries = self._intake.entries()
        self._intake.retire(entries[-1].number)

    def _end_incident(self) -> None:
        incident.forget(self._folder)  # first: one on disk wins over a course that says home
        self._tell(self._course.all_home())
        reach("sentinel.all_home")
        boats = self._boats
        self._patience.give_up(LAUNCHING, lambda made: boats.throw_away(made.boat) if made is not None else None)
        if self._rebuilding is not None:
            self._rebuilding.stop()
        holding.let_go(self._folder)
        self._incident = self._rebuilding = self._coming = None
        self._watched, self._roster, self._merged, self._refused = Watched(), [], 0, 0
        self._visited.clear()
        self._empty.clear()
        self._waits_for = self._trouble = ""
