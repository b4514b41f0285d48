"""What a mall process needs to know. Read once, at its start, from ``[mall]`` of ballast.toml and the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ballast.errors import ConfigError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every name can be given as ``BALLAST_MALL_<NAME>`` as well, which goes before the file."""

    app_dsn: str
    """as mall_app: one shop at a time"""
    identity_dsn: str
    """as mall_identity: who may sign in"""
    platform_dsn: str
    """as mall_platform: the operators' view"""
    owner_dsn: str = ""
    """owner of the tables: for migrations and the job queue; a web process needs none"""
    pictures: str = "pictures"
    """folder or s3://bucket/prefix of the picture store"""
    secret: str = ""
    """key of signatures (CSRF, links, sandbox provider), at least 32 characters"""
    base_url: str = "http://127.0.0.1:8000"
    """how browsers reach the platform"""
    sandbox_url: str = "http://127.0.0.1:8001"
    """how browsers and web processes reach the sandbox payment provider"""
    sandbox_file: str = "sandbox.sqlite"
    """what the sandbox payment provider knows"""
    sandbox_delay_s: float = 0.3
    """the sandbox provider tells of a payment so long after it"""
    sandbox_spread_s: float = 0.0
    """… and up to so much later, at random: so that news overtake each other"""
    sandbox_copies: int = 1
    """the sandbox provider tells everything so often"""
    pool_size: int = 8
    """connections of one web process to the database, as mall_app"""
    max_waiting: int = 64
    """requests that may wait for a connection; one more is answered 503"""
    max_inside: int = 32
    """requests that one web process lets in at once; one more is answered 503 before it is read"""
    secure_cookies: bool = False
    """set it where browsers come by https"""


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of ``[mall]`` in the file, changed by the environment.

    Raises:
        ConfigError: the file cannot be read, or a setting is missing, unknown or of the wrong kind.
    """
    found: dict[str, object] = {}
    if path is not None and path.exists():
        try:
            found = dict(tomllib.loads(path.read_text(encoding="utf-8")).get("mall", {}))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}", "Correct the file, or name another with --config."
            ) from error
    names = {field.name for field in msgspec.structs.fields(Settings)}
    if unknown := sorted(set(found) - names):
        raise ConfigError(
            f"[mall] in {path} has no setting {', '.join(unknown)}", f"Known are: {', '.join(sorted(names))}."
        )
    for name in names:
        if (value := environ.get(f"BALLAST_MALL_{name.upper()}")) is not None:
            found[name] = value
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"[mall] is not right: {error}", "Correct it in ballast.toml or in BALLAST_MALL_…."
        ) from error
    if len(settings.secret) < 32:
        raise ConfigError(
            "[mall] secret is shorter than 32 characters",
            "Make one: python -c 'import secrets; print(secrets.token_hex(32))'.",
        )
    return settings
