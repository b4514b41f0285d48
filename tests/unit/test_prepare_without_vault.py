"""`ballast up` at a start at which the vault's disk is not mounted."""

from __future__ import annotations

import sys
from pathlib import Path

from ballast.up.platform import resolve
from ballast.up.prepare import is_lost
from ballast.vault import health
from ballast.vault.continuation import Origin
from ballast.vault.ledger import HEAD_FILE
from ballast.vault.origin import ORIGIN_FILE


def test_a_database_that_is_the_recorded_one_needs_no_vault_to_be_taken_for_good(tmp_path: Path) -> None:
    platform = resolve(tmp_path / "ballast.toml", tmp_path, {})
    state = platform.vault_config(()).state_dir
    state.mkdir(parents=True)
    (state / HEAD_FILE).write_bytes(b"{}")
    assert is_lost(platform), "a record, and no server"

    pgdata = platform.server_dir / "pgdata"
    (pgdata / "global").mkdir(parents=True)
    (pgdata / "base").mkdir()
    (pgdata / "global" / "pg_control").write_bytes((7).to_bytes(8, sys.byteorder))
    assert not is_lost(platform)
    health.write_state(state, ORIGIN_FILE, Origin("v", 1, "7", "mall", 0))
    assert not is_lost(platform)
    health.write_state(state, ORIGIN_FILE, Origin("v", 1, "8", "mall", 0))
    assert is_lost(platform), "another server than the recorded one"
