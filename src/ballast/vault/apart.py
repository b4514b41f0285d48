"""Nodes must be servers of their own.

Several recorders of one server are taken for each other's stand-ins (ANY 1 of `synchronous_standby_names`): a commit in one
database would be let go once the recorder of another had passed it, which has not written it down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ballast.vault.checks import Finding
from ballast.vault.examine import session

_SERVER = b"SELECT system_identifier::text FROM pg_catalog.pg_control_system()"


def together(dsns: Mapping[str, str]) -> tuple[Finding, ...]:
    """The nodes that are on one server. ServerError as `examine.session`."""
    servers: dict[str, list[str]] = defaultdict(list)
    for name, dsn in dsns.items():
        with session(dsn) as conn:
            (identifier,) = conn.execute(_SERVER).fetchone() or ("",)
        servers[str(identifier)].append(name)
    return tuple(
        Finding(
            f"Nodes {' and '.join(names)} are on one server: their recorders would acknowledge for each other.",
            "Name one node for each server; databases of one server cannot be protected together.",
        )
        for names in servers.values()
        if len(names) > 1
    )
