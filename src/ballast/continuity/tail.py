"""The record's last seconds: what only the recorder's spool holds comes into the vault before anything is rebuilt from it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.errors import BallastError, ServerError
from ballast.vault import Vault, health, salvage, undertaking, wish
from ballast.vault import origin as origins
from ballast.vault.config import Config
from ballast.vault.records import Cut
from ballast.vault.situation import Situation
from ballast.vault.undertaking import Held

_LOOK_S = 0.02
_REASON = "the database is lost"


def ask(vault: Vault, settings: Config) -> None:
    """Have a living recorder seal what it holds; returns at once. Nothing happens where there is nothing to seal."""
    held = _held(vault, settings)
    if held.content_lsn:
        timeline = vault.index.newest_timeline
        wish.leave(
            settings.state_dir, "seal", timeline, _REASON, to_lsn=held.content_lsn, id=f"lost-{held.content_lsn:X}"
        )


def bring_in(vault: Vault, settings: Config, config_path: Path, say: Callable[[str], None], timeout_s: float) -> bool:
    """All that the spool held when this was called is in the vault, by the recorder's sealer or, where none runs, by this
    process. False: not within this time.

    StoreError, ProtectionError: the vault is away, or the spool cannot be sealed."""
    until = time.monotonic() + timeout_s
    wanted = _held(vault, settings).content_lsn
    if not wanted:
        return True
    if health.is_held(settings.state_dir):
        ask(vault, settings)
        while vault.index.recorded_until(vault.index.newest_timeline) < wanted:
            if time.monotonic() > until or not health.is_held(settings.state_dir):
                break
            time.sleep(_LOOK_S)
            vault.refresh()
        else:
            return True
        if health.is_held(settings.state_dir):
            return False
    drain(settings, config_path, say)
    vault.refresh()
    return vault.index.recorded_until(vault.index.newest_timeline) >= wanted


def reaches(vault: Vault, settings: Config, cut: Cut, timeout_s: float) -> bool:
    """Whether a living recorder brings everything before the cut into the vault within this time. StoreError."""
    until = time.monotonic() + timeout_s
    while vault.index.recorded_until(cut.timeline) < cut.lsn:
        if time.monotonic() > until or not health.is_held(settings.state_dir):
            return False
        time.sleep(_LOOK_S)
        vault.refresh()
    return True


def drain(settings: Config, config_path: Path, say: Callable[[str], None]) -> None:
    """The same where no recorder runs, to the last byte. ConfigError where one does; ProtectionError where it cannot be."""
    vault = Vault.open(settings.vault, state_dir=settings.state_dir, key=settings.key)
    with health.only_one(settings.state_dir):
        origin = origins.of(vault.index)
        lost = Situation("fork", ("The server is gone.",), origin.timeline, origin.recorded_until)
        salvage.seal_rest(vault, settings, config_path, lost, say)


def stop_recorder(settings: Config, patience_s: float = 20.0) -> None:
    """End a living recorder in order, so that it seals what it holds; after this long, at once.

    ServerError: it is there all the same, after as long again."""
    if not health.is_held(settings.state_dir):
        return
    told = health.read_state(settings.state_dir, health.RECORDER_FILE, health.RecorderHealth)
    process = _recorder(told.pid) if told is not None else None
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        process.send_signal(signal.SIGTERM)
    until, is_killed = time.monotonic() + patience_s, False
    while health.is_held(settings.state_dir):
        if time.monotonic() > until:
            if is_killed:
                raise ServerError(
                    f"the recorder (process {process.pid}) has not ended {2 * patience_s:.0f} s after it was told to",
                    "Look what it waits for: a disk that does not answer, for example. It is tried again.",
                )
            with contextlib.suppress(psutil.Error):
                process.kill()
            until, is_killed = until + patience_s, True
        time.sleep(_LOOK_S)


def is_recording(settings: Config) -> bool:
    """Whether what is committed at home is in the record before anybody is told: a recorder runs, has caught up, and commits
    wait for it where they are to."""
    found = health.read_state(settings.state_dir, health.RECORDER_FILE, health.RecorderHealth)
    if found is None or found.state != "recording" or not health.is_held(settings.state_dir):
        return False
    return found.armed or found.acknowledge == "off" or bool(found.not_armed_because)


def is_out_of_room(settings: Config) -> bool:
    """Whether a recorder runs whose disk is full: commits at home wait until there is room."""
    found = health.read_state(settings.state_dir, health.RECORDER_FILE, health.RecorderHealth)
    return found is not None and found.state == "spool_full" and health.is_held(settings.state_dir)


def sealed_lsn(settings: Config) -> int:
    """How far the sealer of this machine says that it has come; 0: there is none."""
    with contextlib.suppress(OSError):
        found = health.read_state(settings.state_dir, health.SEALER_FILE, health.SealerHealth)
        return found.sealed_lsn if found is not None else 0
    return 0


def _held(vault: Vault, settings: Config) -> Held:
    timeline = vault.index.newest_timeline
    return undertaking.held(settings.spool_dir, timeline, vault.index.recorded_until(timeline))


def _recorder(pid: int) -> psutil.Process | None:
    """The process of that number, if it is a recorder and not ourselves."""
    if pid == os.getpid():
        return None
    with contextlib.suppress(psutil.Error, BallastError):
        process = psutil.Process(pid)
        if any("recorder" in word or "holding" in word or word == "record" for word in process.cmdline()):
            return process
    return None
