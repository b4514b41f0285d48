"""The vault: every committed change of a PostgreSQL database, arranged by tenant.

A recorder receives the logical replication stream of production, makes it durable in a local spool and only
then acknowledges it. Closed spool files become segments: Parquet runs sorted by tenant, put into an object
store and vouched for by a hash-chained, signed ledger. Images hold whole rows as of one position; merges rearrange
both by tenant bucket so that reading stays cheap. Reading folds the image and the later changes of one
tenant into its rows at any cut between commits. `verify` walks it all and names what does not agree.

Nothing in the store is overwritten or deleted. `docs/vault-format.md` describes every file, so that a tenant
can be rebuilt without this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ballast.vault.moment import Resolved
    from ballast.vault.read import RowChunk, bucket_groups, tenant_known, tenants, without_columns
    from ballast.vault.read import rows as read_rows
    from ballast.vault.vault import Vault

__all__ = [
    "Resolved",
    "RowChunk",
    "Vault",
    "bucket_groups",
    "read_rows",
    "tenant_known",
    "tenants",
    "without_columns",
]

# Looked up when first used: the recorder's receiving process imports this package too, and must stay without pyarrow.
_WHERE = {
    "Resolved": ("moment", "Resolved"),
    "RowChunk": ("read", "RowChunk"),
    "Vault": ("vault", "Vault"),
    "bucket_groups": ("read", "bucket_groups"),
    "read_rows": ("read", "rows"),
    "tenant_known": ("read", "tenant_known"),
    "tenants": ("read", "tenants"),
    "without_columns": ("read", "without_columns"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
