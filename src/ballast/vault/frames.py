"""The bytes of a spool file: a header, then frames whose checksums form a chain. Nothing here opens a file.

    header   `BLSPOOL1` · u32 length · u32 crc32 · JSON (`Header`)
    frame    u32 length of payload · u32 crc32 · u8 flags · u64 end_lsn · payload
    payload  messages, each: u32 length · u64 wal_start · one message of pgoutput

All numbers are big-endian, as in pgoutput. A frame's crc32 (zlib) runs over its length, flags, end_lsn and
payload and starts from the crc32 of the frame before it; the first starts from the header's, and the header
holds a nonce. So bytes that another file, or this one before it was cut, left on the same place of the disk
never continue the chain: what is read is what was written, in the order in which it was written, up to the
first byte that is not.

Flag COMMIT: the frame ends at a commit boundary, and `end_lsn` is the cut that is durable with it. Such a
frame may have no payload (the server said that nothing else happened up to there). Without it the frame ends
inside a transaction and `end_lsn` repeats the cut before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec

from ballast.errors import FormatError, IntegrityError

COMMIT = 1

_MAGIC = b"BLSPOOL"
_VERSION = b"1"
_PREFIX = struct.Struct(">8sII")
_FRAME = struct.Struct(">IIBQ")
_SIGNED_PART = struct.Struct(">IBQ")
MESSAGE_HEAD = struct.Struct(">IQ")
_LONGEST_HEADER = 4096


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a spool file says of itself."""

    vault_id: str
    timeline: int
    number: int
    start_lsn: int
    """The cut that it begins at: the file before it, or the vault, holds everything earlier …"""
    nonce: str
    gap_from: int | None = None
    """… except, where this is set, what lies between this cut and `start_lsn`: that was never received."""
    apart: bool = False
    """It begins with a large transaction: what comes before it is sealed without waiting for that."""


class Frame(NamedTuple):
    """A frame that was found whole. `start` and `end` are its offsets in the file; `crc` seeds the next."""

    start: int
    end: int
    crc: int
    committed: bool
    end_lsn: int
    payload: bytes


def encode_header(header: Header) -> tuple[bytes, int]:
    """(the first bytes of a spool file, the crc that seeds the first frame)."""
    body = msgspec.json.encode(header)
    crc = zlib.crc32(body, zlib.crc32(_MAGIC + _VERSION))
    return _PREFIX.pack(_MAGIC + _VERSION, len(body), crc) + body, crc


class NoSpoolFile(FormatError):
    """It does not begin as one."""


def header_room(file: BinaryIO) -> int:
    """Where the header ends as far as can be told where it cannot be read; 0: not at all.

    By its JSON, which has one brace at its end, sooner than by its length: that may be what is damaged."""
    file.seek(0)
    head = file.read(_PREFIX.size)
    if len(head) < _PREFIX.size:
        return _PREFIX.size
    magic, length, _ = _PREFIX.unpack(head)
    if magic != _MAGIC + _VERSION:
        return 0
    brace = file.read(_LONGEST_HEADER).find(b"}") + 1
    return _PREFIX.size + (brace or (length if length <= _LONGEST_HEADER else 0))


def read_header(file: BinaryIO) -> tuple[Header, int, int]:
    """(header, its length in bytes, the crc that seeds the first frame) of the file, read from its beginning.

    FormatError for another or a newer format, IntegrityError where it is torn."""
    head = file.read(_PREFIX.size)
    if len(head) < _PREFIX.size or not head.strip(b"\0"):  # zeros: the power went before its data came
        raise IntegrityError("The header of the spool file is cut short.")
    magic, length, crc = _PREFIX.unpack(head)
    if magic[:7] != _MAGIC:
        raise NoSpoolFile("The file is not a spool file.")
    if magic[7:] != _VERSION:
        raise FormatError(f"The spool file has format {magic[7:]!r}.", "Use the Ballast that wrote it.")
    body = file.read(length) if length <= _LONGEST_HEADER else b""
    if len(body) < length or not body or zlib.crc32(body, zlib.crc32(magic)) != crc:
        raise IntegrityError("The header of the spool file is damaged.")
    return msgspec.json.decode(body, type=Header), _PREFIX.size + length, crc


def frame_head(seed: int, committed: bool, end_lsn: int, payload: bytes) -> tuple[bytes, int]:
    """(the bytes that go before `payload`, the crc that seeds the next frame)."""
    flags = COMMIT if committed else 0
    crc = zlib.crc32(payload, zlib.crc32(_SIGNED_PART.pack(len(payload), flags, end_lsn), seed))
    return _FRAME.pack(len(payload), crc, flags, end_lsn), crc


def read_frames(file: BinaryIO, start: int, seed: int, size: int) -> Iterator[Frame]:
    """The whole frames from offset `start` on, up to the first byte that does not continue the chain.

    `size` is the file's length: a damaged length field must not make us ask for 4 GB."""
    file.seek(start)
    while True:
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        length, crc, flags, end_lsn = _FRAME.unpack(head)
        end = start + _FRAME.size + length
        if end > size or flags not in (0, COMMIT):
            return
        payload = file.read(length)
        if len(payload) < length:
            return
        found = zlib.crc32(payload, zlib.crc32(_SIGNED_PART.pack(length, flags, end_lsn), seed))
        if found != crc:
            return
        yield Frame(start, end, crc, flags == COMMIT, end_lsn, payload)
        start, seed = end, crc


def payload_of(frames: bytes) -> bytes:
    """What is in whole frames that stand one after another, as this process has just written them."""
    parts, at = [], 0
    while at < len(frames):
        length = _FRAME.unpack_from(frames, at)[0]
        parts.append(frames[at + _FRAME.size : at + _FRAME.size + length])
        at += _FRAME.size + length
    return b"".join(parts)


def messages(payload: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """(wal_start, message) for each message in a payload; IntegrityError where the lengths do not add up.

    For tests and small jobs; the sealer finds them with a kernel."""
    view, at = memoryview(payload), 0
    while at < len(view):
        if at + MESSAGE_HEAD.size > len(view):
            raise IntegrityError("A payload of the spool ends inside a message's head.")
        length, wal_start = MESSAGE_HEAD.unpack_from(view, at)
        at += MESSAGE_HEAD.size
        if at + length > len(view):
            raise IntegrityError("A payload of the spool ends inside a message.")
        yield wal_start, view[at : at + length]
        at += length
