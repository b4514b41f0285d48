"""Some tenants alone are hit, and home lives: they are put back there, in place, as they were just before."""

from __future__ import annotations

from ballast.continuity.wipes import before_tenant_was_emptied
from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault import Vault


def rewind_some(vault: Vault, dsn: str, tenant: str) -> str:
    """What was done, for people; "" where nothing is missing. BallastError: nothing was changed, try again."""
    at = before_tenant_was_emptied(vault, tenant)
    if at is None:
        return ""
    asked = Rewinding(tenant, by="ballast sentinel", reason="its rows were gone")
    done = rewind(vault, vault.resolve(at), dsn, asked)
    rows = sum(table.comes_back + table.changes for table in done.tables)
    return f"{tenant} is put back as it was at {at}: {rows} rows"
