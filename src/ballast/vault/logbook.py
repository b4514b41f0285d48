"""What the recorder says while it runs: one JSON object a line, for people with `jq` and for collectors alike.

    {"ts": "2026-03-01T10:55:00.123456+00:00", "level": "warning", "event": "reconnecting", "wait_s": 0.4, …}

`event` is a fixed word to search for; everything that varies is a field. Positions are written as PostgreSQL
writes them: fields whose names end in `lsn` are given as numbers and come out as text.
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from ballast.errors import BallastError
from ballast.postgres.lsn import format_lsn

Level = Literal["info", "warning", "error", "alarm"]
"""`alarm`: production is not protected as the owner asked, or may not be; a person must look."""


class Logbook:
    """Writes lines to `stream` (standard error by default); may be used by several threads."""

    def __init__(self, source: str, stream: TextIO | None = None) -> None:
        self._source = source
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, level: Level, event: str, **fields: Any) -> None:
        """Add a line. A reader that has gone away must not end the recorder: failures are ignored."""
        line: dict[str, Any] = {
            "ts": datetime.now(UTC).isoformat(),
            "level": level,
            "event": event,
            "from": self._source,
        }
        for name, value in fields.items():
            line[name] = _shown(name, value)
        text = msgspec.json.encode(line, enc_hook=str).decode()
        stream = self._stream or sys.stderr
        with self._lock:
            try:
                stream.write(text + "\n")
                stream.flush()
            except (OSError, ValueError):
                pass

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self.write("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is not as it should be, and goes on by itself."""
        self.write("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed and will not go on by itself."""
        self.write("error", event, **fields)

    def alarm(self, event: str, **fields: Any) -> None:
        """Production is not protected as asked."""
        self.write("alarm", event, **fields)


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, BallastError):
        return {"what": value.what, "do": value.do}
    if name.endswith("lsn") and isinstance(value, int):
        return format_lsn(value)
    return value
