"""Some tenants alone are hit, and home lives: they are put back there, in place, as they were just before."""

from __future__ import annotations

from ballast.recovery.later import OURS
from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault import Vault


def rewind_some(vault: Vault, dsn: str, tenant: str, at: str) -> tuple[str, str]:
    """To the position `at`. What was done, for people, and the position just before it ("": nothing was to be done).
    BallastError: nothing was changed, try again."""
    asked = Rewinding(tenant, by=OURS, reason="its rows were gone")
    done = rewind(vault, vault.resolve(at), dsn, asked)
    rows = sum(table.comes_back + table.changes for table in done.tables)
    return f"{tenant} is put back as it was at {at}: {rows} rows", done.before or ""
