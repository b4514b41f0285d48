"""A database spread over several servers by tenant: protected, recorded, lost and restored node by node, by the commands.

Plain servers stand for the nodes; an application that shards by itself has the same.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import pytest

from ballast.errors import RestoreError
from ballast.postgres.lsn import parse_lsn
from ballast.recovery.spread import node_of
from ballast.vault import Vault, wish
from ballast.vault.health import RECORDER_FILE, SEALER_FILE, RecorderHealth, SealerHealth, read_state
from ballast.vault.nodes import Spread, load
from tests.commands import Said, ballast
from tests.fix_postgres import Database, NewServer

pytestmark = pytest.mark.timeout(300)

SCHEMA = (
    "CREATE TABLE plan (code text PRIMARY KEY)",
    "CREATE TABLE orders (shop int, id int, note text, PRIMARY KEY (shop, id))",
)


def orders(db: Database) -> list[tuple[Any, ...]]:
    return db.query("SELECT shop, id, note FROM orders ORDER BY 1, 2")


def sealed_until(state_dir: Path) -> int:
    found = read_state(state_dir, SEALER_FILE, SealerHealth)
    return found.sealed_lsn if found is not None else 0


def recorder_in(state_dir: Path) -> int:
    found = read_state(state_dir, RECORDER_FILE, RecorderHealth)
    return found.pid if found is not None else 0


def armed(state_dir: Path) -> bool:
    found = read_state(state_dir, RECORDER_FILE, RecorderHealth)
    return found is not None and found.state == "recording" and found.armed and psutil.pid_exists(found.pid)


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

    def call(self, command: str, *arguments: str) -> Said:
        return ballast(command, *arguments, "--config", str(self.file))

    def vaults(self) -> dict[str, Vault]:
        return {node.name: Vault.open(node.settings.vault, key=node.settings.key) for node in self.spread.nodes}

    def record(self) -> None:
        """Returns when all are protected."""
        with self.log.open("ab") as log:
            self.recording = subprocess.Popen(
                [sys.executable, "-m", "ballast.cli", "record", "--config", str(self.file)], stdout=log, stderr=log
            )
        self.until(lambda: all(armed(n.settings.state_dir) for n in self.spread.nodes), "all nodes to be armed")

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.call('status').stdout}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)

    def moment(self) -> str:
        """A time within the record of every node; the next changes come after it."""
        time.sleep(1.2)  # each node's canary sings once a second
        then = datetime.now(UTC).isoformat()
        time.sleep(0.1)
        return then

    def sealed(self) -> None:
        """Until the vaults hold what was committed before this."""
        for node in self.spread.nodes:
            with psycopg.connect(node.settings.dsn, autocommit=True) as conn:
                (lsn,) = conn.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
            folder, until = node.settings.state_dir, parse_lsn(lsn)
            wish.leave(folder, "seal", 1, "a test looks", to_lsn=until)
            self.until(lambda f=folder, u=until: sealed_until(f) >= u, "seal")

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
def third(own_server: NewServer) -> Iterator[Database]:
    """A database on one more server."""
    server = own_server(major=18)
    server.start()
    yield Database(server, 18, "postgres")
    server.discard()


@pytest.fixture
def elsewhere(third: Database) -> list[Database]:
    """Empty databases to restore into, on a server that waits for no recorder."""
    return [third.another() for _ in range(4)]


def test_each_node_is_recorded_and_what_is_lost_comes_back_where_it_was(
    pg16: Database, pg18: Database, elsewhere: list[Database], clusters: Callable[..., Cluster]
) -> None:
    cluster = clusters({"north": pg16, "south": pg18})
    for db, shops in ((pg16, (1, 2)), (pg18, (3, 4))):
        db.run(*SCHEMA, "INSERT INTO plan VALUES ('basic')")
        db.run(*(f"INSERT INTO orders VALUES ({shop}, 1, 'before')" for shop in shops))
    protected = cluster.call("protect")
    assert protected.returncode == 0, protected.stderr + protected.stdout
    assert cluster.call("protect").stdout.count("already protected") == 2
    said = cluster.call("status")
    assert (said.returncode, said.stdout.split("\n")[0]) == (1, "NOT PROTECTED: north, south")
    cluster.record()
    pg16.run("INSERT INTO orders VALUES (2, 2, 'recorded')")
    pg18.run("INSERT INTO orders VALUES (3, 2, 'recorded')")
    before = {name: orders(db) for name, db in cluster.nodes.items()}

    # A recorder that dies is one node's trouble; it is started again.
    state = cluster.spread.node("south").settings.state_dir
    victim = recorder_in(state)
    os.kill(victim, signal.SIGKILL)
    cluster.until(lambda: recorder_in(state) != victim, "another recorder")
    cluster.until(lambda: armed(state), "the killed recorder to be back")
    said = cluster.call("status", "--json")
    assert said.returncode == 0, said.stdout
    assert list(json.loads(said.stdout)["nodes"]) == ["north", "south"]

    # A tenant that is damaged comes back on the node that has it, and nothing else is touched.
    then = cluster.moment()
    pg18.run("DELETE FROM orders WHERE shop = 3", "UPDATE orders SET note = 'later' WHERE shop = 4")
    cluster.sealed()
    back = cluster.call("restore", "--tenant", "3", "--at", then, "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert list(json.loads(back.stdout)["nodes"]) == ["south"]
    assert orders(pg18) == [(3, 1, "before"), (3, 2, "recorded"), (4, 1, "later")]
    assert orders(pg16) == before["north"]
    refused = cluster.call("restore", "--tenant", "99")
    assert refused.returncode == 1
    assert "no node's record has ever seen tenant '99'" in refused.stderr
    position = cluster.call("restore", "--tenant", "3", "--at", "1/0/16B3748")
    assert "each node has its own" in position.stderr
    cluster.stop()

    # One node is lost.
    north, *new = elsewhere
    back = cluster.call("restore", "--node", "north", "--into", f"north={north.dsn}", "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert orders(north) == before["north"]
    # All is lost, the settings too: the vault says which nodes there were.
    into = [part for name, db in zip(cluster.nodes, new, strict=False) for part in ("--into", f"{name}={db.dsn}")]
    back = ballast("restore", "--vault", cluster.spread.common.vault, *into, "--at", then, "--json")
    assert back.returncode == 0, back.stderr + back.stdout
    assert [orders(db) for db in new[:2]] == list(before.values())
    assert [db.query("SELECT code FROM plan") for db in new[:2]] == [[("basic",)], [("basic",)]]

    undone = cluster.call("unprotect")
    assert undone.returncode == 0, undone.stdout
    for db in cluster.nodes.values():
        assert db.query("SELECT FROM pg_replication_slots") == []
        db.run("INSERT INTO orders VALUES (9, 9, 'waits for nobody')")


def test_a_moved_tenant_is_found_where_it_was_and_a_commit_of_two_nodes_is_on_both(
    pg16: Database, pg18: Database, clusters: Callable[..., Cluster]
) -> None:
    """Citus commits what touches several nodes with PREPARE TRANSACTION on each: it waits for the recorders twice."""
    cluster = clusters({"north": pg16, "south": pg18})
    for db in (pg16, pg18):
        db.run(*SCHEMA, "INSERT INTO orders VALUES (8, 1, 'on both')")
    pg16.run("INSERT INTO orders VALUES (7, 1, 'north')")
    assert cluster.call("protect").returncode == 0
    cluster.record()
    then = cluster.moment()
    pg16.run("BEGIN; DELETE FROM orders WHERE shop = 7; PREPARE TRANSACTION 'away'")
    pg18.run("BEGIN; INSERT INTO orders VALUES (7, 3, 'south'); PREPARE TRANSACTION 'here'")
    pg16.run("COMMIT PREPARED 'away'")
    pg18.run("COMMIT PREPARED 'here'")
    cluster.stop()
    vaults = cluster.vaults()
    assert node_of("7", vaults, None) == "south"
    assert node_of("7", vaults, then) == "north"
    with pytest.raises(RestoreError, match="north and south have rows of tenant '8'"):
        node_of("8", vaults, None)
    refused = cluster.call("rewind", "--tenant", "7", "--at", "now")
    assert refused.returncode == 1
    assert "names several nodes, and this command works on one" in refused.stderr


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
