"""Options that several commands share, declared once so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ballast.errors import ConfigError
from ballast.vault import config as configuration
from ballast.vault.nodes import Spread
from ballast.vault.store import open_store

if TYPE_CHECKING:  # what only some commands need is loaded when they do
    from ballast.recovery import Hands
    from ballast.vault import Vault

VaultUrl = Annotated[
    str,
    typer.Option(
        "--vault",
        envvar="BALLAST_VAULT",
        help="The vault: a folder, or s3://bucket/prefix (endpoint and credentials from AWS_… in the environment).",
        show_default=False,
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        help="A time (ISO 8601, with zone or local) or a position ([timeline/]X/Y). Default: the newest recorded.",
        show_default=False,
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="tcp://HOST:PORT",
        help="A Dask scheduler whose workers do the work, instead of threads here. They read the vault and reach the database by"
        " themselves: AWS_… and PGPASSWORD or ~/.pgpass in each one's environment.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", envvar="BALLAST_CONFIG", help="The settings that `ballast protect` wrote.")
]
PinningConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BALLAST_CONFIG",
        help="The settings that `ballast protect` wrote: they name the key that the vault must be signed by.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="The vault's public key (hex); a vault signed by another is refused.", show_default=False
    ),
]
Node = Annotated[
    str | None,
    typer.Option("--node", help="Only this one of the nodes that the settings name.", show_default=False),
]
DEFAULT_CONFIG = Path("ballast.toml")


@contextmanager
def hands(address: str | None) -> Iterator[Hands | None]:
    """The Dask workers at `address`; None: this process's own threads."""
    if address is None:
        yield None
        return
    from ballast.recovery import crew

    with crew(address) as workers:
        yield workers


def pinned(key: str | None, config: Path | None) -> str:
    """The key that the vault must be signed by: the one given, else that of the settings; "" where neither says."""
    if key is not None:
        return key.strip().lower()
    return configuration.load(config).key if config is not None else ""


def of_node(spread: Spread | None, node: str | None, config: Path) -> Path:
    """The settings of the node that is named; those given, where none is. ConfigError."""
    if node is None:
        return config
    if spread is None:
        raise ConfigError(f"{config} names no nodes, and --node was given.", "Leave --node out.")
    return spread.node(node).config_path


def opened(vault_url: str, key: str | None, config: Path | None) -> Vault:
    """The vault, signed by the key that is pinned; where it is the one of the settings, it must also have all that its
    recorder has written."""
    from ballast.vault import Vault

    settings = configuration.load(config) if config is not None else None
    own = settings is not None and open_store(vault_url).url == open_store(settings.vault).url
    return Vault.open(vault_url, key=pinned(key, config), anchor_dir=settings.state_dir if settings and own else None)
