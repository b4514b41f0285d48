"""The files of a spool folder as others see them: the sealer takes closed ones, `status` counts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ballast.errors import IntegrityError
from ballast.vault.frames import Frame, Header, read_frames, read_header

_NAME = re.compile(r"(\d+)-(\d{12})\.(open|spool)")


class Usage(NamedTuple):
    """How much is in a spool folder."""

    files: int
    bytes: int


class Chunk(NamedTuple):
    """A stretch of a closed file, at frame boundaries."""

    payload: bytes
    """Messages as in `frames.messages`; a transaction may reach over several chunks."""
    end_lsn: int
    """The last cut in it (or before it, where a transaction fills the whole chunk)."""
    committed: bool
    """Whether it ends at that cut."""


def closed_files(folder: Path) -> list[Path]:
    """The closed files, oldest first."""
    return [path for _, path in listed(folder, "spool")]


def usage(folder: Path) -> Usage:
    """Files and bytes of the spool, open and closed."""
    files = total = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if _NAME.fullmatch(entry.name):
                    files, total = files + 1, total + entry.stat().st_blocks * 512
    return Usage(files, total)


def header(path: Path) -> Header:
    """What the file says of itself; FormatError, IntegrityError."""
    with path.open("rb") as file:
        return read_header(file)[0]


def iter_chunks(path: Path, size: int) -> Iterator[Chunk]:
    """The content of a closed file in pieces of at least `size` bytes (the last may be smaller, and a single
    message larger); IntegrityError if any byte of it is not as it was written."""
    with path.open("rb") as file:
        found, start, seed = read_header(file)
        total = os.fstat(file.fileno()).st_size
        end, end_lsn, committed = start, found.start_lsn, True
        parts: list[bytes] = []
        held = 0
        for frame in read_frames(file, start, seed, total):
            end, end_lsn, committed = frame.end, frame.end_lsn, frame.committed
            parts.append(frame.payload)
            held += len(frame.payload)
            if held >= size:
                yield Chunk(b"".join(parts), end_lsn, committed)
                parts, held = [], 0
        if end != total or not committed:
            raise IntegrityError(
                f"The spool file {path} is damaged at byte {end} of {total}.",
                "Keep a copy of it, and run `ballast verify`; commits from there on are no longer in it.",
            )
        if parts or end == start:
            yield Chunk(b"".join(parts), end_lsn, committed)


def remove(path: Path) -> None:
    """Drop a closed file whose content is in the vault. Coming back after a power cut it is only sealed
    again."""
    path.unlink(missing_ok=True)


def listed(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """(number, path) of the files of `kind`, "open" or "spool", oldest first, of every timeline."""
    if not folder.is_dir():
        return []
    names = [(match, folder / match[0]) for match in map(_NAME.fullmatch, os.listdir(folder)) if match]
    return sorted((int(match[2]), path) for match, path in names if match[3] == kind)


def whole_cut(path: Path) -> int:
    """The cut at which a closed file ends; IntegrityError if any byte of it is not as it was written."""
    end = 0
    for chunk in iter_chunks(path, 4 << 20):
        end = chunk.end_lsn
    return end


def last_cut(path: Path) -> int:
    """The cut at which a closed file ends; where it is damaged, the last that can be read."""
    with path.open("rb") as file:
        found, start, seed = read_header(file)
        last: Frame | None = None
        for frame in read_frames(file, start, seed, os.fstat(file.fileno()).st_size):
            last = frame if frame.committed else last
    return last.end_lsn if last else found.start_lsn
