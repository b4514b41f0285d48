"""Checksums of many byte strings at once.

A row's checksum is XXH64 with seed 0 over its COPY line, newline included. That of a set of rows is their sum
modulo 2^64: it does not depend on the order, and two equal rows count twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ballast.postgres.bytecolumn import ByteColumn, Bytes, Ints
from ballast.postgres.compiled import compiled, inner

Array = np.ndarray[Any, Any]

_P1, _P2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P3, _P4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_MINUS_P1 = np.uint64(0x61C8864E7A143579)
_P1_PLUS_P2 = np.uint64(0x60EA27EEADC0B5D6)

_COPY_DATA = np.uint8(ord("d"))
_CRC = np.arange(256, dtype=np.uint32)
for _ in range(8):  # zlib's polynomial, a bit at a time
    _CRC = np.where(_CRC & 1, np.uint32(0xEDB88320) ^ (_CRC >> 1), _CRC >> 1).astype(np.uint32)


def row_checksums(data: Bytes | bytes | memoryview, offsets: Ints) -> NDArray[np.uint64]:
    """XXH64 of each data[offsets[i]:offsets[i + 1]]. ValueError for offsets that leave `data` or go back."""
    data, offsets = _checked(data, offsets)
    out = np.empty(max(0, len(offsets) - 1), np.uint64)
    _xxh64_each(data, offsets, out)
    return out


def copy_data_checksums(data: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """Of a server's messages in data[start:end]: where the CopyData messages that are whole end, how many these are, and
    the sum modulo 2^64 of the checksums of what they hold."""
    found = np.zeros(2, np.uint64)
    at = _copy_data(data, start, end, found)
    return at, int(found[0]), int(found[1])


def checksum_sum(checksums: NDArray[np.uint64]) -> int:
    """The checksum of a set of rows with these checksums: their sum modulo 2^64."""
    return int(np.add.reduce(checksums, dtype=np.uint64)) if len(checksums) else 0


def crc32_each(strings: ByteColumn) -> NDArray[np.uint32]:
    """CRC-32 as zlib computes it, of each string; 0 for null (and for the empty string)."""
    data, offsets = _checked(strings.data, strings.offsets)
    out = np.empty(max(0, len(offsets) - 1), np.uint32)
    _crc32_each(data, offsets, out)
    return out


def _checked(data: Bytes | bytes | memoryview, offsets: Ints) -> tuple[Bytes, Ints]:
    array = np.ascontiguousarray(data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8))
    offsets = np.ascontiguousarray(offsets, np.int64)
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > len(array) or np.any(offsets[1:] < offsets[:-1])):
        raise ValueError("offsets do not ascend within the data")
    return array, offsets


@inner
def _rotate(x: Any, bits: Any) -> Any:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@inner
def _read32(data: Array, at: int) -> Any:
    return (
        np.uint64(data[at])
        | (np.uint64(data[at + 1]) << np.uint64(8))
        | (np.uint64(data[at + 2]) << np.uint64(16))
        | (np.uint64(data[at + 3]) << np.uint64(24))
    )


@inner
def _read64(data: Array, at: int) -> Any:
    return _read32(data, at) | (_read32(data, at + 4) << np.uint64(32))


@inner
def _round(lane: Any, value: Any) -> Any:
    return _rotate(lane + value * _P2, 31) * _P1


@inner
def _merge(hashed: Any, lane: Any) -> Any:
    return (hashed ^ _round(np.uint64(0), lane)) * _P1 + _P4


@inner
def _xxh64(data: Array, at: int, end: int) -> Any:
    size = end - at
    if size >= 32:
        a, b, c, d = _P1_PLUS_P2, _P2, np.uint64(0), _MINUS_P1
        while end - at >= 32:
            a = _round(a, _read64(data, at))
            b = _round(b, _read64(data, at + 8))
            c = _round(c, _read64(data, at + 16))
            d = _round(d, _read64(data, at + 24))
            at += 32
        h = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        h = _merge(_merge(_merge(_merge(h, a), b), c), d)
    else:
        h = _P5
    h += np.uint64(size)
    while end - at >= 8:
        h = _rotate(h ^ _round(np.uint64(0), _read64(data, at)), 27) * _P1 + _P4
        at += 8
    if end - at >= 4:
        h = _rotate(h ^ (_read32(data, at) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        h = _rotate(h ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@compiled("uint8, int64, out uint64")
def _xxh64_each(data: Array, offsets: Array, out: Array) -> int:
    for n in range(out.size):
        out[n] = _xxh64(data, offsets[n], offsets[n + 1])
    return out.size


@compiled("uint8, int, int, out uint64")
def _copy_data(data: Array, at: int, end: int, found: Array) -> int:
    """Where it ends; `found`: how many messages, and the sum."""
    rows, total = 0, np.uint64(0)
    while end - at >= 5 and data[at] == _COPY_DATA:
        size = (
            (np.int64(data[at + 1]) << 24)
            | (np.int64(data[at + 2]) << 16)
            | (np.int64(data[at + 3]) << 8)
            | data[at + 4]
        )
        if end - at <= size:
            break
        total += _xxh64(data, at + 5, at + 1 + size)
        rows += 1
        at += 1 + size
    found[0], found[1] = rows, total
    return at


@compiled("uint8, int64, out uint32")
def _crc32_each(data: Array, offsets: Array, out: Array) -> int:
    for n in range(out.size):
        crc = np.uint32(0xFFFFFFFF)
        for i in range(offsets[n], offsets[n + 1]):
            crc = _CRC[(crc ^ np.uint32(data[i])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        out[n] = crc ^ np.uint32(0xFFFFFFFF)
    return out.size
