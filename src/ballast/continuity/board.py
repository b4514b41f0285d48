"""How the sentinel tells the other processes of its machine where tenants are: one small file, replaced as a whole.

Each process looks at the file's number and time with every transaction, which costs a microsecond, and reads it when it changed.
A machine without a sentinel has no file, and everybody is at home.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from ballast.continuity.course import Course
from ballast.vault.durable import make_folder
from ballast.vault.health import write_state

_FILE, _BELL = "course.json", "bell"


class Board:
    """The reading side."""

    def __init__(self, folder: Path) -> None:
        self._path, self._bell = folder / _FILE, folder / _BELL
        self._seen: tuple[int, int] | None = None
        self._course = Course()

    def course(self) -> Course:
        """As it was told last. What cannot be read, for a power cut or a full disk, changes nothing."""
        try:
            there = os.stat(self._path)
            seen = (there.st_ino, there.st_mtime_ns)
            if seen != self._seen:
                self._course = msgspec.json.decode(self._path.read_bytes(), type=Course)
                self._seen = seen
        except FileNotFoundError:
            self._seen, self._course = None, Course()
        except msgspec.DecodeError:
            self._seen = None
        return self._course

    def ring(self, what: str) -> bool:
        """Have the sentinel look at once. False: nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.setblocking(False)
            try:
                caller.sendto(what.encode()[:1000], str(self._bell))
            except BlockingIOError:
                return True  # it has enough to read
            except OSError:
                return False
        return True


class Told:
    """The sentinel's side: one process of a machine at a time."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._path = folder / _FILE
        bell = folder / _BELL
        bell.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(bell))

    def tell(self, course: Course) -> None:
        """From now on everybody reads this, also where the disk is full. Not synced: after a power cut there is no lifeboat to be
        told of."""
        write_state(self._path.parent, self._path.name, course)

    def hear(self, timeout_s: float) -> list[str]:
        """What was rung since, after at most so long."""
        self._socket.settimeout(timeout_s)
        heard = []
        try:
            heard.append(self._socket.recv(1000).decode())
            self._socket.setblocking(False)
            while True:
                heard.append(self._socket.recv(1000).decode())
        except (TimeoutError, BlockingIOError):
            return heard

    def close(self, *, keep: bool = False) -> None:
        """Nobody is told anything any more: without a sentinel everybody is at home. `keep`: what was told last holds."""
        self._socket.close()
        if not keep:
            self._path.unlink(missing_ok=True)
