"""Home is waited for, or made anew; then everybody goes back, one after the other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from ballast.continuity import holding, incident, tail
from ballast.continuity.bounded import bounded
from ballast.continuity.course import address
from ballast.continuity.entries import open_entries
from ballast.continuity.home import Data
from ballast.continuity.homecoming import HomeComing, those_back
from ballast.continuity.incident import Incident
from ballast.continuity.leaving import Leaving
from ballast.continuity.patience import Busy
from ballast.continuity.rebuilding import Rebuilding
from ballast.continuity.room import ENOUGH_BYTES
from ballast.continuity.signs import Sign, Watched
from ballast.continuity.some import rewind_some
from ballast.errors import BallastError
from ballast.recovery import Later, Span, open_for
from ballast.vault import config
from ballast.vault.failpoints import reach
from ballast.vault.moment import show
from ballast.vault.records import Cut

_DAMAGED_AFTER_S = 45.0
"""A server with its data that no process has been working on for so long does not start any more."""
_ROOM_BYTES = 128 << 20
"""More than what it was left for: home is not gone back to for a moment."""
_STUCK_AFTER_S = 5.0
_VISITED_FIRST, _TOGETHER = 12, 40
_RESTART_S = 3.0
_AGAIN_S, _ASKS_AGAIN_S = 1.0, 5.0
_REWIND_S = 300
_PUTTING_BACK_S, _BRINGING_HOME_S = 5.0, 10.0
_SHOWN = 5
_LAST_S = 0.2
"""A process that was in the lifeboat when it was sunk has noticed after so long."""


class Returning(Leaving):
    """The way home."""

    _asked_again_at = 0.0
    _those_later: Mapping[str, object] = {}
    """Tenants of whom something was committed after the moment that home went back to."""

    def _see_to_home(self) -> None:
        under_way = self._incident
        assert under_way is not None
        if under_way.only is not None:
            self._see_to_some(under_way)
            return
        if self._home is None:
            self._follow_settings()
        if under_way.is_taken_back(self._well, self._is_begun()):
            under_way = self._note(data_lost=False, why_lost="", ordered=not self._options.asks)
            self._decide("home is well again, and nothing of it was touched: its data is not lost")
        if not under_way.data_lost:
            why = self._why_lost_for_good()
            if not why:
                self._return_to_the_same()
                return
            # Before anything is noted: where the record cannot be read just now, it is looked at again.
            is_open_question = self._is_unexplained() and not under_way.at and not self._is_told_why()
            under_way = self._note(data_lost=True, why_lost=why)
            self._decide(f"home does not come back by itself: {why}", bad=True)
            if is_open_question:
                # It lives, and what the application knows is not there: a person must look what was done to it.
                under_way = self._note(ordered=False)
                self._decide(
                    "the record does not tell when its rows went: a person must say which moment is to come back"
                )
        if self._home is None and not under_way.ordered:
            self._return_to_another(under_way)
        elif not under_way.ordered:
            self._waits_for = "the word for the recovery: ballast recover --now (--at MOMENT: not to the newest)"
            if not self._options.asks and not under_way.at and self._is_told_by_now():
                self._note(ordered=True)
                self._decide("the record tells by now when its rows went")
        else:
            self._rebuild(under_way)

    def _is_begun(self) -> bool:
        """Whether anything was done about the server that was home: then it is not what it was."""
        seen, under_way = self._seen, self._incident
        if seen is None or under_way is None or (under_way.lost and seen.identifier != under_way.lost):
            return True
        return holding.is_held(self._folder) or (self._home is not None and self._data() is not Data.THERE)

    def _why_lost_for_good(self) -> str:
        """Why the server that was home cannot come back by itself; "" while it can."""
        seen = self._seen
        if self._home is not None:
            data = self._data()
            if data is Data.GONE:
                return f"its data folder {self._home.server.pgdata} is gone"
            if data is Data.ANOTHER:
                return "an empty server stands in its place"
            if self._home.has_process or self._is_full():
                self._process_at = time.monotonic()
            elif time.monotonic() - self._process_at > _DAMAGED_AFTER_S:
                return f"it has not started for {_DAMAGED_AFTER_S:.0f} s; see {self._home.server.log_path}"
        if seen is None:
            return ""
        sign = self._sign_of(seen)
        if seen.sign is Sign.NONE and sign is Sign.MISSING:
            return "another server stands in its place"
        if sign is Sign.MISSING:
            return f"it lacks what the application knows: {seen.what.splitlines()[0] if seen.what else ''}"
        if sign is Sign.EMPTY:
            return "its rows are gone"
        if sign is Sign.GONE and any(words in seen.what for words in ("could not open file", "could not read")):
            return f"files of it are gone: {seen.what.splitlines()[0]}"
        return ""

    def _is_unexplained(self) -> bool:
        """Whether the server that was home lives with its data, and rows or tables are missing in it: the record must say why."""
        seen = self._seen
        if self._home is None or self._data() is not Data.THERE or seen is None:
            return False
        if seen.sign is Sign.MISSING and "database" in seen.what:
            return False  # dropped as a whole, which is no change of any row
        return self._sign_of(seen) in (Sign.EMPTY, Sign.MISSING)

    def _is_told_why(self) -> bool:
        """Whether the record shows how its rows went, which may be in the spool alone. BallastError: not known."""
        try:
            self._seal()
        except (BallastError, OSError) as error:
            self._log.warning("not_sealed", reason=str(error))
        return bool(self._choose().why)

    def _is_told_by_now(self) -> bool:
        """The same, now and then: a recorder that was away follows later."""
        if time.monotonic() < self._asked_again_at:
            return False
        self._asked_again_at = time.monotonic() + _ASKS_AGAIN_S
        return self._is_told_why()

    def _return_to_the_same(self) -> None:
        self._waits_for = self._what_is_waited_for()
        self._see_to_stuck()
        if not self._is_home_well():
            return
        if not tail.is_recording(self._settings):
            self._waits_for = "the recorder, which commits at home wait for"
            return
        self._decide("home is back with its data: nothing needs to be recovered")
        self._go_home()

    def _needs_no_lifeboat(self) -> bool:
        """Whether home is well, and nothing says that any of its data went, while there is no lifeboat yet, for want of the vault
        perhaps: nobody was in one."""
        under_way = self._incident
        if under_way is None or under_way.data_lost or under_way.at or under_way.why_at or under_way.beyond:
            return False
        # What became of rows that were gone for a moment the record must tell.
        if self._course.only is not None or under_way.why in (Sign.EMPTY, Sign.MISSING) or not self._is_home_well():
            return False
        return not self._is_begun() and not open_entries(self._intake.entries()) and tail.is_recording(self._settings)

    def _is_home_well(self) -> bool:
        return self._well >= incident.WELL_LOOKS and not (self._left_for_room and self._is_full(_ROOM_BYTES))

    def _stay_home(self) -> None:
        """As if nobody had left."""
        self._decide("home is well again before there was a lifeboat: nobody needs one")
        self._boats.sink()  # one that could not be boarded
        self._end_incident()

    def _see_to_stuck(self) -> None:
        """A server of ours that says for long that it is not ready yet."""
        seen, now = self._seen, time.monotonic()
        if self._home is None or seen is None or seen.sign is not Sign.REFUSED or "not yet accepting" not in seen.what:
            self._stuck_since = now
        elif now - self._stuck_since > _STUCK_AFTER_S and not self._is_full():
            self._stuck_since = now
            if self._home.end_stuck():
                self._decide("home had nobody who makes it ready any more, and is started again", bad=True)

    @property
    def _left_for_room(self) -> bool:
        return self._incident is not None and self._incident.why is Sign.FULL

    def _what_is_waited_for(self) -> str:
        seen = self._seen
        if self._home is not None and self._is_full(_ROOM_BYTES if self._left_for_room else ENOUGH_BYTES):
            return (
                f"room on the disk of {self._home.server.data_dir}: {_ROOM_BYTES >> 20} MB must be free. Then the server starts"
                " by itself, and nothing is recovered"
            )
        if seen is not None and (seen.why or self._no_spool):
            return f"home, which has its data, to take writes again: {self._why_full(seen)}"
        if self._home is None and not self._well:
            return f"the server that was home, which is expected back; if it does not come: {self._by_hand}"
        return "the server that was home, which has its data and is expected back"

    def _follow_settings(self) -> None:
        """A server that is not ours may be recovered at another address: `recover --into` writes it into ballast.toml."""
        if time.monotonic() < self._follow_at:
            return
        self._follow_at = time.monotonic() + _AGAIN_S
        fresh = config.load(self._options.config_path)
        if fresh.dsn == self._settings.dsn:
            return
        self._settings = fresh
        self._tell(self._course.with_home(fresh.dsn))
        self._decide(f"home is at another address from now on, by {self._options.config_path}: {address(fresh.dsn)}")
        self._seen, self._well = None, 0
        self._look_from_now()
        if self._rebuilding is not None:
            self._new_rebuilding()

    @property
    def _by_hand(self) -> str:
        return (
            f"put an empty one in its place and say ballast recover --now --config {self._options.config_path} (with --into DSN"
            " where it is at another address)"
        )

    def _return_to_another(self, under_way: Incident) -> None:
        """A server that is not ours to make: a person recovers it, and protects it."""
        self._waits_for = f"a person, since the server is not ours to make: {self._by_hand}"
        seen = self._seen
        if seen is None or seen.sign is not Sign.NONE or self._recorded() != seen.identifier:
            return
        if seen.identifier == under_way.lost:
            return
        self._waits_for = "the recorder, which commits at home wait for: it records the server that was recovered"
        self._restart_recorder(seen.identifier)
        # Until somebody is back there the application's data seems to be gone, and it would be taken for lost at once.
        if tail.is_recording(self._settings) and (self._well or not self._seen_true):
            self._decide("another server is recovered and recorded")
            self._go_home()

    def _restart_recorder(self, identifier: str) -> None:
        """One that still looks for the server that was lost; who keeps it running starts it again, with the settings of now."""
        if self._recorder_of != identifier and not tail.is_recording(self._settings):
            self._recorder_of = identifier
            tail.stop_recorder(self._settings)

    def _rebuild(self, under_way: Incident) -> None:
        self._refresh()
        if self._vault_away and self._rebuilding is None:
            self._waits_for = f"the vault: {self._vault_away}"
            return
        recorded = self._recorded()
        now_there = self._there
        if recorded != under_way.lost and now_there is not None and now_there != recorded:
            assert self._vault is not None
            # It was recorded already, and is lost as well: what it has seen comes back, too.
            self._decide("the new server is lost, too", bad=True)
            under_way = self._note(lost=recorded, timeline=self._vault.index.newest_timeline, at="", why_at="")
            self._new_rebuilding()
        if self._rebuilding is None:
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._waits_for = "the new server"
        if self._home is None and now_there in (None, under_way.lost):
            self._waits_for = (
                f"an empty server at {address(self._settings.dsn)}, which is recovered as soon as it answers"
            )
        self._incident = self._rebuilding.step(under_way, self._settings, recorded, now_there)
        if not self._rebuilding.is_open:
            return
        self._waits_for = "the recorder, which commits at home wait for"
        if holding.is_held(self._folder):
            self._decide("the new server is open and protected; tenants come back")
            holding.let_go(self._folder)
        self._refresh()
        progress = self._rebuilding.progress
        is_recorded = progress is not None and self._recorded() == progress.identifier
        # The first of them must be back: else the application's data seems to be gone.
        if is_recorded and tail.is_recording(self._settings) and (self._well or not self._seen_true):
            self._go_home()
        else:
            self._ask_for([*self._visited, *self._roster][:1])
            self._merge_ahead()

    @property
    def _there(self) -> str | None:
        """Identifier of the server that stands at home now, as far as it can be told."""
        if self._home is not None:
            return self._home.identifier
        return (self._seen.identifier or None) if self._seen is not None else None

    def _new_rebuilding(self) -> None:
        if self._rebuilding is not None:
            self._rebuilding.stop()
        self._coming = None
        self._rebuilding = Rebuilding(
            self._options.config_path, self._folder, self._home, self._decide, self._choose, self._patience,
        )  # fmt: skip

    def _ask_for(self, tenants: list[str]) -> None:
        """Have the restorer bring these back at once; whoever does not come stands behind the others from then on."""
        for tenant in self._asking.ask(self._home_dsn(), tenants):
            if self._visited.pop(tenant, self) is not self:
                self._visited[tenant] = None

    def _merge_ahead(self) -> None:
        """While home is not recorded yet nobody goes there; but what is known by now can be done there already, and is done again
        should home be lost."""
        waiting = list(open_entries(self._intake.entries()))
        if waiting and self._handler is not None:
            self._home_coming().merge_ahead(those_back(self._home_dsn(), waiting, _TOGETHER))

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
            for failure in open_for(self._home_dsn(), found):
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

    def _home_dsn(self, statement_s: int = 20) -> str:
        """Home, for what this thread does there, which also sees to the lifeboat and notices the next loss."""
        return bounded(self._settings.dsn, statement_s)

    def _see_to_some(self, under_way: Incident) -> None:
        assert self._vault is not None
        if self._watched.lost:
            self._second_loss()
            return
        if self._some_are_empty:
            self._lose_some()
            return
        if not under_way.ordered:
            self._waits_for = "the word for putting them back: ballast recover --now"
            return
        for tenant, at in under_way.moments.items():
            if tenant not in under_way.rewound:
                under_way = self._put_back(under_way, tenant, at)
        if still := set(under_way.only or ()) - set(under_way.rewound):
            # Home it must not go as it is: what it accepted meanwhile would be merged into nothing.
            self._waits_for = f"a moment for {', '.join(sorted(still))}: ballast recover --now --at MOMENT"
            return
        self._go_home()

    def _put_back(self, under_way: Incident, tenant: str, at: str) -> Incident:
        assert self._vault is not None
        vault, dsn = self._vault, self._home_dsn(_REWIND_S)
        told, before = self._patience(
            f"putting back {tenant} to {at}", lambda: rewind_some(vault, dsn, tenant, at), _PUTTING_BACK_S, keep=True
        )
        if not before:  # it had been done, and not noted: what is done at home from now on is none of what came after
            self._seal()
            before = show(self._resolve("newest").cut)
        ended = (
            msgspec.structs.replace(s, until=before) if s.tenant == tenant and not s.until else s
            for s in under_way.beyond
        )
        under_way = self._note(rewound=(*under_way.rewound, tenant), beyond=tuple(ended))
        self._decide(told)
        return under_way

    def _go_home(self) -> None:
        self._waits_for = ""
        self._watched = Watched()
        self._tell(self._course.home_is_open())
        reach("sentinel.returning")

    def _is_restarted(self) -> bool:
        """Whether home, seen lost on the way there, has its data and was back at once, or may be in a moment: another lifeboat
        takes longer than that."""
        if self._home is None or self._data() is not Data.THERE or self._watched.why in (Sign.EMPTY, Sign.MISSING):
            return False
        if self._well:
            self._watched, self._doubted_at = Watched(), 0.0
            self._decide("home was restarted on the way there: it goes on")
            return True
        self._doubted_at = self._doubted_at or time.monotonic()
        return time.monotonic() - self._doubted_at < _RESTART_S

    def _bring_home(self) -> None:
        if self._bringing:  # nothing else is decided before it is known who came
            self._bring_these(self._bringing)
        if self._watched.lost:
            if not self._is_restarted():
                self._doubted_at = 0.0
                self._second_loss()
            return
        under_way = self._incident
        assert under_way is not None
        rebuilding = under_way.data_lost and under_way.ordered and under_way.only is None
        if rebuilding:
            self._see_to_restorer(under_way)
        self._home_coming()
        known = set(self._roster)
        everybody = [*self._roster, *(t for t in self._those_later if t not in known)]
        everybody += [t for t in open_entries(self._intake.entries()) if t not in known and t not in self._those_later]
        missing = [tenant for tenant in everybody if tenant not in self._course.back]
        if not missing:
            if not rebuilding or (self._rebuilding is not None and self._rebuilding.is_done):
                self._all_home()
            return
        away = set(missing)
        first = [tenant for tenant in self._visited if tenant in away][:_VISITED_FIRST]
        self._ask_for(first)
        if came := self._bring(first, _VISITED_FIRST) or self._bring(missing, _TOGETHER):
            for tenant in came:
                self._visited.pop(tenant, None)

    def _bring(self, wanted: list[str], most: int) -> tuple[str, ...]:
        if not wanted:
            return ()
        back = those_back(self._home_dsn(), wanted, most)
        return self._bring_these(tuple(back)) if back else ()

    def _bring_these(self, tenants: tuple[str, ...]) -> tuple[str, ...]:
        """Who came of them. Busy: it takes long, and goes on: the lifeboat is seen to meanwhile."""
        coming, self._bringing = self._home_coming(), tenants
        is_over = True
        try:
            came = self._patience("bringing shops home", lambda: coming.bring(tenants), _BRINGING_HOME_S, keep=True)
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

    def _see_to_restorer(self, under_way: Incident) -> None:
        if self._rebuilding is None:
            if self._vault_away:
                return  # which server is recorded is not known for certain: nothing is stopped for it
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._incident = self._rebuilding.step(under_way, self._settings, self._recorded(), self._there)
        if self._rebuilding.is_open and holding.is_held(self._folder):
            holding.let_go(self._folder)

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

    def _all_home(self) -> None:
        # Who is in the lifeboat still can do nothing there any more; only then is the intake opened anew for another loss.
        self._boats.sink()
        time.sleep(_LAST_S)
        reach("sentinel.sunk")
        self._leftovers_at = 0.0
        self._merge_leftovers()
        under_way = self._incident
        assert under_way is not None
        seconds = (datetime.now(UTC) - under_way.since).total_seconds()
        self._decide(
            f"all{f' {back}' if (back := len(self._course.back)) else ''} are home {seconds:.1f} s after the loss;"
            f" {self._merged} entries merged, {self._refused} refused"
        )
        self._end_incident()

    def _end_incident(self) -> None:
        incident.forget(self._folder)  # first: one on disk wins over a course that says home
        self._tell(self._course.all_home())
        reach("sentinel.all_home")
        if self._rebuilding is not None:
            self._rebuilding.stop()
        holding.let_go(self._folder)
        self._incident = self._rebuilding = self._coming = None
        self._watched, self._roster, self._merged, self._refused = Watched(), [], 0, 0
        self._visited.clear()
        self._empty.clear()
        self._waits_for = self._trouble = ""
