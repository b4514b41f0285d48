"""The server that is home: whether its data is there, and how it is ended and put aside. Without a connection.

A server that is starting, or has crashed with its data where it was, is waited for: it comes back whole, and nothing of it is
touched. Lost is what cannot come back by itself: the data folder is gone, or another server stands in its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from enum import StrEnum
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.continuity import room
from ballast.errors import ServerError
from ballast.postgres import EmbeddedServer
from ballast.postgres.postmaster import find_postmaster

_IDENTIFIER_BYTES = 8  # the first of pg_control: system_identifier, in the machine's own order


class Data(StrEnum):
    """What there is of the server that was recorded."""

    THERE = "there"
    GONE = "gone"
    ANOTHER = "another"
    """The data of a server that is not the recorded one: made anew."""


class Home:
    """The server of a platform's own, in `folder`."""

    def __init__(self, folder: Path, *, major: int = 18) -> None:
        self.server = EmbeddedServer(folder, major=major)

    @property
    def identifier(self) -> str | None:
        """The system identifier of the data that is there; None: there is none. ServerError: it cannot be looked at."""
        try:
            with (self.server.pgdata / "global" / "pg_control").open("rb") as control:
                found = control.read(_IDENTIFIER_BYTES)
            complete = stat.S_ISDIR(os.stat(self.server.pgdata / "base").st_mode) and len(found) == _IDENTIFIER_BYTES
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # of rights, of the disk, of this process: it says nothing of the data
            raise ServerError(
                f"the server's data in {self.server.pgdata} cannot be looked at: {error.strerror}",
                "See to what stands in the way; it is tried again, and until then nothing there is touched.",
            ) from error
        return str(int.from_bytes(found, sys.byteorder)) if complete else None

    def data(self, recorded: str) -> Data:
        """Of the server with this identifier. What cannot be looked at is not known to be gone."""
        try:
            found = self.identifier
        except ServerError:
            return Data.THERE
        if found is None:
            return Data.GONE
        return Data.THERE if found == recorded else Data.ANOTHER

    @property
    def room(self) -> int | None:
        """Bytes left on the fullest of the disks that its data, its log and its tablespaces are on; see `room.left`."""
        pgdata = self.server.pgdata
        spaces = []
        with contextlib.suppress(OSError):
            spaces = list((pgdata / "pg_tblspc").iterdir())
        return room.left((self.server.data_dir, pgdata, pgdata / "pg_wal", *spaces))

    @property
    def has_process(self) -> bool:
        """Whether a server works on the data folder, also one that is still starting."""
        return find_postmaster(self.server.pgdata) is not None

    def end_stuck(self) -> bool:
        """End a postmaster that has nobody who makes its data ready, so that it is started again; whether there was such a one.

        PostgreSQL 18 whose log found no room can stay so for ever when there is room again: in recovery, without the process that
        recovers. One that serves has none either, and is not to be asked about."""
        postmaster = find_postmaster(self.server.pgdata)
        try:
            if postmaster is None or any("startup" in " ".join(child.cmdline()) for child in postmaster.children()):
                return False
            postmaster.send_signal(signal.SIGQUIT)
        except psutil.Error:
            return False
        return True

    @property
    def kept(self) -> tuple[str, ...]:
        """Data of lost servers that was put aside beside it, until a person deletes it."""
        return tuple(sorted(str(path) for path in self.server.data_dir.glob("lost-*")))

    def put_aside(self, lost: str, to: Path) -> bool:
        """End what is left of the server with the identifier `lost`, and keep its data at `to`; whether there was any to keep.

        The next start makes an empty server. A server that is not the lost one is left alone. ServerError."""
        if self.data(lost) is Data.ANOTHER:
            return to.exists()
        if self.identifier is None and not os.path.lexists(self.server.pgdata):
            self.server.end_left_behind()
            return to.exists()
        try:
            self.server.set_aside(to)
        except OSError as error:
            raise ServerError(
                f"what is left of the lost server cannot be moved from {self.server.pgdata} to {to}: {error.strerror}",
                "See to rights and room there; it is tried again.",
            ) from error
        return True
