"""Whoever looks on while rows are put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ballast.recovery.roster import Progress


class Watcher(Protocol):
    """Shows how far a restore is. `begin` names a stage and its size in rows (0: unknown)."""

    def begin(self, stage: str, rows: int) -> None:
        """A new stage."""

    def advance(self, rows: int) -> None:
        """So many more rows are done; called from several threads."""


class Onlooker(Watcher, Protocol):
    """Shows how far a recovery on demand is."""

    def opened(self) -> None:
        """Structure and shared rows stand: from now on tenants are served."""

    def progressed(self, progress: Progress) -> None:
        """Every half second, from a thread of its own."""

    def say(self, line: str) -> None:
        """What people should know at once: who passes the gate, how the new server is protected."""


class Silent:
    """Shows nothing."""

    def opened(self) -> None:
        """Nothing."""

    def progressed(self, progress: Progress) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def begin(self, stage: str, rows: int) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""
