"""The sentinel looks at home and hears the bell, and tells a slow server from a lost one."""

from __future__ import annotations

import contextlib
import queue
import time

from ballast.continuity import incident, room, tail
from ballast.continuity.home import Data
from ballast.continuity.probe import Prober, Seen
from ballast.continuity.reading import Reading
from ballast.continuity.signs import REFUSALS, Sign, Watched
from ballast.errors import BallastError
from ballast.vault.moment import show

_TICK_S, _PAUSE_S = 0.1, 0.05
_LOOK_AGAIN_S = 30.0
"""Into the record, of a tenant whose rows went in a way that it does not show."""
_DOUBT_S = 1.0
"""So long after a process was refused a write home is asked for room with each look."""
_TO_DOUBT_BYTES, _TO_RETURN_BYTES = 1 << 20, 16 << 20
_TELL_UNCONFIRMED_S = 60.0
_SPOOL_EVERY_S = 0.3


class Watching(Reading):
    """What is seen and heard."""

    def _look_from_now(self) -> None:
        if self._prober is not None:
            self._prober.stop()
        self._prober = Prober(self._settings.dsn, self._options.probe, self._events.put)
        self._prober.start()

    def _meanwhile(self) -> None:
        """What is seen counts at once; what is heard is for later, since it may change what is being worked at."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Seen):
                    self._see(event)
                else:
                    self._postponed.append(event)
        super()._meanwhile()

    def _hear(self) -> None:
        heard, self._postponed = self._postponed, []
        for text in heard:
            self._rung(text)
        if self._course.mode == "afloat":
            # Each page that is shown is heard of, and what must be done now is not told by one of them.
            self._stopping.wait(_PAUSE_S)
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=_TICK_S)
            while True:
                if isinstance(event, Seen):
                    self._see(event)
                else:
                    self._rung(event)
                event = self._events.get_nowait()

    def _hear_bell(self) -> None:
        while not self._stopping.is_set():
            for text in self._told.hear(1.0):
                self._events.put(text)

    def _rung(self, text: str) -> None:
        what, _, about = text.partition(" ")
        if what == "lost":
            if about in REFUSALS:
                self._doubt, self._refused_at = about, time.monotonic()
                self._ask_for_room()
            if self._prober is not None:
                self._prober.look_now()
        elif what == "empty" and about:
            if time.monotonic() - self._unclear.get(about, -_LOOK_AGAIN_S) < _LOOK_AGAIN_S:
                return
            if self._course.mode == "home" or (self._course.only is not None and about not in self._course.only):
                self._empty.setdefault(about, self._good_looks)
        elif what == "visited" and about:
            self._visited[about] = None
        elif what == "recover" and self._may_be_ordered:
            self._order(about)

    @property
    def _may_be_ordered(self) -> bool:
        under_way = self._incident
        return under_way is not None and (not under_way.ordered or (self._home is None and not under_way.data_lost))

    def _order(self, at: str) -> None:
        """A person has given the word. `at`: a moment; "": the one that is chosen."""
        try:
            position = show(self._resolve(at).cut) if at and self._vault is not None else ""
        except BallastError as error:
            self._decide(f"a recovery was ordered to {at!r}, which is no moment of the record: {error}", bad=True)
            return
        assert self._incident is not None
        changed: dict[str, object] = {"ordered": True}
        if self._home is None and self._incident.only is None and not self._well:
            # Nobody here can look whether it comes back; who has said this does not wait for it.
            changed |= {"data_lost": True, "why_lost": "a person has said so"}
        if position:
            changed |= {"at": position, "why_at": "a person has chosen it", "beyond": ()}
            changed |= {"moments": dict.fromkeys(self._incident.only or (), position)}
        self._note(**changed)
        self._decide(f"a person has ordered the recovery{f' to {at}' if at else ''}")

    def _see(self, seen: Seen) -> None:
        """Of home. What was lost stays so until everybody is back there."""
        self._seen = seen
        self._ask_for_room()
        sign = self._sign_of(seen)
        self._well = self._well + 1 if sign is Sign.NONE and seen.answer else 0
        self._good_looks += bool(self._well)
        self._see_refusal()
        is_watched = self._course.mode in ("home", "returning") or self._course.only is not None
        if not is_watched or self._watched.lost:
            return
        first = not self._watched.doubtful
        self._watched = self._watched.after(sign)
        if sign in (Sign.NONE, Sign.SLOW):
            return
        if first and sign is not Sign.EMPTY and self._vault is not None and self._course.mode == "home":
            # Whatever comes of it, the lifeboat will want it, and a seal more does no harm. Where rows are gone, it wants what
            # came before that, which is sealed by itself.
            with contextlib.suppress(BallastError, OSError):
                tail.ask(self._vault, self._settings)
        if not self._watched.lost and self._home is not None and self._data() is not Data.THERE:
            self._watched = Watched(lost=True, why=sign, doubtful=self._watched.doubtful)

    def _sign_of(self, seen: Seen) -> Sign:
        if seen.sign is not Sign.NONE:
            return seen.sign
        if seen.what:
            return Sign.SLOW  # it refused to say, for a reason of its own: nothing is known of the data
        if seen.identifier and seen.identifier != self._recorded():
            return Sign.MISSING  # another server, in which nothing is that was recorded
        if seen.answer:
            writable = self._seen_writable or seen.refuses is Sign.NONE
            if (self._seen_true, self._seen_writable) != (True, writable):
                self._seen_true, self._seen_writable = True, writable
                self._tell_health(at_once=True)
            if self._course.mode == "home" and self._is_doubted and self._doubt == Sign.FULL and self._is_full():
                return Sign.FULL
            if seen.refuses is Sign.NONE and self._spool_is_full():
                return Sign.FULL
            # What has never taken writes is a standby that is meant to be one.
            return seen.refuses if self._seen_writable else Sign.NONE
        return Sign.EMPTY if self._seen_true else Sign.NONE

    def _recorded(self) -> str:
        """Identifier of the server that the newest timeline is of; while all are at home, or coming home, that is home."""
        if self._vault is None or not self._vault.index.timelines:
            return self._incident.lost if self._incident is not None else ""
        found = self._vault.index.timelines[self._vault.index.newest_timeline].system_identifier
        seen = self._seen
        if seen is not None and seen.identifier not in ("", found):
            self._refresh()  # it may have been protected anew
            found = self._vault.index.timelines[self._vault.index.newest_timeline].system_identifier
        return found

    def _data(self) -> Data:
        assert self._home is not None
        lost = self._incident.lost if self._incident is not None and self._course.mode == "afloat" else ""
        return self._home.data(lost or self._recorded())

    def _is_full(self, wanted: int = room.ENOUGH_BYTES) -> bool:
        left = self._home.room if self._home is not None else None
        return left is not None and left < wanted

    def _spool_is_full(self) -> bool:
        """Whether commits at home wait for a recorder that has no room. Not while the vault is away: then the spool fills because
        nobody takes what is in it, and a lifeboat would be as old as the vault."""
        now = time.monotonic()
        if now >= self._spool_at:
            self._spool_at = now + _SPOOL_EVERY_S
            self._no_spool = not self._vault_away and tail.is_out_of_room(self._settings)
        return self._no_spool

    def _ask_for_room(self) -> None:
        """Have the prober see whether home can write, where somebody says that it cannot, or it could not before."""
        if self._prober is None:
            return
        could_not = self._incident is not None and self._course.mode != "home" and self._incident.why in REFUSALS
        if could_not or self._stuck:
            self._prober.room_bytes = _TO_RETURN_BYTES
        else:
            self._prober.room_bytes = _TO_DOUBT_BYTES if self._is_doubted else 0

    @property
    def _is_doubted(self) -> bool:
        return time.monotonic() - self._refused_at < _DOUBT_S

    def _see_refusal(self) -> None:
        """A process was refused a write, and home takes them by all that can be seen: nothing follows, but it is told."""
        if not self._doubt or self._is_doubted:
            return
        refused, self._doubt = self._doubt, ""
        if self._course.mode != "home" or self._stuck or self._well < incident.WELL_LOOKS:
            return
        if time.monotonic() - self._unconfirmed_at > _TELL_UNCONFIRMED_S:
            self._unconfirmed_at = time.monotonic()
            why = (
                "a role of the application may be set so (ALTER ROLE … SET default_transaction_read_only)"
                if refused == Sign.READ_ONLY
                else "a large query may have filled the disk for a moment"
            )
            self._decide(
                f"a process was refused a write ({refused.replace('_', ' ')}), and home takes writes from others: {why}."
                " Shops stay at home"
            )

    def _would_not_help(self) -> bool:
        """Home has no room and answers, and the lifeboat and the intake are on a disk that has none either: shops are shown at
        home, and orders are refused there before anything is paid, as they would be in the lifeboat."""
        if self._course.mode != "home" or self._watched.why is not Sign.FULL:
            return False
        seen, left = self._seen, room.left((self._folder,))
        if seen is None or seen.sign is not Sign.NONE or left is None or left >= room.ENOUGH_BYTES:
            return False
        if not self._stuck:
            self._tell(self._course.with_room(False))
            self._stuck = (
                f"room at home ({self._why_full(seen)}). The lifeboat and the intake in {self._folder} have none either, so that"
                " going over would not help: pages are served, what shoppers order is refused before they pay. Make room there;"
                " it is noticed"
            )
            self._decide(f"home takes no writes, and shops stay there: {self._stuck}", bad=True)
        self._waits_for, self._watched = self._stuck, Watched()
        return True

    def _why_full(self, seen: Seen | None) -> str:
        if seen is not None and seen.why:
            return seen.why.splitlines()[0]
        return "the recorder's spool, which commits wait for, has none" if self._no_spool else "its disk is full"

    def _has_room_again(self) -> None:
        if self._stuck and self._well >= incident.WELL_LOOKS:
            self._tell(self._course.with_room(True))
            self._stuck = self._waits_for = ""
            self._decide("home has room again, and takes writes")

    @property
    def _some_are_empty(self) -> bool:
        """Tenants were missed, and home was well when it was looked at after that: not all are concerned."""
        return any(self._good_looks >= looks + 2 for looks in self._empty.values())
