"""Signatures of webhooks, after Standard Webhooks 1.0: HMAC-SHA256 over `<id>.<unix seconds>.<body>`.

The header `webhook-signature` is `v1,<base64>`; while a secret is being changed it holds one for each, parted by a blank.
A receiver checks with any library of that standard, and refuses what is older than five minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ballast.mall.safe import Safe, safe_for

_PREFIX = "whsec_"
KEY_BYTES = 32


def safe(secret: str) -> Safe:
    """Where webhooks' secrets are sealed, by the platform's own; opened only to sign."""
    return safe_for(secret, "webhook")


def secret_of(key: bytes) -> str:
    """A secret as its owner sees it: `whsec_<base64>`."""
    return _PREFIX + base64.b64encode(key).decode()


def headers(event_id: UUID | str, body: bytes, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """What a request carries: the event's id (the same however often it is sent), the moment of sending, the signatures."""
    moment = str(int(at.timestamp()))
    signed = f"{event_id}.{moment}.".encode() + body
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(f"v1,{_mac(secret, signed)}" for secret in secrets),
    }


def _mac(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
