"""Before the record breaks off (a new slot, another server): what the spool still holds is sealed, and production let go.

No recorder runs meanwhile, and the vault has no later timeline yet, so the sealer takes what is there as it always does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from ballast.errors import ProtectionError
from ballast.vault import arming, health, undertaking
from ballast.vault.config import Config
from ballast.vault.situation import Situation
from ballast.vault.spool import Spool
from ballast.vault.standby import has, read_standbys
from ballast.vault.vault import Vault


def seal_rest(
    vault: Vault, settings: Config, config_path: Path, situation: Situation, say: Callable[[str], None]
) -> bool:
    """Bring into the vault what only the spool holds of its newest timeline; whether there was something.

    ProtectionError if anything is left: those commits were acknowledged, and would never come into the vault."""
    waiting = _unsealed(settings, situation.timeline, situation.until)
    if not waiting:
        return False
    say(f"the spool holds {waiting:,} bytes that are not in the vault yet: they are sealed first")
    # A recorder that was killed has left its last file open.
    spool = Spool(settings.spool_dir, vault_id=vault.index.genesis.vault_id, timeline=situation.timeline)
    spool.recover(situation.until)
    spool.close()
    (settings.state_dir / health.SEALER_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "ballast.vault.sealer", "--config", str(config_path), "--drain"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    vault.refresh()
    left = _unsealed(settings, situation.timeline, vault.index.recorded_until(situation.timeline))
    if not left:
        return True
    told = health.read_state(settings.state_dir, health.SEALER_FILE, health.SealerHealth)
    reason = told.reason if told is not None and told.reason else " ".join(done.stderr.split()[-60:])
    raise ProtectionError(
        f"The spool in {settings.spool_dir} holds {left:,} bytes of acknowledged commits that are not in the vault yet, and"
        f" they cannot be sealed: {reason or 'the sealer does not say why'} ({' '.join(situation.why)})",
        "Settle that, then run the command again. Nothing was changed.",
    )


def _unsealed(settings: Config, timeline: int, until: int) -> int:
    return undertaking.held(settings.spool_dir, timeline, until).unsealed_bytes


def let_go(conn: psycopg.Connection[Any], settings: Config, why: str, say: Callable[[str], None]) -> None:
    """Have commits not wait for a recorder that is not there: making a slot waits for every transaction under way, and
    those that hang would never end. ProtectionError where the role may not say so."""
    if not has(read_standbys(conn, settings.slot).setting, settings.slot):
        return
    arming.disarm(conn, settings.state_dir, settings.slot, why)
    say(
        f"commits do not wait for {settings.slot} any more (synchronous_standby_names), so that a new slot can be made; they"
        " wait again as soon as the recorder has caught up"
    )
