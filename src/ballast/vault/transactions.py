"""The transactions of a segment: a line each, for `history` and for finding the cut that belongs to a time."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

TRANSACTIONS_SCHEMA = pa.schema(
    [
        pa.field("lsn", pa.int64(), nullable=False),
        pa.field("end_lsn", pa.int64(), nullable=False),
        pa.field("xid", pa.int64(), nullable=False),
        pa.field("committed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("changes", pa.int64(), nullable=False),
        pa.field("actor", pa.string()),
        pa.field("tag", pa.string()),
    ]
)
"""See `docs/vault-format.md`."""


def encode(transactions: pa.Table) -> bytes:
    """The table as a Parquet file; equal tables give equal bytes."""
    out = io.BytesIO()
    pq.write_table(transactions, out, compression="zstd", compression_level=1)
    return out.getvalue()
