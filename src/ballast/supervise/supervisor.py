"""The loop: looks at every part a few times a second, and does what `rules` says."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from ballast.supervise import note, rules
from ballast.supervise.lines import Console, LogFile, for_people
from ballast.supervise.note import Note, PartNote
from ballast.supervise.part import Part
from ballast.supervise.processes import Running, pause
from ballast.supervise.rules import Start, State

_LOOK_S = 0.1
_LAST_LINES, _LAST_OF_QUIET = 15, 5


class Supervisor:
    """One run of some parts. `run` returns when all have ended."""

    def __init__(
        self,
        parts: Sequence[Part],
        folder: Path,
        console: Console,
        *,
        everything: bool = False,
        when_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`everything`: the console shows all that the parts say. `when_up` is called once, in a thread of its own, when all
        parts are ready for the first time."""
        self._parts = {part.name: part for part in parts}
        self._folder, self._console, self._everything = folder, console, everything
        self._when_up = when_up
        self._states = {part.name: State() for part in parts}
        self._running: dict[str, Running] = {}
        self._logs = {part.name: LogFile(folder / "logs" / f"{part.name}.log") for part in parts}
        self._last: dict[str, deque[str]] = {part.name: deque(maxlen=_LAST_LINES) for part in parts}
        self._asked = 0
        self._was_up = False
        self._noted: tuple[object, ...] = ()
        self._since = datetime.now(UTC)
        self._clock = time.monotonic()

    def stop(self) -> None:
        """End in order; asked again: at once. May be called by a signal's handler."""
        self._asked += 1

    def run(self) -> int:
        """Runs all until `stop`, SIGTERM, SIGINT or SIGHUP. To be called in the main thread.

        0: stopped as asked; 1: it could not go on."""
        former = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        gave_up = False
        try:
            while not (self._asked or gave_up):
                self._look()
                for action in rules.next_actions(self._parts, self._states, time.monotonic()):
                    self._do(action)
                self._tell()
                gave_up = self._has_failed()
                pause(_LOOK_S)
        except BaseException:
            self._asked = 1
            self._end()
            raise
        else:
            self._end()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            for log in self._logs.values():
                log.close()
        return 1 if gave_up else 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    # Looking

    def _look(self) -> None:
        for name, running in list(self._running.items()):
            part, now = self._parts[name], time.monotonic()
            code = running.exit_code()
            if code is not None:
                del self._running[name]
                was, self._states[name] = self._states[name], rules.ended(part, self._states[name], code, now)
                self._tell_end(name, was, now)
            elif self._states[name].phase == "starting" and not part.once and part.ready(running.pid):
                self._states[name] = rules.became_ready(self._states[name], now)
                again = " again" if self._states[name].restarts else ""
                self._say(f"{name} is up{again}{f': {part.address}' if part.address and not again else ''}")

    def _has_failed(self) -> bool:
        name = rules.failed(self._states)
        if name is None:
            return False
        self._say(
            f"{name} {self._states[name].ended}: nothing can go on without it. Its log: {self._logs[name].path}",
            bad=True,
        )
        return True

    # Doing

    def _do(self, action: rules.Action) -> None:
        name, now = action.name, time.monotonic()
        if isinstance(action, Start):
            self._start(name, now)
            return
        if self._states[name].phase == "starting":
            self._say(
                f"{name} is not ready after {self._parts[name].start_patience_s:.0f} s: killed, to be started again",
                bad=True,
            )
        self._running[name].tell(action.number)

    def _start(self, name: str, now: float) -> None:
        part, state = self._parts[name], self._states[name]
        self._last[name].clear()
        try:
            running = Running(part, str(self._folder), lambda line: self._heard(name, line))
        except OSError as error:  # no memory, no process number left: as if it had died at once
            self._states[name] = rules.ended(part, rules.started(state, 0, now), 1, now)
            self._say(f"{name} could not be started: {error}", bad=True)
            return
        if part.begins:
            self._say(f"{name}: {part.begins}")
        self._running[name] = running
        self._states[name] = rules.started(state, running.pid, now)

    def _end(self) -> None:
        """Waits until nobody lives any more."""
        self._states = rules.settled(self._states)
        self._say("stopping; once more, and it is done at once" if self._asked else "stopping")
        while self._running:
            self._look()
            now = time.monotonic()
            for action in rules.stop_actions(self._parts, self._states, now, hurry=self._asked > 1):
                self._running[action.name].tell(action.number)
                self._states[action.name] = rules.told(self._states[action.name], action.number, now)
            self._tell()
            pause(_LOOK_S / 5)
        self._say("stopped")

    # Telling

    def _heard(self, name: str, line: str) -> None:
        """In the thread that reads the part's output."""
        self._logs[name].write(line)
        self._last[name].append(line)
        if self._parts[name].quiet and not self._everything:
            return
        shown = for_people(line, everything=self._everything, ending=self._asked > 0)
        if shown is not None:
            self._console.say(name, shown)

    def _say(self, text: str, *, bad: bool = False) -> None:
        self._console.say("up", text, bad=bad)

    def _tell_end(self, name: str, was: State, now: float) -> None:
        state = self._states[name]
        if state.phase == "failed" and self._parts[name].quiet:
            self._tell_last(name, _LAST_OF_QUIET)
        if state.phase != "resting":
            return
        rest = f"started again in {state.again_at - now:.0f} s" if state.again_at - now >= 1 else "started again"
        when = "while it started" if was.phase == "starting" else "while it ran"
        self._say(f"{name} {state.ended} {when}; {rest}", bad=True)
        if state.deaths == rules.MANY_DEATHS:
            self._say(
                f"{name} has died {state.deaths} times in a row within {self._parts[name].lived_s:.0f} s of its start; it is"
                f" tried every {rules.LONGEST_REST_S:.0f} s in the end. Its log is {self._logs[name].path}; what it said last:",
                bad=True,
            )
            self._tell_last(name, _LAST_LINES)
        elif self._parts[name].quiet:
            self._tell_last(name, _LAST_OF_QUIET)

    def _tell_last(self, name: str, most: int) -> None:
        for line in list(self._last[name])[-most:]:
            self._console.say(name, for_people(line, everything=True) or "", bad=True)

    def _tell(self) -> None:
        if not self._was_up and rules.all_up(self._states) and not self._asked:
            self._was_up = True
            threading.Thread(target=self._when_up, name="when up", daemon=True).start()
        key = (*self._states.values(), self._asked > 0)
        if key != self._noted:
            self._noted = key
            try:
                note.write(self._folder, self._note())
            except OSError as error:
                self._say(f"the state could not be written into {self._folder}: {error}", bad=True)

    def _note(self) -> Note:
        return Note(
            pid=os.getpid(),
            since=self._since.isoformat(timespec="seconds"),
            stopping=self._asked > 0,
            parts=tuple(
                PartNote(
                    name=name,
                    phase=state.phase,
                    since=(self._since + timedelta(seconds=max(0.0, state.since - self._clock))).isoformat(
                        timespec="seconds"
                    ),
                    pid=state.pid,
                    restarts=state.restarts,
                    ended=state.ended,
                    address=self._parts[name].address,
                    log=str(self._logs[name].path),
                )
                for name, state in self._states.items()
            ),
        )
