"""The key that vouches for the ledger: Ed25519, its private half in the recorder's state folder only.

Whoever can write to the store can add objects and entries, but not entries that pass for the recorder's.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ballast.errors import ConfigError

KEY_FILE = "signing.key"
"""Name of the key's file in a state folder."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. `public` (hex) is what Genesis names."""

    _private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        raw = self._private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return raw.hex()

    def sign(self, message: bytes) -> str:
        """The signature in hex. The same message gives the same signature."""
        return self._private.sign(message).hex()


def create_key(path: Path | str) -> SigningKey:
    """A new key in a file at `path` (PEM, mode 0600, synced). ConfigError if there is one: a key is never replaced."""
    path = Path(path)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already.",
            "A vault's key is never replaced; load it, or choose another state folder.",
        ) from None
    with os.fdopen(file, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    with contextlib.ExitStack() as closing:
        closing.callback(os.close, folder)
        os.fsync(folder)
    return SigningKey(private)


def load_key(path: Path | str) -> SigningKey:
    """The key that `create_key` wrote; ConfigError if there is none or it is no such key."""
    path = Path(path)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise ConfigError(
            f"The vault's signing key is not at {path}.",
            "Without it nothing can be added to the vault (reading works). Bring back the state folder from its copy.",
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not a signing key: {error}.", "Bring it back from its copy.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds a key of another kind.", "The vault is signed with Ed25519.")
    return SigningKey(private)


def verify(public: str, message: bytes, signature: str) -> bool:
    """Whether `signature` (hex) over `message` was made by the private half of `public` (hex)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        raw = bytes.fromhex(signature)
        key.verify(raw, message)
    except (InvalidSignature, ValueError):
        return False
    return raw.hex() == signature  # one spelling only
