"""Many byte strings in two arrays, laid out as Arrow lays out its large_binary: no copy between the two."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.errors import FormatError

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


class ByteColumn(msgspec.Struct, frozen=True):
    """Value i is data[offsets[i]:offsets[i + 1]]; null where `valid` (if it is there) is False."""

    data: Bytes
    offsets: Ints
    valid: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes | None:
        if self.valid is not None and not self.valid[index]:
            return None
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def to_arrow(self) -> pa.LargeBinaryArray:
        """The same memory as an Arrow array."""
        return self._array(pa.large_binary())

    def to_text(self) -> pa.LargeStringArray:
        """The same memory as an Arrow array of text. FormatError if a value is not UTF-8."""
        try:
            return self.to_arrow().cast(pa.large_string())
        except pa.ArrowInvalid as e:
            raise FormatError(
                f"A value is not UTF-8 ({e}).",
                "Ballast needs a database with server_encoding UTF8, or values that are UTF-8 where it has SQL_ASCII.",
            ) from e

    def _array(self, kind: Any) -> Any:
        bitmap = None
        if self.valid is not None:
            bitmap = pa.py_buffer(np.packbits(self.valid, bitorder="little"))
        return pa.Array.from_buffers(kind, len(self), [bitmap, pa.py_buffer(self.offsets), pa.py_buffer(self.data)])


def byte_column(array: pa.Array) -> ByteColumn:
    """A large_binary or large_string array (also binary, string, a slice) as a column; copies only to widen offsets."""
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary())
    validity, offsets, data = array.buffers()
    valid = None
    if array.null_count and validity is not None:
        bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
        valid = bits[array.offset : array.offset + len(array)].astype(bool)
    if len(array) == 0 or offsets is None:
        return ByteColumn(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    ends = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    return ByteColumn(np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), ends, valid)
