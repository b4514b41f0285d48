"""SIGKILL to whoever serves or brings back the shops, at moments that the seed says."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.demo.stage import Stage
from ballast.demo.wanted import Victim
from ballast.supervise.processes import MARK

EARLY_S, WITHIN_S = 3.0, 15.0
"""Before the engineer begins, and after: that is when there is most to be disturbed."""
_WAITS_S = 10.0
"""For a victim that is not there yet."""
_RESTORER = "ballast.continuity.restorer"


class Killed(msgspec.Struct, frozen=True):
    """Somebody who was, and when (seconds since 1970)."""

    victim: Victim
    pid: int
    at: float


def planned(seed: int, victims: Sequence[Victim], kills: int) -> list[tuple[float, Victim]]:
    """Seconds after the engineer begins, or before where negative, and who; in their order."""
    rng = Random(f"kills {seed}")  # noqa: S311 - a run that failed is to be had again
    return sorted((rng.uniform(-EARLY_S, WITHIN_S), rng.choice(list(victims))) for _ in range(kills if victims else 0))


async def run(
    stage: Stage, plan: Sequence[tuple[float, Victim]], seed: int, begins_at: float, told: Callable[[Killed], None]
) -> None:
    """Kills them. Who does not come up in time is left out."""
    rng = Random(f"victims {seed}")  # noqa: S311
    for after_s, victim in plan:
        await asyncio.sleep(max(0.0, begins_at + after_s - time.time()))
        until = time.monotonic() + _WAITS_S
        while time.monotonic() < until:
            found = await asyncio.to_thread(processes, stage, victim)
            if found:
                process = rng.choice(found)
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
                    told(Killed(victim, process.pid, time.time()))
                    break
            await asyncio.sleep(0.1)


def processes(stage: Stage, victim: Victim) -> list[psutil.Process]:
    """Those of the platform that bear this name now."""
    if victim is Victim.SERVER:
        with contextlib.suppress(psutil.Error):
            return [psutil.Process(stage.server.pid)] if stage.server.pid is not None else []
    if victim is Victim.RESTORER:
        return _of(stage.folder, _RESTORER)
    note = stage.note()
    pid = next((part.pid for part in note.parts if part.name == victim.value), None) if note else None
    with contextlib.suppress(psutil.Error):
        if pid is not None:
            process = psutil.Process(pid)
            # A part with processes of its own below it: any of them.
            return [process, *process.children(recursive=True)] if victim is Victim.WEB else [process]
    return []


def _of(folder: Path, what: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # one that ends meanwhile
            if any(what in word for word in process.cmdline()) and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found
