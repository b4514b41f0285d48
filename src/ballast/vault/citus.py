"""Citus: recognising a database that it distributes, and what must hold for its nodes to be recorded. EXPERIMENTAL.

Written from Citus' source and documentation, and tried on plain servers with a stand-in for its catalog; docs/citus.md says what
was never tried. The rest is what holds of any nodes (nodes.py): the coordinator and each worker are one node each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from ballast.postgres.lsn import parse_lsn
from ballast.vault import wish
from ballast.vault.checks import Finding, IdentityChange
from ballast.vault.config import Config
from ballast.vault.durable import make_folder, replace_file
from ballast.vault.examine import session
from ballast.vault.nodes import Spread
from ballast.vault.shards import has_citus

_TOPOLOGY = files("ballast.vault").joinpath("citus.sql").read_bytes()
_OF_NODE = b"SELECT pg_catalog.current_setting('citus.enable_change_data_capture', true), pg_catalog.pg_current_wal_lsn()::text"
_OURS_ALONE = "-c citus.enable_ddl_propagation=off -c citus.enable_metadata_sync=off"
"""What Ballast makes on a node is that node's: Citus must not carry it to the others, nor refuse it on a worker."""
SEEN_FILE = "citus.json"
COORDINATOR = "coordinator"


class Server(msgspec.Struct, frozen=True):
    """A line of pg_dist_node."""

    id: int
    group: int
    """0: the coordinator."""
    host: str
    port: int
    active: bool
    synced: bool

    @property
    def name(self) -> str:
        """As a node of ballast.toml."""
        return COORDINATOR if self.group == 0 else f"worker_{self.group}"


class Table(msgspec.Struct, frozen=True):
    """A line of pg_dist_partition."""

    name: str
    method: str
    """"h": distributed by hash; "n": not (a reference table, a local one, or one of a distributed schema)."""
    replication: str
    """"t": a reference table; "s": any other."""
    colocation: int
    column: str | None

    @property
    def is_reference(self) -> bool:
        """Whether every node has all of its rows."""
        return self.method == "n" and self.replication == "t"


class Placement(msgspec.Struct, frozen=True):
    """Where a shard lies."""

    shard: int
    table: str
    group: int


class Topology(msgspec.Struct, frozen=True):
    """The row of `citus.sql`."""

    local_group: int
    """Of the server that was asked."""
    nodes: tuple[Server, ...]
    tables: tuple[Table, ...]
    placements: tuple[Placement, ...]


class Moved(msgspec.Struct, frozen=True):
    """A shard that lies elsewhere than it did: neither record has been told of its rows' going and coming."""

    shard: int
    table: str
    was: tuple[int, ...]
    now: tuple[int, ...]
    """Groups; none: it was not there, or is gone (dropped or split)."""

    def __str__(self) -> str:
        was, now = (", ".join(map(_name, groups)) or "nowhere" for groups in (self.was, self.now))
        return f"shard {self.shard} of {self.table} was moved from {was} to {now}"


class Seen(msgspec.Struct, frozen=True):
    """What was found when the nodes' records were last known to be whole."""

    placements: tuple[Placement, ...]
    lsns: dict[str, int]
    """Node to its position just before."""


def look(dsn: str) -> Topology | None:
    """How Citus has spread this database; None where the extension is not in it. ServerError as `examine.session`."""
    with session(dsn) as conn:
        return _read(conn) if has_citus(conn) else None


def _read(conn: psycopg.Connection[Any]) -> Topology:
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_TOPOLOGY).fetchone()
    assert row is not None
    return msgspec.convert(row[0], Topology)


def spread_of(topology: Topology, dsn: str, common: Config, path: Path) -> Spread:
    """The nodes as ballast.toml names them: each by what `dsn` says apart from host and port.

    The server that was asked keeps the address it was asked at, since pg_dist_node may say localhost of it."""
    parts: dict[str, Any] = {k: v for k, v in conninfo_to_dict(dsn).items() if k not in ("hostaddr", "options")}
    options = conninfo_to_dict(dsn).get("options")
    parts["options"] = f"{options} {_OURS_ALONE}" if options else _OURS_ALONE
    dsns = {}
    if not any(server.group == 0 for server in topology.nodes) and topology.local_group == 0:
        dsns[COORDINATOR] = make_conninfo("", **parts)
    for server in topology.nodes:
        asked = server.group == topology.local_group
        place = {} if asked else {"host": server.host, "port": server.port}
        dsns[server.name] = make_conninfo("", **{**parts, **place})
    return Spread(path, common, dsns, COORDINATOR)


def findings(topology: Topology, common: Config, known: Mapping[str, str]) -> Iterator[Finding]:
    """What stands in the way, by the coordinator's catalog. `known`: the nodes that are protected, by name."""
    if topology.local_group != 0:
        yield Finding("The DSN leads to a Citus worker.", "Give the coordinator's.")
    for server in topology.nodes:
        if server.name not in known:
            yield Finding(
                f"Citus has a node {server.name} ({server.host}:{server.port}) that is not protected.", _AGAIN
            )
        if not server.active or not server.synced:
            yield Finding(
                f"Node {server.name} is not active, or has no metadata: its stream cannot name the tables.",
                "SELECT citus_activate_node(…) and start_metadata_sync_to_all_nodes() on the coordinator.",
            )
    references = [table.name for table in topology.tables if table.is_reference]
    if references and not any(server.group == 0 for server in topology.nodes):
        yield Finding(
            f"The coordinator has no copy of the reference tables {', '.join(references)}, and only its stream tells of them.",
            "SELECT citus_set_coordinator_host(…) on it.",
        )
    for table in topology.tables:
        if table.method == "h" and table.column != common.tenants.tables.get(table.name, common.tenants.column):
            yield Finding(
                f"{table.name} is distributed by {table.column}, which is not its tenant column: a tenant's rows would be on"
                " several nodes.",
                f'Distribute it by its tenant column, or say "{table.name}" = "{table.column}" under [tenants.tables].',
            )
        elif table.method != "h" and not table.is_reference and table.colocation:
            yield Finding(
                f"{table.name} is in a distributed schema, which is not supported.", "Distribute it by its tenant."
            )
    groups = {table.colocation for table in topology.tables if table.method == "h"}
    if len(groups) > 1:
        yield Finding(
            "The distributed tables are not colocated: a tenant's rows would be on several nodes.",
            "SELECT update_distributed_table_colocation(…, colocate_with => …) for those apart.",
        )
    hashed = {table.name for table in topology.tables if table.method == "h"}
    copies = Counter(p.shard for p in topology.placements if p.table in hashed)
    if doubled := sorted(shard for shard, count in copies.items() if count > 1):
        yield Finding(
            f"Shards {', '.join(map(str, doubled[:5]))} lie on several nodes.",
            "Set citus.shard_replication_factor to 1.",
        )


def identity_problems(changes: Iterable[IdentityChange]) -> Iterator[Finding]:
    """Rows are logged as their shards' identities say, so Citus must set these, by way of the table's."""
    for change in changes:
        yield Finding(
            f"{change.table} needs another replica identity ({change.why}).",
            f"ALTER TABLE {change.table} REPLICA IDENTITY {change.to} on the coordinator, which reaches its shards.",
        )


def moved(before: tuple[Placement, ...], now: tuple[Placement, ...], references: frozenset[str]) -> Iterator[Moved]:
    """The shards that lie elsewhere. Reference tables are recorded on the coordinator, wherever else they have copies."""
    was, is_now = _groups(before, references), _groups(now, references)
    for shard in sorted(was.keys() | is_now.keys()):
        old, new = was.get(shard), is_now.get(shard)
        if (old or ("", ()))[1] != (new or ("", ()))[1]:
            table = (new or old or ("", ()))[0]
            yield Moved(shard, table, old[1] if old else (), new[1] if new else ())


def _groups(placements: tuple[Placement, ...], but: frozenset[str]) -> dict[int, tuple[str, tuple[int, ...]]]:
    found: dict[int, tuple[str, tuple[int, ...]]] = {}
    for p in placements:
        if p.table not in but:
            found[p.shard] = p.table, tuple(sorted({*found.get(p.shard, ("", ()))[1], p.group}))
    return found


def problems(spread: Spread, dsns: Mapping[str, str], *, since: bool = False) -> tuple[Finding, ...]:
    """What stands in the way of protection; with `since` also shards moved since the nodes were imaged. Changes nothing."""
    topology = look(dsns[spread.coordinator])
    if topology is None:
        return (Finding("The coordinator has no Citus any more.", "Correct ballast.toml: leave [citus] out."),)
    found = list(findings(topology, spread.common, dsns))
    for name, dsn in dsns.items():
        with session(dsn) as conn:
            (capture, _) = conn.execute(_OF_NODE).fetchone() or (None, None)
        if capture != "on":
            found.append(
                Finding(
                    f"Node {name} does not translate its stream: citus.enable_change_data_capture is {capture or 'unknown'}.",
                    "Set it to on in postgresql.conf of every node and restart them.",
                )
            )
    seen = _seen(spread)
    if since and seen is not None:
        found += [Finding(f"{m}.", _AGAIN) for m in moved(seen.placements, topology.placements, _references(topology))]
    return tuple(found)


def heed_moves(spread: Spread, dsns: Mapping[str, str]) -> tuple[str, ...]:
    """Asks for new images where a shard was moved, with a gap from when it was last known where it lay; which were moved.

    Citus leaves a move out of the streams: the record of the node that it left keeps the rows, that of the other lacks them."""
    lsns = {}
    for name, dsn in dsns.items():  # before the catalog: what moves later is seen next time
        with session(dsn) as conn:
            lsns[name] = parse_lsn(str((conn.execute(_OF_NODE).fetchone() or ("", "0/0"))[1]))
    topology = look(dsns[spread.coordinator])
    if topology is None:
        return ()
    seen = _seen(spread)
    moves = tuple(moved(seen.placements, topology.placements, _references(topology))) if seen is not None else ()
    for move in moves:
        for group in {*move.was, *move.now}:
            name = _name(group)
            if seen is not None and name in dsns and name in seen.lsns:
                _wish(spread, name, dsns[name], move, seen.lsns[name])
    path = spread.common.state_dir / SEEN_FILE
    make_folder(path.parent)
    replace_file(path, msgspec.json.encode(Seen(topology.placements, lsns)))
    return tuple(map(str, moves))


def _wish(spread: Spread, name: str, dsn: str, move: Moved, since: int) -> None:
    from ballast.vault.vault import Vault

    settings = spread.node(name).settings
    with session(dsn) as conn:
        (oid,) = conn.execute("SELECT to_regclass(%s)::oid::bigint", (move.table,)).fetchone() or (None,)
    if oid is None:
        return  # dropped: it has no rows to be wrong about
    timeline = Vault.open(settings.vault, key=settings.key).index.newest_timeline
    id = f"moved-{oid}-{since:X}"  # several shards of a table moved together need one image
    wish.leave(settings.state_dir, "image", timeline, str(move), oids=[oid], from_lsn=since, id=id)


def _seen(spread: Spread) -> Seen | None:
    path = spread.common.state_dir / SEEN_FILE
    return msgspec.json.decode(path.read_bytes(), type=Seen) if path.exists() else None


def _references(topology: Topology) -> frozenset[str]:
    return frozenset(table.name for table in topology.tables if table.is_reference)


def _name(group: int) -> str:
    return COORDINATOR if group == 0 else f"worker_{group}"


_AGAIN = "Run `ballast protect` again with the coordinator's DSN."
