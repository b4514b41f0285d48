"""What is concluded from Citus' catalog: the nodes, what stands in the way, and which shards were moved."""

from pathlib import Path

import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from ballast.vault.citus import Placement, Server, Table, Topology, findings, moved, spread_of
from ballast.vault.config import Config, Tenants

COMMON = Config(dsn="host=x", vault="/v", state_dir=Path("/s"), tenants=Tenants(column="shop"))
WHOLE = Topology(
    local_group=0,
    nodes=(
        Server(1, 0, "localhost", 5432, active=True, synced=True),
        Server(2, 1, "w1", 5433, active=True, synced=True),
        Server(3, 2, "w2", 5434, active=True, synced=True),
    ),
    tables=(Table("public.orders", "h", "s", 1, "shop"), Table("public.plan", "n", "t", 9, None)),
    placements=(
        Placement(10, "public.orders", 1),
        Placement(11, "public.orders", 2),
        *(Placement(12, "public.plan", group) for group in (0, 1, 2)),
    ),
)
NAMES = {"coordinator": "", "worker_1": "", "worker_2": ""}


def test_each_node_is_reached_as_the_coordinator_was_and_keeps_to_itself() -> None:
    spread = spread_of(WHOLE, "host=db.example port=6000 dbname=mall user=ballast", COMMON, Path("ballast.toml"))
    assert (list(spread.dsns), spread.coordinator) == (list(NAMES), "coordinator")
    asked, worker = (conninfo_to_dict(spread.dsns[name]) for name in ("coordinator", "worker_2"))
    assert (asked["host"], asked["port"]) == ("db.example", "6000")
    assert (worker["host"], worker["port"], worker["dbname"], worker["user"]) == ("w2", "5434", "mall", "ballast")
    assert "citus.enable_ddl_propagation=off" in str(worker["options"])


def test_a_coordinator_outside_of_its_own_catalog_is_a_node_too() -> None:
    without = msgspec.structs.replace(WHOLE, nodes=WHOLE.nodes[1:])
    assert list(spread_of(without, "host=c", COMMON, Path("ballast.toml")).dsns) == list(NAMES)
    assert [f.what for f in findings(without, COMMON, NAMES)] == [
        "The coordinator has no copy of the reference tables public.plan, and only its stream tells of them."
    ]


def test_nothing_stands_in_the_way_of_tables_distributed_by_tenant() -> None:
    assert list(findings(WHOLE, COMMON, NAMES)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"local_group": 1}, "leads to a Citus worker"),
        ({"tables": (Table("public.orders", "h", "s", 1, "id"),)}, "distributed by id, which is not its tenant column"),
        (
            {"tables": (Table("public.a", "h", "s", 1, "shop"), Table("public.b", "h", "s", 2, "shop"))},
            "not colocated",
        ),
        ({"tables": (Table("one.a", "n", "s", 3, None),)}, "in a distributed schema"),
        (
            {"placements": (Placement(10, "public.orders", 1), Placement(10, "public.orders", 2))},
            "Shards 10 lie on several nodes",
        ),
        (
            {"nodes": (WHOLE.nodes[0], Server(2, 1, "w1", 1, active=True, synced=False))},
            "Node worker_1 is not active, or has no metadata",
        ),
        (
            {"nodes": (*WHOLE.nodes, Server(4, 3, "w3", 1, active=True, synced=True))},
            "a node worker_3 (w3:1) that is not protected",
        ),
    ],
)
def test_what_stands_in_the_way_is_named(change: dict[str, object], said: str) -> None:
    found = list(findings(msgspec.structs.replace(WHOLE, **change), COMMON, NAMES))
    assert len(found) == 1
    assert said in found[0].what
    assert found[0].do


def test_a_moved_a_new_and_a_gone_shard_and_no_copy_of_a_reference_table() -> None:
    now = (
        Placement(10, "public.orders", 2),
        Placement(13, "public.orders", 1),
        Placement(12, "public.plan", 0),
    )
    assert [str(m) for m in moved(WHOLE.placements, now, frozenset({"public.plan"}))] == [
        "shard 10 of public.orders was moved from worker_1 to worker_2",
        "shard 11 of public.orders was moved from worker_2 to nowhere",
        "shard 13 of public.orders was moved from nowhere to worker_1",
    ]
    assert list(moved(WHOLE.placements, WHOLE.placements, frozenset())) == []
