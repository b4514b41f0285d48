"""What is to run, as data."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """One program of those that run together."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Names of the parts that must be ready before it is started, also when it is started again."""
    ready: Callable[[int], bool] = lambda pid: True
    """Whether the process of that number can be used by others. Asked every moment while it starts; quick, and never raises."""
    once: bool = False
    """It does something and ends. Where it fails all is given up."""
    stops: int = 0
    """Its turn at the end: those with a lower number have ended before it is told to."""
    start_patience_s: float = 120.0
    """Not ready after so long, it is killed and started again."""
    lived_s: float = 60.0
    """One that lived so long and dies has just died, and is started again at once; one that did not will most likely die again,
    and rests longer each time."""
    stop_patience_s: float = 15.0
    """Killed where it has not ended by itself so long after it was told to (SIGTERM)."""
    hurry: int = signal.SIGKILL
    """Told instead of SIGTERM, or after it, where all is to end at once."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Beside the environment of the supervisor."""
    quiet: bool = False
    """What it says is for its log alone; when it dies, its last words are shown."""
    begins: str = ""
    """Told when it is started: what it is going to do, where that takes long."""
    address: str = ""
    """Where it is reached, for people."""
