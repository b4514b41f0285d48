"""`[up]` of ballast.toml: where the platform lives and listens."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ballast.errors import ConfigError


class Up(msgspec.Struct, frozen=True, kw_only=True):
    """Every name can be given as ``BALLAST_UP_<NAME>`` as well, which goes before the file."""

    folder: str = ""
    """the platform's data: server, vault, pictures, logs; relative to the settings' folder"""
    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0: at all"""
    port: int = 8000
    """of the web face"""
    sandbox_port: int = 8001
    """of the sandbox payment provider; 0: there is none"""
    sandbox_host: str = "127.0.0.1"
    """address at which it listens, whatever `host` is: who reaches it pays without money"""
    web_workers: int = 2
    """processes that answer browsers"""
    postgres: Literal[16, 18] = 18
    """version of the server of our own, when it is made"""


def read_document(path: Path) -> dict[str, Any]:
    """The settings file, {} where there is none; ConfigError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", "Correct the file, or name another with --config."
        ) from error


def load(
    document: Mapping[str, Any], said: Mapping[str, object], name: str, environ: Mapping[str, str] = os.environ
) -> Up:
    """`[up]` of the document, over it the environment, over that what was said on the command line (None: nothing).

    ConfigError where a setting is unknown or of the wrong kind; `name` is the file's."""
    names = {field.name for field in msgspec.structs.fields(Up)}
    found: dict[str, object] = dict(document.get("up", {}))
    if unknown := sorted(set(found) - names):
        raise ConfigError(
            f"[up] in {name} has no setting {', '.join(unknown)}.", f"Known are: {', '.join(sorted(names))}."
        )
    found |= {one: environ[f"BALLAST_UP_{one.upper()}"] for one in names if f"BALLAST_UP_{one.upper()}" in environ}
    found |= {one: value for one, value in said.items() if value is not None}
    try:
        up = msgspec.convert(found, Up, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"[up] is not right: {error}.", "Correct it in ballast.toml or in BALLAST_UP_….") from error
    if not (1 <= up.port <= 65535 and 0 <= up.sandbox_port <= 65535):
        raise ConfigError(
            f"[up] port is {up.port}, sandbox_port {up.sandbox_port}.", "A port is a number from 1 to 65535."
        )
    if up.port == up.sandbox_port:
        raise ConfigError(f"[up] port and sandbox_port are both {up.port}.", "Give them two numbers.")
    if up.web_workers < 1:
        raise ConfigError(f"[up] web_workers is {up.web_workers}.", "One at least.")
    return up
