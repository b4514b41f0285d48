"""Restoring a database that is spread over nodes: which node's record has a tenant, and where its rows land.

Each node's record answers for itself at the moment asked for; so a tenant that an application moved from one node to another
is found where it was then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ballast.errors import ConfigError, RestoreError
from ballast.recovery.choice import Request
from ballast.recovery.report import Report
from ballast.recovery.restore import begun, restore
from ballast.recovery.watcher import Watcher
from ballast.vault import Resolved, Vault, read_rows, tenant_known, tenants
from ballast.vault.moment import is_position
from ballast.vault.records import Shared


class Piece(msgspec.Struct, frozen=True):
    """What one node's record gives, and where it goes."""

    node: str
    dsn: str
    request: Request
    resolved: Resolved | None = None
    """None: what an interrupted restore of the same into that database was to give, else the newest."""


def pieces(
    vaults: Mapping[str, Vault], into: Mapping[str, str], request: Request, at: str | None, *, through: str = ""
) -> Iterator[Piece]:
    """What is to be done on each node, in order.

    `through`: the node whose server spreads rows by itself (Citus); then no node is restored in bulk, since all land there.
    RestoreError for a tenant that no record or several have; ConfigError for a position, which is one node's own."""
    if at is not None and is_position(at) and len(vaults) > 1:
        raise ConfigError(
            f"{at} is a position, and each node has its own.", "Give a time, or name one node with --node."
        )
    if request.tenants is not None:
        whose: dict[str, list[str]] = {}
        for tenant in request.tenants:
            whose.setdefault(node_of(tenant, vaults, at), []).append(tenant)
        wanted = {node: msgspec.structs.replace(request, tenants=tuple(names)) for node, names in whose.items()}
    else:
        wanted = dict.fromkeys(vaults, request)
    for node, asked in wanted.items():
        vault = vaults[node]
        if not through or asked.tenants is not None:
            yield Piece(node, into[node], asked, None if at is None else vault.resolve(at))
            continue
        # The tables are there, distributed, and each record holds a part of their rows.
        resolved = vault.resolve(at)
        if node == through and (shared := _shared(vault, resolved, request)):
            yield Piece(node, into[node], msgspec.structs.replace(request, tables=shared), resolved)
        if names := tenants(vault, resolved):
            yield Piece(node, into[node], msgspec.structs.replace(request, tenants=tuple(names)), resolved)


def put_back(vault: Vault, piece: Piece, watcher: Watcher | None = None) -> Report:
    """Restores one piece, see `restore`."""
    resolved = piece.resolved or vault.resolve(begun(vault, piece.dsn, piece.request))
    return restore(vault, resolved, piece.dsn, piece.request, watcher)


def node_of(tenant: str, vaults: Mapping[str, Vault], at: str | None) -> str:
    """The node whose record has rows of the tenant at that moment; where none has any then, the one that ever had."""
    known = [node for node, vault in vaults.items() if tenant_known(vault, tenant)]
    with_rows = [node for node in known if _has_rows(vaults[node], tenant, at)] if len(known) > 1 else known
    found = with_rows or known
    if len(found) == 1:
        return found[0]
    if not found:
        raise RestoreError(
            f"no node's record has ever seen tenant {tenant!r}",
            "A tenant is named by the text of its column, letter by letter: compare with a row of production.",
        )
    if not with_rows:
        raise RestoreError(
            f"tenant {tenant!r} has no rows at that moment, and the records of {_listed(found)} knew it at some time",
            "Choose another moment, or name one node with --node.",
        )
    raise RestoreError(
        f"the records of {_listed(found)} have rows of tenant {tenant!r} at that moment",
        "Name the node that is meant with --node. With Citus, a shard that was moved stays in the record of the node that it"
        " left until that node's next image.",
    )


def _has_rows(vault: Vault, tenant: str, at: str | None) -> bool:
    return any(len(chunk.lines) for chunk in read_rows(vault, vault.resolve(at), tenant=tenant))


def _shared(vault: Vault, resolved: Resolved, request: Request) -> tuple[str, ...]:
    relations = vault.relations_at(resolved.cut).values()
    names = {f"{r.root_schema}.{r.root_name}" for r in relations if isinstance(r.tenant, Shared)}
    return tuple(sorted(names if request.tables is None else names & set(request.tables)))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
