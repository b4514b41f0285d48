"""Home is waited for, or made anew; then everybody goes back, one after the other."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ballast.continuity import holding, incident, tail
from ballast.continuity.bringing import TOGETHER
from ballast.continuity.course import address
from ballast.continuity.entries import open_entries
from ballast.continuity.home import Data
from ballast.continuity.incident import Incident
from ballast.continuity.patience import Busy
from ballast.continuity.remaking import Remaking
from ballast.continuity.room import ENOUGH_BYTES
from ballast.continuity.signs import OF_DATA, Sign, Watched
from ballast.errors import BallastError, RestoreError
from ballast.recovery import recovery_begun
from ballast.recovery.copying import ServerRefused
from ballast.vault import config
from ballast.vault.failpoints import reach

_DAMAGED_AFTER_S = 45.0
"""A server with its data that no process has been working on for so long does not start any more."""
_ROOM_BYTES = 128 << 20
"""More than what it was left for: home is not gone back to for a moment."""
_STUCK_AFTER_S = 5.0
_VISITED_FIRST = 12
_RESTART_S = 3.0
_AGAIN_S, _ASKS_AGAIN_S = 1.0, 5.0
_ASKING_S = 5.0
_LAST_S = 0.2
"""A process that was in the lifeboat when it was sunk has noticed after so long."""


class Returning(Remaking):
    """The way home."""

    _asked_again_at = 0.0

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
            if self._is_on_its_way(under_way):
                return
            why = "its rows were taken" if under_way.is_emptied else self._why_lost_for_good()
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
        return self._sign_of(seen) in OF_DATA

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
        under_way, self._waits_for = self._incident, self._what_is_waited_for()
        assert under_way is not None
        self._see_to_stuck()
        if not self._is_home_well():
            return
        if not tail.is_recording(self._settings):
            self._waits_for = "the recorder, which commits at home wait for"
            return
        if lost := self._interrupted():
            self._go_on_recovering(under_way, lost)
        else:
            self._decide("home is back with its data: nothing needs to be recovered")
        self._go_home()

    def _interrupted(self) -> str:
        """Identifier of the server in whose place home was being recovered when it was lost again; "": it is whole. Asked of home
        itself, where the recovery notes its end: until then foreign keys are unchecked, and the gate stands. ServerRefused."""
        assert self._vault is not None
        vault, dsn = self._vault, self._home_dsn()
        try:
            at = self._patience("whether home is whole", lambda: recovery_begun(vault, dsn), _ASKING_S)
        except ServerRefused:
            raise
        except RestoreError as error:  # what is noted there is somebody else's, and none of a recovery of ours
            self._alarm(f"whether home was being recovered cannot be told: {error.what}")
            return ""
        return "" if at is None else vault.index.timelines[self._resolve(at).cut.timeline].system_identifier

    def _is_on_its_way(self, under_way: Incident) -> bool:
        """Whether nobody of the application is there because home was lost before the first of them was back: then its rows are
        not gone, and the recovery goes on."""
        seen = self._seen
        if seen is None or self._vault is None or self._sign_of(seen) is not Sign.EMPTY:
            return False
        lost = self._interrupted()
        return bool(lost) and self._go_on_recovering(under_way, lost)

    def _go_on_recovering(self, under_way: Incident, lost: str) -> bool:
        if lost == self._recorded() or (self._home is None and not under_way.ordered):
            self._alarm(
                "the recovery of home, which a person had begun, was interrupted when it was lost: go on with it, by the same"
                " ballast recover"
            )
            return False
        why = "it was lost while it was being recovered"
        self._note(lost=lost, data_lost=True, why_lost=why, ordered=True)
        self._decide("home is back with what was recovered of it: the recovery goes on")
        return True

    def _needs_no_lifeboat(self) -> bool:
        """Whether home is well, and nothing says that any of its data went, while there is no lifeboat yet, for want of the vault
        perhaps: nobody was in one."""
        under_way = self._incident
        if under_way is None or under_way.data_lost or under_way.at or under_way.why_at or under_way.beyond:
            return False
        # What became of rows that were gone for a moment the record must tell.
        if self._course.only is not None or under_way.why in OF_DATA or not self._is_home_well():
            return False
        if self._is_begun() or open_entries(self._intake.entries()) or not tail.is_recording(self._settings):
            return False
        try:
            return self._vault is None or not self._interrupted()
        except BallastError:
            return False

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

    def _is_restarted(self) -> bool:
        """Whether home, seen lost on the way there, has its data and was back at once, or may be in a moment: another lifeboat
        takes longer than that."""
        if self._home is None or self._data() is not Data.THERE or self._watched.why in OF_DATA:
            return False
        if self._well:
            self._watched, self._doubted_at = Watched(), 0.0
            self._decide("home was restarted on the way there: it goes on")
            return True
        self._doubted_at = self._doubted_at or time.monotonic()
        return time.monotonic() - self._doubted_at < _RESTART_S

    def _bring_home(self) -> None:
        if self._bringing:  # nothing else is decided before it is known who came
            try:
                self._bring_these(self._bringing)
            except Busy:
                if not self._watched.lost or self._is_restarted():
                    raise
                self._leave_behind()
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
        if came := self._bring(first, _VISITED_FIRST) or self._bring(missing, TOGETHER):
            for tenant in came:
                self._visited.pop(tenant, None)

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
