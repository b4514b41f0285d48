"""Citus, as far as it can be tried without it: two plain servers with a stand-in for its catalog (citus_standin.sql).

What is real here: the queries, the refusals, the file that is written, the images that read shards, restoring through one server. What
is not: Citus. Its decoder, its propagation of commands and its routing of rows are docs/citus.md's to name.
"""

import json
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ballast.vault import Vault, wish
from ballast.vault.nodes import load
from tests.commands import ballast
from tests.fix_postgres import Database
from tests.fix_protected import vault_rows

pytestmark = pytest.mark.timeout(300)

STANDIN = Path(__file__).with_name("citus_standin.sql").read_text()
TABLES = (
    "CREATE TABLE plan (code text PRIMARY KEY)",
    "CREATE TABLE orders (shop int, id int, note text, PRIMARY KEY (shop, id))",
)


@pytest.fixture
def citus(pg16: Database, pg18: Database) -> tuple[Database, Database]:
    """Coordinator and worker: orders has shard 102 on the worker, the reference table plan a copy on each."""
    with psycopg.connect(pg18.server.dsn(), autocommit=True) as admin:  # one name on all nodes, as Citus has it
        admin.execute(f'ALTER DATABASE "{pg18.name}" RENAME TO "{pg16.name}"'.encode())
    pg18.name = pg16.name
    places = {}
    for group, db in enumerate((pg16, pg18)):
        parts = conninfo_to_dict(db.dsn)
        places[group] = f"({group}, {group}, '{parts['host']}', {parts['port']}, 'primary', true, true, true)"
        db.run(STANDIN, *TABLES)
        shards = (
            "SET allow_system_table_mods = on; CREATE SCHEMA pg_shards; CREATE TABLE pg_shards.plan_200 (LIKE plan)"
        )
        # As Citus does, the stand-in hides the shards: read_catalog leaves out schemas that begin with pg_.
        db.run(f"{shards}; INSERT INTO pg_shards.plan_200 VALUES ('basic')")
        db.run("CREATE OR REPLACE FUNCTION pg_catalog.shard_name(regclass, bigint) RETURNS text STABLE LANGUAGE sql"
               " AS $$SELECT 'pg_shards.' || relname || '_' || $2 FROM pg_class WHERE oid = $1$$")  # fmt: skip
        db.run(f"INSERT INTO pg_dist_local_group VALUES ({group})")
        db.run("INSERT INTO pg_dist_partition VALUES ('orders', 'h', 'shop', 1, 's'), ('plan', 'n', NULL, 9, 't')")
        db.run("INSERT INTO pg_dist_shard VALUES ('orders', 102), ('plan', 200)")
        db.run("INSERT INTO pg_dist_placement VALUES (1, 102, 1, 1), (2, 200, 1, 0), (3, 200, 1, 1)")
        db.run(f'ALTER DATABASE "{db.name}" SET citus.enable_change_data_capture = on')
    for db in (pg16, pg18):
        db.run(f"INSERT INTO pg_dist_node VALUES {', '.join(places.values())}")
    pg18.run("SET allow_system_table_mods = on; CREATE TABLE pg_shards.orders_102 (note text, id int, shop int);"
             " INSERT INTO pg_shards.orders_102 VALUES ('on the worker', 1, 7)")  # fmt: skip
    return pg16, pg18


def test_recognised_imaged_by_shards_and_restored_through_one_server(
    citus: tuple[Database, Database], open_folder: Path
) -> None:
    coordinator, worker = citus
    landing = coordinator.another()
    landing.run(*TABLES)
    file = open_folder / "ballast.toml"
    arguments = ("protect", coordinator.dsn, "--config", str(file), "--vault", str(open_folder / "vault"))
    arguments += ("--tenant-column", "shop", "--shared", "public.plan")

    worker.run(f'ALTER DATABASE "{worker.name}" SET citus.enable_change_data_capture = off')
    refused = ballast(*arguments)
    assert refused.returncode == 1
    assert "Node worker_1 does not translate its stream: citus.enable_change_data_capture is off" in refused.stdout
    assert not file.exists()
    worker.run(f'ALTER DATABASE "{worker.name}" SET citus.enable_change_data_capture = on')

    done = ballast(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    spread = load(file)
    assert spread is not None
    assert (list(spread.dsns), spread.coordinator) == (["coordinator", "worker_1"], "coordinator")
    # Each row is in the record of the node whose stream tells of it; Citus' own tables are in no publication.
    found = {n.name: vault_rows(v := Vault.open(n.settings.vault), v.resolve().cut) for n in spread.nodes}
    assert found["coordinator"] == {"public.orders": [], "public.plan": [b"basic"]}
    assert found["worker_1"] == {"public.orders": [b"7\t1\ton the worker"], "public.plan": []}
    assert worker.query("SELECT puballtables FROM pg_publication") == [(False,)]

    for more in (("--tenant", "7"), ("--replace",)):
        back = ballast("restore", "--config", str(file), "--into", landing.dsn, *more, "--json")
        assert back.returncode == 0, back.stdout + back.stderr
        assert landing.query("SELECT * FROM orders") == [(7, 1, "on the worker")]
    assert landing.query("SELECT * FROM plan") == [("basic",)]

    # A shard is moved, which no stream tells of.
    for db in citus:
        db.run("UPDATE pg_dist_placement SET groupid = 0 WHERE shardid = 102")
    said = json.loads(ballast("status", "--config", str(file), "--json").stdout)
    moved = "shard 102 of public.orders was moved from worker_1 to coordinator"
    assert [problem["what"] for problem in said["problems"]] == [f"{moved}."]
    coordinator.run("SET allow_system_table_mods = on; CREATE TABLE pg_shards.orders_102 (shop int, id int, note text)")
    again = ballast(*arguments)
    assert moved in again.stdout, again.stdout + again.stderr
    for node in spread.nodes:
        (asked,) = wish.pending(node.settings.state_dir)
        assert (asked.kind, asked.reason, asked.from_lsn is not None) == ("image", moved, True)
    assert json.loads(ballast("status", "--config", str(file), "--json").stdout)["problems"] == []
