"""A database spread over several servers by tenant: protected, recorded, lost and restored node by node, by the commands.

Plain databases stand for the nodes, two of them on one server; an application that shards by itself has the same.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ballast.errors import RestoreError
from ballast.recovery.spread import node_of
from ballast.vault import Vault
from ballast.vault.nodes import Spread, load
from tests.fix_postgres import Database

SCHEMA = (
    "CREATE TABLE plan (code text PRIMARY KEY)",
    "CREATE TABLE orders (shop int, id int, note text, PRIMARY KEY (shop, id))",
)


def ballast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ballast.cli", *arguments], capture_output=True, text=True, timeout=100
    )


def orders(db: Database) -> list[tuple[Any, ...]]:
    return db.query("SELECT shop, id, note FROM orders ORDER BY 1, 2")


class Cluster:
    """Databases, the file that names them, and `ballast record` for all."""

    def __init__(self, folder: Path, nodes: dict[str, Database], more: str = "") -> None:
        self.nodes, self.file, self.log = nodes, folder / "ballast.toml", folder / "record.log"
        self.recording: subprocess.Popen[bytes] | None = None
        listed = "".join(f"{name} = {json.dumps(db.dsn)}\n" for name, db in nodes.items())
        self.file.write_text(
            'vault = "vault"\nstate_dir = "state"\n[tenants]\ncolumn = "shop"\nshared = ["public.plan"]\n'
            f"[record]\nseal_after_s = 0.3\ncheck_every_s = 1.0\n[nodes]\n{listed}{more}"
        )

    @property
    def spread(self) -> Spread:
        found = load(self.file)
        assert found is not None
        return found

    def call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return ballast(command, *arguments, "--config", str(self.file))

    def vaults(self) -> dict[str, Vault]:
        return {node.name: Vault.open(node.settings.vault, key=node.settings.key) for node in self.spread.nodes}

    def record(self) -> None:
        """Returns when all are protected."""
        with self.log.open("ab") as log:
            self.recording = subprocess.Popen(
                [sys.executable, "-m", "ballast.cli", "record", "--config", str(self.file)], stdout=log, stderr=log
            )
        self.until(lambda: self.call("status").returncode == 0, "all nodes to be protected")

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.call('status').stdout}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)

    def stop(self) -> None:
        """SIGTERM: all that was recorded is sealed."""
        assert self.recording is not None
        self.recording.send_signal(signal.SIGTERM)
        assert self.recording.wait(100) == 0, self.log.read_text()[-3000:]

    def end(self) -> None:
        if self.recording is not None and self.recording.poll() is None:
            self.recording.kill()  # the recorders die with it
            self.recording.wait()


@pytest.fixture
def clusters(open_folder: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def new(nodes: dict[str, Database], more: str = "") -> Cluster:
        made.append(Cluster(open_folder, nodes, more))
        return made[-1]

    yield new
    for cluster in made:
        cluster.end()


@pytest.fixture
def cluster(pg18: Database, pg16: Database, clusters: Callable[..., Cluster]) -> Cluster:
    """Shops 1 and 2 on north, 3 on south (the same server), 4 on west."""
    nodes = {"north": pg18, "south": pg18.another(), "west": pg16}
    for at, db in enumerate(nodes.values()):
        db.run(*SCHEMA, "INSERT INTO plan VALUES ('basic')", f"INSERT INTO orders VALUES ({at + 2}, 1, 'before')")
    pg18.run("INSERT INTO orders VALUES (1, 1, 'before')")
    return clusters(nodes)


def test_each_node_is_recorded_and_what_is_lost_comes_back_where_it_was(cluster: Cluster, pg18: Database) -> None:
    protected = cluster.call("protect")
    assert protected.returncode == 0, protected.stderr + protected.stdout
    assert cluster.call("protect").stdout.count("already protected") == 3
    said = cluster.call("status")
    assert (said.returncode, said.stdout.split("\n")[0]) == (1, "NOT PROTECTED: north, south, west")
    cluster.record()
    for at, db in enumerate(cluster.nodes.values()):
        db.run(f"INSERT INTO orders VALUES ({at + 2}, 2, 'recorded')")
    said = cluster.call("status", "--json")
    assert json.loads(said.stdout)["protected"] is True
    assert list(json.loads(said.stdout)["nodes"]) == ["north", "south", "west"]
    before = {name: orders(db) for name, db in cluster.nodes.items()}

    # One recorder that dies is one node's trouble; it is started again.
    victim = json.loads((cluster.spread.node("west").settings.state_dir / "recorder.json").read_text())["pid"]
    os.kill(victim, signal.SIGKILL)
    cluster.until(lambda: cluster.call("status").returncode == 0, "the killed recorder to be back")
    cluster.stop()

    # The server with north and south on it loses north; shop 3 is on south, 4 on the other server.
    north = pg18.another()
    back = cluster.call("restore", "--node", "north", "--into", f"north={north.dsn}", "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert orders(north) == before["north"]

    cluster.nodes["south"].run("SET synchronous_commit = local; DELETE FROM orders")
    cluster.nodes["west"].run("SET synchronous_commit = local; UPDATE orders SET note = 'wrong'")
    back = cluster.call("restore", "--tenant", "3", "--tenant", "4", "--replace", "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert list(json.loads(back.stdout)["nodes"]) == ["south", "west"]
    assert {name: orders(cluster.nodes[name]) for name in ("south", "west")} == {
        name: before[name] for name in ("south", "west")
    }

    # All is lost, the settings too: the vault says which nodes there were.
    new = {name: pg18.another() for name in cluster.nodes}
    into = [part for name, db in new.items() for part in ("--into", f"{name}={db.dsn}")]
    back = ballast("restore", "--vault", cluster.spread.common.vault, *into, "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert {name: orders(db) for name, db in new.items()} == before
    assert {name: db.query("SELECT code FROM plan") for name, db in new.items()} == dict.fromkeys(new, [("basic",)])

    refused = cluster.call("restore", "--tenant", "99")
    assert refused.returncode == 1
    assert "no node's record has ever seen tenant '99'" in refused.stderr
    undone = cluster.call("unprotect")
    assert undone.returncode == 0, undone.stdout
    assert cluster.nodes["west"].query("SELECT FROM pg_replication_slots") == []


def test_a_tenant_that_moved_is_found_where_it_was_at_the_moment(
    pg18: Database, clusters: Callable[..., Cluster]
) -> None:
    cluster = clusters({"north": pg18, "south": pg18.another()})
    for db in cluster.nodes.values():
        db.run(*SCHEMA)
    pg18.run("INSERT INTO orders VALUES (7, 1, 'north')")
    assert cluster.call("protect").returncode == 0
    cluster.record()
    pg18.run("INSERT INTO orders VALUES (7, 2, 'north')")
    time.sleep(1.1)  # canaries of both nodes: the moment lies within both records
    ((then,),) = pg18.query("SELECT clock_timestamp()::text")
    time.sleep(0.1)
    pg18.run("DELETE FROM orders WHERE shop = 7")
    cluster.nodes["south"].run("INSERT INTO orders VALUES (7, 3, 'south')")
    cluster.stop()

    vaults = cluster.vaults()
    assert node_of("7", vaults, None) == "south"
    assert node_of("7", vaults, then) == "north"
    pg18.run("SET synchronous_commit = local; INSERT INTO orders VALUES (7, 4, 'twice')")
    position = cluster.call("restore", "--tenant", "7", "--at", "1/0/16B3748")
    assert position.returncode == 1
    assert "each node has its own" in position.stderr


def test_a_tenant_on_two_nodes_is_not_guessed_at(pg18: Database, clusters: Callable[..., Cluster]) -> None:
    cluster = clusters({"north": pg18, "south": pg18.another()})
    for db in cluster.nodes.values():
        db.run(*SCHEMA, "INSERT INTO orders VALUES (7, 1, 'here')")
    assert cluster.call("protect").returncode == 0
    with pytest.raises(RestoreError, match="north and south have rows of tenant '7'"):
        node_of("7", cluster.vaults(), None)
    refused = cluster.call("rewind", "--tenant", "7", "--at", "now")
    assert refused.returncode == 1
    assert "names several nodes, and this command works on one" in refused.stderr


def test_a_commit_of_two_nodes_together_is_in_both_records(pg18: Database, clusters: Callable[..., Cluster]) -> None:
    """Citus commits what touches several nodes with PREPARE TRANSACTION on each: it waits for the recorder twice."""
    cluster = clusters({"north": pg18, "south": pg18.another()})
    for db in cluster.nodes.values():
        db.run(*SCHEMA)
    assert cluster.call("protect").returncode == 0
    cluster.record()
    for at, db in enumerate(cluster.nodes.values()):
        db.run(f"BEGIN; INSERT INTO orders VALUES ({at}, 1, 'both'); PREPARE TRANSACTION 'of both, {at}'")
    time.sleep(0.5)
    for at, db in enumerate(cluster.nodes.values()):
        db.run(f"COMMIT PREPARED 'of both, {at}'")
    cluster.stop()
    assert {name: node_of(tenant, cluster.vaults(), None) for name, tenant in (("north", "0"), ("south", "1"))} == {
        "north": "north",
        "south": "south",
    }


def test_nothing_is_changed_where_one_node_cannot_be_protected(
    pg18: Database, clusters: Callable[..., Cluster]
) -> None:
    cluster = clusters({"north": pg18, "south": pg18.another()})
    pg18.run(*SCHEMA)
    cluster.nodes["south"].run("CREATE TABLE unclear (id int PRIMARY KEY)")
    refused = cluster.call("protect")
    assert refused.returncode == 1
    assert "unclear" in refused.stdout
    assert pg18.query("SELECT to_regnamespace('ballast')") == [(None,)]
    assert not (cluster.spread.common.state_dir / "nodes").exists()
