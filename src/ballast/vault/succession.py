"""A server that is to take a lost one's place: what is looked at and settled before any row is put back on it.

What it would be protected by must be possible there (it is a poor moment to learn of `wal_level` when tenants are back),
and what only the old recorder's spool holds must be in the vault: a recovery to the newest moment would else leave out
commits that were acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ballast.errors import ProtectionError
from ballast.postgres import replication
from ballast.vault import ancestry, examine, health, salvage
from ballast.vault import origin as origins
from ballast.vault.config import Config
from ballast.vault.marker import read_marker
from ballast.vault.settle import wanted_of
from ballast.vault.situation import Situation
from ballast.vault.vault import Vault


def make_ready(settings: Config, config_path: Path, dsn: str, say: Callable[[str], None]) -> None:
    """The server of `dsn` can be protected once it is rebuilt, and the vault has all that was recorded.

    Nothing is changed on the server. ProtectionError, ServerError, ConfigError, StoreError."""
    examine.refuse_unsuited(dsn, wanted_of(settings))
    vault = Vault.open(settings.vault, state_dir=settings.state_dir, key=settings.key)
    if not vault.index.timelines or _has_begun(vault, dsn):
        return
    if health.is_held(settings.state_dir):
        raise ProtectionError(
            f"A recorder (or a `ballast protect`) still works with {settings.state_dir}: what it holds is not in the vault"
            " yet, and would be missing from what comes back.",
            "Stop it (SIGTERM; it seals what it holds), then run the same command again.",
        )
    with health.only_one(settings.state_dir):
        origin = origins.of(vault.index)
        lost = Situation("fork", ("The server is gone.",), origin.timeline, origin.recorded_until)
        salvage.seal_rest(vault, settings, config_path, lost, say)


def _has_begun(vault: Vault, dsn: str) -> bool:
    """Whether the newest timeline is that of this very recovery: an interrupted one goes on."""
    with examine.session(dsn) as conn:
        marker = read_marker(conn)
    if marker is None:
        return False
    with replication.connect(dsn, "ballast protect") as stream:
        return ancestry.has_begun(vault.index, marker, stream.identify_system())
