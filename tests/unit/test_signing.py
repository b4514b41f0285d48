"""The ledger's key is made once, kept from others, and nothing else passes for it."""

import stat
from pathlib import Path

import pytest

from ballast.errors import ConfigError
from ballast.vault.signing import create_key, load_key, verify


def test_a_key_comes_back_from_its_file(tmp_path: Path) -> None:
    key = create_key(tmp_path / "state" / "signing.key")
    again = load_key(tmp_path / "state" / "signing.key")
    assert again.public == key.public
    assert again.sign(b"message") == key.sign(b"message")
    assert verify(key.public, b"message", key.sign(b"message"))
    assert stat.S_IMODE((tmp_path / "state" / "signing.key").stat().st_mode) == 0o600


def test_nothing_else_passes(tmp_path: Path) -> None:
    key, other = create_key(tmp_path / "a"), create_key(tmp_path / "b")
    signature = key.sign(b"message")
    assert not verify(key.public, b"messagf", signature)
    assert not verify(other.public, b"message", signature)
    assert not verify(key.public, b"message", signature[:-2])
    assert not verify(key.public, b"message", "no hex")
    assert not verify(key.public, b"message", signature.upper())
    assert not verify("", b"message", signature)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    with pytest.raises(ConfigError, match="never replaced"):
        create_key(tmp_path / "key")


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a key")
    with pytest.raises(ConfigError, match="not a signing key"):
        load_key(tmp_path / "text")
    with pytest.raises(ConfigError, match="state folder"):
        load_key(tmp_path / "missing")
