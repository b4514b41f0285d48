"""Everything that speaks to a PostgreSQL server, and knows no tenant.

A server of our own comes from a wheel and lives in a folder: `EmbeddedServer` starts it, finds it again,
stops it. What a database is made of (tables with their columns, keys and identities, foreign keys, sequences)
is read into records with `read_catalog`, as of the transaction's snapshot; what the server itself is and
allows with `server_facts`. Positions in its log are numbers here and become text only to be shown:
`parse_lsn`, `format_lsn`. The stream of committed changes and the text of COPY are decoded by plain functions
over bytes; only the thin edges hold a connection.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ballast.postgres.binaries import SUPPORTED, bin_dir, pg_dump_for, tool
    from ballast.postgres.catalog import (
        Catalog,
        Column,
        ForeignKey,
        Sequence,
        Table,
        UniqueIndex,
        count_large_objects,
        read_catalog,
        read_table,
    )
    from ballast.postgres.embedded import DEFAULT_SETTINGS, EmbeddedServer
    from ballast.postgres.lsn import LSN_MAX, format_lsn, parse_lsn
    from ballast.postgres.server import ServerFacts, server_facts
    from ballast.postgres.session import connect
    from ballast.postgres.snapshot import snapshot_at_cut

__all__ = [
    "DEFAULT_SETTINGS",
    "LSN_MAX",
    "SUPPORTED",
    "Catalog",
    "Column",
    "EmbeddedServer",
    "ForeignKey",
    "Sequence",
    "ServerFacts",
    "Table",
    "UniqueIndex",
    "bin_dir",
    "connect",
    "count_large_objects",
    "format_lsn",
    "parse_lsn",
    "pg_dump_for",
    "read_catalog",
    "read_table",
    "server_facts",
    "snapshot_at_cut",
    "tool",
]

# Looked up when first used: most processes speak to a server, few start one, and each start waits for what is loaded.
_WHERE = {
    "DEFAULT_SETTINGS": "embedded",
    "LSN_MAX": "lsn",
    "SUPPORTED": "binaries",
    "Catalog": "catalog",
    "Column": "catalog",
    "EmbeddedServer": "embedded",
    "ForeignKey": "catalog",
    "Sequence": "catalog",
    "ServerFacts": "server",
    "Table": "catalog",
    "UniqueIndex": "catalog",
    "bin_dir": "binaries",
    "connect": "session",
    "count_large_objects": "catalog",
    "format_lsn": "lsn",
    "parse_lsn": "lsn",
    "pg_dump_for": "binaries",
    "read_catalog": "catalog",
    "read_table": "catalog",
    "server_facts": "server",
    "snapshot_at_cut": "snapshot",
    "tool": "binaries",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
