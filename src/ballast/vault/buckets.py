"""Which bucket a tenant belongs to."""

from __future__ import annotations

import zlib

from ballast.vault.records import SHARED_BUCKET


def bucket_of(tenant: str | None, buckets: int) -> int:
    """The bucket of `tenant`: CRC-32 (zlib, IEEE) of its UTF-8 modulo `buckets`; `SHARED_BUCKET` for None."""
    if tenant is None:
        return SHARED_BUCKET
    return zlib.crc32(tenant.encode()) % buckets
