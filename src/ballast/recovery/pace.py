"""How fast a recovery goes: counts, rate of the last seconds, time left."""

from __future__ import annotations

import time
from collections import deque

from ballast.recovery.doorbell import Heard
from ballast.recovery.roster import Progress

_WINDOW_S = 15.0
_NAMES_SHOWN = 8


class Pace:
    """Its clock runs from its making. `back` is called under the caller's lock."""

    def __init__(self) -> None:
        self._begun_at = self._told_at = time.monotonic()
        self._opened_at: float | None = None
        self.tenants = self._back = self._estimated = self._rows = 0
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, tenants: int, back: int, estimated: int, rows: int) -> None:
        """So many there are, and so many are back already."""
        self.tenants, self._back, self._estimated, self._rows = tenants, back, estimated, rows
        self._samples = deque([(time.monotonic(), rows)])

    def opened(self) -> None:
        """Tenants are served from now on."""
        self._opened_at = time.monotonic()

    def back(self, tenants: int, rows: int) -> None:
        """More of them are back."""
        self._back += tenants
        self._rows += rows

    def is_due(self, every_s: float) -> bool:
        """Whether something should be said again; if so, it is taken as said."""
        now = time.monotonic()
        if now - self._told_at < every_s:
            return False
        self._told_at = now
        return True

    def progress(self, heard: Heard, failed: int) -> Progress:
        """As of now."""
        now = time.monotonic()
        self._samples.append((now, self._rows))
        while self._samples[0][0] < now - _WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (self._rows - before) / (now - since) if now > since and self._rows > before else None
        return Progress(
            tenants=self.tenants,
            tenants_back=self._back - failed,
            tenants_failed=failed,
            rows_estimated=max(self._estimated, self._rows),
            rows_back=self._rows,
            rows_per_second=rate,
            seconds_left=None if rate is None else max(0, self._estimated - self._rows) / rate,
            tenants_waited_for=len(heard.tenants),
            sessions_waiting=heard.sessions,
            waiting=heard.tenants[:_NAMES_SHOWN],
        )

    @property
    def elapsed_s(self) -> float:
        """Since its making."""
        return time.monotonic() - self._begun_at

    @property
    def opened_after_s(self) -> float | None:
        """When tenants were served first."""
        return None if self._opened_at is None else self._opened_at - self._begun_at
