"""What nobody else may know, made once and kept in the platform's folder: the roles' passwords, the key of signatures."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from ballast.errors import ConfigError

SECRETS_FILE = "secrets.json"


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Never shown, never logged."""

    secret: str
    """`mall.settings.Settings.secret`"""
    mall_app: str
    mall_identity: str
    mall_platform: str
    demo: str
    """The first password of the shops that `--seed-shops` makes; the only one that is shown."""


def of_folder(folder: Path) -> Secrets:
    """Those of this folder; made where there are none. The file is its owner's alone."""
    path = folder / SECRETS_FILE
    try:
        path.chmod(0o600)
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
    except FileNotFoundError:
        return _make(path)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path} is damaged: {error}.",
            "Remove it: new passwords are made and given to the roles. Whoever is signed in stays so; forms and links that are"
            " open in a browser must be loaded anew.",
        ) from error


def _make(path: Path) -> Secrets:
    secret, app, identity, platform = (secrets.token_hex(32) for _ in range(4))
    made = Secrets(secret, app, identity, platform, demo=secrets.token_urlsafe(9))
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(made)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return made
