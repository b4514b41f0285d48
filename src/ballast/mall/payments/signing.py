"""Signatures of messages between the mall and the sandbox provider: HMAC-SHA256 over the moment and the body.

Header `Signature: t=<unix seconds>,v1=<hex>`; the key is of one shop, derived from the installation's secret, so that what is
signed for one shop is worth nothing at another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import lru_cache
from uuid import UUID

HEADER = "signature"
TOLERANCE_S = 300
_SHAPE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


@lru_cache(10_000)
def key_of(secret: str, shop_id: UUID) -> bytes:
    """The key that a shop and the sandbox provider share."""
    return hmac.digest(secret.encode(), b"sandbox-provider:" + shop_id.bytes, hashlib.sha256)


def sign(key: bytes, body: bytes, at_s: int) -> str:
    """The header's value for a message sent at this moment (unix seconds)."""
    return f"t={at_s},v1={_mac(key, body, at_s)}"


def verify(key: bytes, body: bytes, header: str, now_s: int) -> bool:
    """Whether the message was signed with this key, not longer than `TOLERANCE_S` ago or ahead."""
    found = _SHAPE.fullmatch(header)
    if not found or abs(now_s - int(found[1])) > TOLERANCE_S:
        return False
    return hmac.compare_digest(_mac(key, body, int(found[1])), found[2])


def _mac(key: bytes, body: bytes, at_s: int) -> str:
    return hmac.new(key, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
