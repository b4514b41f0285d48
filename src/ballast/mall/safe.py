"""Secrets that must be read again (a second factor's, a webhook's) are kept sealed: whoever reads the database, a backup or the
record of its changes does not read them. The key comes from the platform's own secret and is in no table.

Fernet of `cryptography` (AES-128-CBC, HMAC-SHA256), its key by HKDF-SHA256 (RFC 5869).
"""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ballast.errors import ConfigError


class Safe:
    """Seals and opens by one key for one purpose; what was sealed for another does not open."""

    def __init__(self, secret: str, purpose: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=f"ballast.mall {purpose}".encode()).derive(secret.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(derived))
        self._purpose = purpose

    def seal(self, text: str) -> str:
        """As it may be written down."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """What was sealed. ConfigError where it was sealed by another secret, or changed."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ConfigError(
                f"A sealed secret ({self._purpose}) does not open with this platform's [mall] secret.",
                "Give the secret with which it was sealed back; where that is lost, have it made anew.",
            ) from error


@lru_cache(maxsize=16)
def safe_for(secret: str, purpose: str) -> Safe:
    """The safe of a purpose, made once."""
    return Safe(secret, purpose)
