"""A sentinel that has not begun: no thread, no server, no vault."""

from __future__ import annotations

from pathlib import Path

from ballast.continuity.options import Options
from ballast.continuity.sentinel import Sentinel
from ballast.vault import config
from ballast.vault.config import Config, Tenants
from ballast.vault.logbook import Logbook


def idle_sentinel(folder: Path, server: Path | None = None) -> Sentinel:
    """Its settings, and what it writes, in `folder`; the probe finds nothing."""
    made = Config(
        dsn="host=/nowhere dbname=shops", vault=str(folder / "vault"), state_dir=folder / "state",
        tenants=Tenants(column="tenant"),
    )  # fmt: skip
    config.write(made, folder / "ballast.toml")
    return Sentinel(Options(folder / "ballast.toml", server, 18, "", "SELECT false"), Logbook("sentinel"))
