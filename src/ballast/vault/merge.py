"""The merging process: `python -m ballast.vault.merge --config ballast.toml`, one round, then it ends.

A child that the recorder starts every now and then. It does what the rules (`merge_rules.py`) say is due: merges of
segments, then images of buckets that have changed much. Each is a ledger entry of its own, so that it may be
stopped or killed anywhere: the next round goes on. Sealer and imager go on meanwhile; the ledger's lock keeps order.

merge.json   `MergeState`, for `ballast status`
merge.lock   held while a round runs
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ballast.errors import BallastError, ConfigError, GapError, IntegrityError
from ballast.vault import config
from ballast.vault.batch import recover_batches
from ballast.vault.durable import keep_private, make_folder
from ballast.vault.health import now_iso, only_one, write_state
from ballast.vault.logbook import Logbook
from ballast.vault.merge_rules import Lag, due, image_cut, lag
from ballast.vault.rearrange import BucketFailed, Workshop, merge_changes, merge_image
from ballast.vault.records import SHARED_BUCKET, Cut, Entry, Merge
from ballast.vault.vault import Vault
from ballast.vault.weigh import Scales

STATE_FILE = "merge.json"
LOCK_FILE = "merge.lock"
_FOLDER = "merge"
_TRIES = 3
"""For an image merge, when images keep coming in that it should have been based on."""


class MergeState(msgspec.Struct, frozen=True):
    """How the last round went, or how far the present one is. Times are ISO, UTC."""

    pid: int
    began_at: str
    written_at: str
    ended: bool
    lag: Lag
    changes_merged: int = 0
    """Merges of changes written in this round."""
    buckets_imaged: int = 0
    rows: int = 0
    """In the runs of both."""
    bytes: int = 0
    failed: tuple[str, ...] = ()
    """What could not be merged, and why: for `ballast verify`."""


class Round:
    """One look at the vault, and all that is due."""

    def __init__(self, vault: Vault, state_dir: Path, log: Logbook, stopping: threading.Event) -> None:
        self._vault, self._state_dir, self._log, self._stopping = vault, state_dir, log, stopping
        self._shop = Workshop(vault, state_dir, state_dir / _FOLDER)
        self._timeline = vault.index.newest_timeline
        now = now_iso()
        self._state = MergeState(os.getpid(), now, now, False, lag(vault.index, self._timeline))

    def run(self) -> MergeState:
        """Do what is due, until nothing is or a stop is asked for. StoreError, FencedError."""
        self._note()
        # Changes first: moments before the images are restored from them.
        self._changes()
        self._images()
        self._note(ended=True, lag=lag(self._vault.index, self._timeline))
        return self._state

    def _images(self) -> None:
        cut = image_cut(self._vault.index, self._timeline)
        if cut is None:
            return
        waiting = self._due_at(cut)
        for _ in range(len(waiting) * _TRIES):
            if not waiting or self._stopping.is_set():
                break
            try:
                done = merge_image(self._shop, cut, waiting, self._stopping.is_set)
            except BucketFailed as error:
                self._failed(f"bucket {error.bucket} at {cut.timeline}/{cut.lsn:X}", error.__cause__)
                waiting = [bucket for bucket in waiting if bucket != error.bucket]
                continue
            if done.entry is None:
                # An image came between: it may have made this one needless.
                waiting = self._due_at(cut)
                continue
            waiting = [bucket for bucket in waiting if bucket not in done.buckets]
            self._written(done.entry, buckets_imaged=len(done.buckets))

    def _due_at(self, cut: Cut) -> list[int]:
        scales = Scales(self._vault, cut)
        found = []
        for bucket in range(SHARED_BUCKET, self._vault.index.genesis.buckets):
            try:
                if scales.image_due(bucket):
                    found.append(bucket)
            except (GapError, IntegrityError) as error:
                self._failed(f"bucket {bucket} at {cut.timeline}/{cut.lsn:X}", error)
        return found

    def _changes(self) -> None:
        while not self._stopping.is_set():
            self._vault.refresh()
            group = due(self._vault.index, self._timeline)
            if group is None:
                return
            timeline, pieces = group
            try:
                entry = merge_changes(self._shop, timeline, pieces)
            except (IntegrityError, ValueError) as error:
                self._failed(f"changes of {timeline}/{pieces[0].first_lsn:X} to {pieces[-1].last_lsn:X}", error)
                return
            self._written(entry, changes_merged=1)

    def _failed(self, what: str, error: BaseException | None) -> None:
        self._log.error("merge_failed", what=what, reason=error)
        self._note(failed=(*self._state.failed, f"{what}: {error}"))

    def _written(self, entry: Entry, *, buckets_imaged: int = 0, changes_merged: int = 0) -> None:
        merge = entry.body
        assert isinstance(merge, Merge)
        rows, size = sum(run.rows for run in merge.runs), sum(run.object.bytes for run in merge.runs)
        self._log.info(
            "merged",
            kind=merge.kind,
            times_merged=merge.level,
            buckets=buckets_imaged or None,
            first_lsn=merge.first_lsn,
            last_lsn=merge.last_lsn,
            rows=rows,
            bytes=size,
            runs=len(merge.runs),
        )
        state = self._state
        self._note(
            buckets_imaged=state.buckets_imaged + buckets_imaged,
            changes_merged=state.changes_merged + changes_merged,
            rows=state.rows + rows,
            bytes=state.bytes + size,
        )

    def _note(self, **changed: object) -> None:
        self._state = msgspec.structs.replace(self._state, written_at=now_iso(), **changed)
        write_state(self._state_dir, STATE_FILE, self._state)


def merge_round(
    vault: Vault, state_dir: Path, log: Logbook | None = None, stopping: threading.Event | None = None
) -> MergeState:
    """Merge what is due in `vault`, opened with its state folder. StoreError, FencedError."""
    scratch = state_dir / _FOLDER
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    recover_batches(vault.ledger, vault.store, state_dir)
    vault.refresh()
    try:
        return Round(vault, state_dir, log or Logbook("merge"), stopping or threading.Event()).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(settings: config.Config, log: Logbook, stopping: threading.Event) -> int:
    """One round by this configuration; the exit code."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_one(settings.state_dir, LOCK_FILE))
        except ConfigError:
            log.info("merging_already")
            return 0
        try:
            # What reading takes apart by bucket goes there too, and is gone with the next round if we are killed.
            tempfile.tempdir = str(settings.state_dir / _FOLDER)
            vault = Vault.open(settings.vault, state_dir=settings.state_dir)
            state = merge_round(vault, settings.state_dir, log, stopping)
        except (BallastError, OSError) as error:
            log.error("ended", reason=error)
            return 1
        log.info("ended", changes_merged=state.changes_merged, buckets_imaged=state.buckets_imaged, **_shown(state.lag))
    return 0


def _shown(lag: Lag) -> dict[str, int]:
    return {"segments_waiting": lag.segments, "runs_to_read": lag.runs}


def main(arguments: Sequence[str] | None = None) -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m ballast.vault.merge", description="One round of merging.")
    parser.add_argument("--config", type=Path, default=Path("ballast.toml"), help="ballast.toml")
    options = parser.parse_args(arguments)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log = Logbook("merge")
    try:
        settings = config.load(options.config)
    except BallastError as error:
        log.error("ended", reason=error)
        return 1
    return run(settings, log, stopping)


if __name__ == "__main__":
    keep_private()
    sys.exit(main())
