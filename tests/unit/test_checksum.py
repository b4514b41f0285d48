"""The compiled checksums against the libraries that define them."""

import zlib

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.postgres.bytecolumn import byte_column
from ballast.postgres.checksum import checksum_sum, crc32_each, row_checksums

strings = st.lists(st.binary(max_size=150), max_size=20)


@settings(deadline=None)
@given(strings)
def test_each_row_has_its_xxh64(rows: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)

    sums = row_checksums(b"".join(rows), offsets)

    assert sums.dtype == np.uint64
    assert sums.tolist() == [xxhash.xxh64_intdigest(row) for row in rows]
    assert checksum_sum(sums) == sum(map(xxhash.xxh64_intdigest, rows)) % (1 << 64)


def test_every_length_up_to_some_hundreds() -> None:
    data = bytes(i * 31 % 256 for i in range(400))
    for start in range(3):
        for end in range(start, len(data)):
            (found,) = row_checksums(data, np.array([start, end]))
            assert found == xxhash.xxh64_intdigest(data[start:end])


@settings(deadline=None)
@given(strings)
def test_each_string_has_zlibs_crc(values: list[bytes]) -> None:
    column = byte_column(pa.array(values, pa.large_binary()))

    assert crc32_each(column).tolist() == list(map(zlib.crc32, values))


def test_nothing_sums_to_nothing() -> None:
    assert checksum_sum(row_checksums(b"", np.zeros(1, np.int64))) == 0
    assert checksum_sum(np.array([2**64 - 1, 3], np.uint64)) == 2


@pytest.mark.parametrize("offsets", [[0, 4], [2, 1], [-1, 2]])
def test_offsets_outside_the_data_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        row_checksums(b"abc", np.array(offsets))
