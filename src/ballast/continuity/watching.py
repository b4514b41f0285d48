"""The sentinel looks at home and hears the bell, and tells a slow server from a lost one."""

from __future__ import annotations

import contextlib
import os
import queue
import time

from ballast.continuity import tail
from ballast.continuity.home import Data
from ballast.continuity.probe import Prober, Seen
from ballast.continuity.reading import Reading
from ballast.continuity.signs import Sign, Watched
from ballast.errors import BallastError
from ballast.vault.moment import show

_TICK_S = 0.1
_LOOK_AGAIN_S = 30.0
"""Into the record, of a tenant whose rows went in a way that it does not show."""
_ROOM_BYTES = 64 << 20


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
            if about == Sign.FULL:
                self._full_at = time.monotonic()
            if self._prober is not None:
                self._prober.look_now()
        elif what == "empty" and about:
            if time.monotonic() - self._unclear.get(about, -_LOOK_AGAIN_S) < _LOOK_AGAIN_S:
                return
            if self._course.mode == "home" or (self._course.only is not None and about not in self._course.only):
                self._empty.setdefault(about, self._good_looks)
        elif what == "visited" and about:
            self._visited[about] = None
        elif what == "recover" and self._incident is not None and not self._incident.ordered:
            self._order(about)

    def _order(self, at: str) -> None:
        """A person has given the word. `at`: a moment; "": the one that is chosen."""
        try:
            position = show(self._resolve(at).cut) if at and self._vault is not None else ""
        except BallastError as error:
            self._decide(f"a recovery was ordered to {at!r}, which is no moment of the record: {error}", bad=True)
            return
        assert self._incident is not None
        changed: dict[str, object] = {"ordered": True}
        if position:
            changed |= {"at": position, "why_at": "a person has chosen it", "beyond": ()}
            changed |= {"moments": dict.fromkeys(self._incident.only or (), position)}
        self._note(**changed)
        self._decide(f"a person has ordered the recovery{f' to {at}' if at else ''}")

    def _see(self, seen: Seen) -> None:
        """Of home. What was lost stays so until everybody is back there."""
        self._seen = seen
        sign = self._sign_of(seen)
        self._well = self._well + 1 if sign is Sign.NONE and seen.answer else 0
        self._good_looks += bool(self._well)
        is_watched = self._course.mode in ("home", "returning") or self._course.only is not None
        if not is_watched or self._watched.lost:
            return
        first = not self._watched.doubtful
        self._watched = self._watched.after(sign)
        if sign in (Sign.NONE, Sign.SLOW):
            return
        if first and self._vault is not None and self._course.mode == "home":
            # Whatever comes of it, the lifeboat will want it, and a seal more does no harm.
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
            if not self._seen_true:
                self._seen_true = True
                self._tell_health(at_once=True)
            if time.monotonic() - self._full_at < 1.0 and self._is_full():
                return Sign.FULL
            return Sign.NONE
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

    def _is_full(self, room: int = _ROOM_BYTES) -> bool:
        if self._home is None:
            return False
        with contextlib.suppress(OSError):
            found = os.statvfs(self._home.server.data_dir)
            return found.f_bavail * found.f_frsize < room
        return False

    @property
    def _some_are_empty(self) -> bool:
        """Tenants were missed, and home was well when it was looked at after that: not all are concerned."""
        return any(self._good_looks >= looks + 2 for looks in self._empty.values())
