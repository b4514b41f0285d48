"""A process that takes what others leave of the processor (`nice`) has the server's processes that work for it do the same."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import psycopg


def hand_on(conn: psycopg.Connection[Any]) -> None:
    """The server process of this connection becomes as nice as this one is, where it runs on this machine and we may."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    if ours <= 0 or not conn.info.host.startswith("/"):
        return
    with contextlib.suppress(OSError):
        pid = conn.info.backend_pid
        # A socket may lead into another container, whose numbers are others'.
        if Path(f"/proc/{pid}/comm").read_text().startswith("postgres"):
            os.setpriority(os.PRIO_PROCESS, pid, ours)
