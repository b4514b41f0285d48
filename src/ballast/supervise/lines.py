"""What the parts say: all of it into a log file each, and what a person must see onto the console.

Whoever writes to a pipe waits until somebody reads it. So reading a part's output never waits for the console: lines go through a
queue of bounded length, and where a terminal is stopped (Ctrl-S, a pager) they are counted instead of kept.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec

Write = Callable[[str, str, bool], None]
"""Shows a line: whose it is, the text, whether it is bad news."""

_KEPT_BYTES, _KEPT_FILES = 10 << 20, 4
_QUEUED = 1000
_QUIET = re.compile(r"\[(?:DEBUG|INFO)\]|(?:DEBUG|INFO)\b")
_BAD = frozenset({"error", "alarm"})


class Console:
    """Lines for a person, written by a thread of its own."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lines: queue.Queue[tuple[str, str, bool] | None] = queue.Queue(_QUEUED)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def say(self, who: str, text: str, *, bad: bool = False) -> None:
        """Shows a line, sooner or later; never waits."""
        try:
            self._lines.put_nowait((who, text, bad))
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Waits a moment for what has been said already."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=2.0)
        self._thread.join(2.0)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError, SystemExit):  # who read it has gone: the parts go on
                self._write(*line)
                if self._lost:
                    lost, self._lost = self._lost, 0
                    self._write("up", f"{lost} lines are only in the log files: nobody took them here", True)


class LogFile:
    """A part's log: every line with its time; when it is long, begun anew, and a few former ones are kept."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._handler = RotatingFileHandler(path, maxBytes=_KEPT_BYTES, backupCount=_KEPT_FILES, encoding="utf-8")
        self._handler.handleError = _ignore  # type: ignore[method-assign]

    def write(self, line: str) -> None:
        """Adds a line. A full disk must not end what is logged: it is ignored."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._handler.emit(LogRecord("", 0, "", 0, f"{stamp} {line}", (), None))

    def close(self) -> None:
        """No more lines."""
        self._handler.close()


def _ignore(record: LogRecord) -> None:
    """In place of a complaint on standard error."""


def for_people(line: str, *, everything: bool = False, ending: bool = False) -> str | None:
    """A part's line as it is shown on the console; None: it is for the log file alone.

    JSON objects of `logbook` come out as words. What tells of things as they should be is left out unless `everything`; and
    what a part that is told to end has to say of it (`ending`), unless it is bad."""
    if line.startswith("{"):
        with contextlib.suppress(msgspec.DecodeError, AttributeError):
            return _of_event(msgspec.json.decode(line), everything=everything, ending=ending)
    if not line.strip() or (not everything and (ending or _QUIET.match(line))):
        return None
    return line


def _of_event(event: dict[str, Any], *, everything: bool, ending: bool) -> str | None:
    level, what = event.get("level", ""), str(event.get("event", ""))
    if not everything and (level == "info" or (ending and level not in _BAD)):
        return None
    rest = {name: value for name, value in event.items() if name not in ("ts", "level", "event", "from")}
    words = " ".join(f"{name}={_word(value)}" for name, value in rest.items())
    return f"{what.replace('_', ' ')}{': ' if words else ''}{words}"


def _word(value: Any) -> str:
    if isinstance(value, dict) and "what" in value:
        return f"{value['what']} {value.get('do', '')}".strip()
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
