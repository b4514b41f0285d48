"""A moment of minutes ago, once the vault has it: the newest commits are still with the recorder, in its spool.

A restore may take the newest moment that there is. A rewind may not: to go back to 18:55 by a record that ends at 18:54 would
take away a minute that nobody asked to lose.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from ballast.errors import GapError, UsageError
from ballast.postgres import connect, parse_lsn
from ballast.vault import Resolved, Vault, wish
from ballast.vault.moment import show

_POSITION = re.compile(r"(\d{1,9}/)?[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_NEWEST = ("", "newest", "latest")


def reached(vault: Vault, at: str, *, dsn: str, state_dir: Path | None, patience_s: float = 30.0) -> Resolved:
    """The cut for `at`, as soon as the vault has a commit past it (a position: as soon as it has that).

    `state_dir`: the recorder's, if it is on this machine: it is then asked to seal even if nothing but its canary came.
    GapError after `patience_s`; UsageError for "newest", which is another moment at each look."""
    if at.strip().lower() in _NEWEST:
        raise UsageError(
            "a rewind needs a moment to go back to, not the newest.",
            "Give a time or a position; `ballast changes` proposes one.",
        )
    deadline = time.monotonic() + patience_s
    asked = False
    while True:
        vault.refresh()
        try:
            resolved = vault.resolve(at)
        except GapError:
            if time.monotonic() > deadline or not _may_come(vault, at):
                raise
        else:
            if _POSITION.fullmatch(at.strip()) or resolved.cut.lsn < vault.index.recorded_until(resolved.cut.timeline):
                return resolved
            if time.monotonic() > deadline:
                raise GapError(
                    f"The vault is recorded up to {show(resolved.cut)}, and has no commit after {at} yet.",
                    "Wait until the recorder has sealed it (`ballast status`), or give that position itself, if nothing happened"
                    " after it that is to stay.",
                )
        if not asked and state_dir is not None and state_dir.is_dir():
            with connect(dsn) as conn:
                row = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            assert row is not None
            reason = "a moment is asked for that is not sealed yet"
            wish.leave(state_dir, "seal", vault.index.newest_timeline, reason, to_lsn=parse_lsn(row[0]))
            asked = True
        time.sleep(0.2)


def _may_come(vault: Vault, at: str) -> bool:
    """Whether a position is past the end of what is recorded, and not before its beginning."""
    found = _POSITION.fullmatch(at.strip())
    if found is None:
        return False
    timeline = int(found[1][:-1]) if found[1] else vault.index.newest_timeline
    lsn = parse_lsn(at.strip().removeprefix(found[1] or ""))
    return timeline == vault.index.newest_timeline and lsn > vault.index.recorded_until(timeline)
