"""Whoever looks on while rows are put back."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Shows how far a restore is. `begin` names a stage and its size in rows (0: unknown)."""

    def begin(self, stage: str, rows: int) -> None:
        """A new stage."""

    def advance(self, rows: int) -> None:
        """So many more rows are done; called from several threads."""


class Silent:
    """Shows nothing."""

    def begin(self, stage: str, rows: int) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""
