"""What a mall process needs to know. Read once, at its start, from ``[mall]`` of ballast.toml and the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import msgspec

from ballast.errors import ConfigError

Network = IPv4Network | IPv6Network


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every name can be given as ``BALLAST_MALL_<NAME>`` as well, which goes before the file."""

    app_dsn: str
    """as mall_app: one shop at a time"""
    identity_dsn: str
    """as mall_identity: who may sign in"""
    platform_dsn: str
    """as mall_platform: the operators' view"""
    owner_dsn: str = ""
    """owner of the tables: for migrations; no process that runs needs it"""
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
    sandbox_redirect_wait_s: float = 0.0
    """the sandbox provider sends a browser back when the shop has heard of its payment, or after so long; 0: at once"""
    pool_size: int = 8
    """connections of one web process to the database, as mall_app"""
    max_waiting: int = 64
    """requests that may wait for a connection; one more is answered 503"""
    private_webhooks: bool = False
    """webhooks may lead to private addresses and be plain http: for development"""
    max_inside: int = 32
    """requests that one web process lets in at once; one more is answered 503 before it is read"""
    secure_cookies: bool = False
    """browsers come by https; not said: as `base_url` is. Then every answer asks them to come by nothing else (HSTS), too"""
    trusted_proxies: str = ""
    """networks (CIDR, with commas between) of our own proxies: only what comes from these is believed in X-Forwarded-For"""
    continuity: str = ""
    """folder of continuity on this machine; empty: while the database is away, so are the shops"""
    api_caller_per_minute: int = 600
    """requests to the API of one key or one shopper's token; like the two below counted by each web process on its own"""
    api_address_per_minute: int = 3000
    """… from one address, whoever calls"""
    api_shop_per_minute: int = 12000
    """… to one shop"""
    unpaid_per_shopper: int = 10
    """orders of one shopper that may wait for payment in a shop at once: each holds stock. 0: any number"""
    unpaid_per_address: int = 100
    """… and from one address, whoever orders"""

    @property
    def proxies(self) -> tuple[Network, ...]:
        """`trusted_proxies`, read. ValueError for what is no network."""
        return tuple(ip_network(one.strip()) for one in self.trusted_proxies.split(",") if one.strip())


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"BALLAST_MALL_{name.upper()}"


def to_environ(settings: Settings, *, without: Collection[str] = ()) -> dict[str, str]:
    """The settings as the environment of a process that reads them by `load`; those `without` are emptied."""
    values = {name: "" if name in without else value for name, value in msgspec.structs.asdict(settings).items()}
    return {
        variable(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()
    }


def with_owner(settings: Settings, owner_dsn: str) -> Settings:
    """The same with the owner's DSN."""
    return msgspec.structs.replace(settings, owner_dsn=owner_dsn)


def with_continuity(settings: Settings, folder: str) -> Settings:
    """The same with continuity's folder."""
    return msgspec.structs.replace(settings, continuity=folder)


def load(
    path: Path | None, environ: Mapping[str, str] = os.environ, defaults: Mapping[str, object] | None = None
) -> Settings:
    """The settings of ``[mall]`` in the file, changed by the environment. `defaults`: of what neither of them says.

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
    found = {**(defaults or {}), **found}
    for name in names:
        if (value := environ.get(variable(name))) is not None:
            found[name] = value
    if "secure_cookies" not in found:
        found["secure_cookies"] = str(found.get("base_url", "")).lower().startswith("https://")
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"[mall] is not right: {error}", "Correct it in ballast.toml or in BALLAST_MALL_…."
        ) from error
    try:
        _ = settings.proxies
    except ValueError as error:
        raise ConfigError(
            f"[mall] trusted_proxies is not right: {error}",
            'Write networks with commas between: "10.0.0.0/8, fd00::/8".',
        ) from error
    if min(settings.api_caller_per_minute, settings.api_address_per_minute, settings.api_shop_per_minute) < 1:
        raise ConfigError("[mall] api_…_per_minute is less than 1", "Nobody could call the API: allow one at least.")
    if len(settings.secret) < 32:
        raise ConfigError(
            "[mall] secret is shorter than 32 characters",
            "Make one: python -c 'import secrets; print(secrets.token_hex(32))'.",
        )
    return settings
