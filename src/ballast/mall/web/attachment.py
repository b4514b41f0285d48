"""A file that was made for one answer: kept on the disk without a name, and gone when it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from litestar.response import Stream

_CHUNK = 1 << 16


def attachment(file: IO[bytes], name: str, media_type: str) -> Stream:
    """The answer that gives `file` to be kept as `name` (ASCII) and closes it."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Stream(_chunks(file), media_type=media_type, headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(_CHUNK):
            yield chunk
