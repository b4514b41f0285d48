"""`ballast protect` and `ballast unprotect`, run as commands on real servers; killed at every step; refused with reasons."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow.parquet as pq
import pytest

from ballast.errors import ProtectionError
from ballast.postgres import pg_dump_for, pgoutput
from ballast.postgres.lsn import format_lsn
from ballast.vault import arming, checks, config, examine, health, origin, undertaking
from ballast.vault.batch import intended
from ballast.vault.config import Tenants
from ballast.vault.fingerprint import read_baseline
from ballast.vault.records import ByColumn, Shared, Via
from ballast.vault.spool import Spool
from ballast.vault.unprotect import unprotect
from ballast.vault.vault import Vault
from ballast.vault.verify import verify
from tests.commands import Said, ballast
from tests.fix_postgres import Database, NewServer

pytestmark = pytest.mark.any_version

SHOP = (
    "CREATE SCHEMA depot",
    "CREATE TABLE shops (shop_id int PRIMARY KEY, name text)",
    "CREATE TABLE orders (id bigserial PRIMARY KEY, shop_id int NOT NULL REFERENCES shops, note text)",
    "CREATE TABLE lines (order_id bigint NOT NULL REFERENCES orders, n int, PRIMARY KEY (order_id, n))",
    "CREATE TABLE depot.stock (sku text, shop_id int NOT NULL, amount int, PRIMARY KEY (shop_id, sku))",
    "CREATE TABLE countries (code text PRIMARY KEY, name text)",
    "CREATE TABLE hits (shop_id int, at timestamptz)",
    "CREATE UNLOGGED TABLE cache (shop_id int PRIMARY KEY, body text)",
    "CREATE MATERIALIZED VIEW totals AS SELECT shop_id, count(*) FROM orders GROUP BY 1",
    "CREATE TABLE visits (shop_id int NOT NULL, day date NOT NULL, PRIMARY KEY (shop_id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE visits_26 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "INSERT INTO shops SELECT g, 'shop ' || g FROM generate_series(1, 20) g",
    "INSERT INTO orders (shop_id, note) SELECT g % 20 + 1, repeat('x', g % 50) FROM generate_series(1, 3000) g",
    "INSERT INTO lines SELECT id, n FROM orders, generate_series(1, 2) n",
    "INSERT INTO depot.stock SELECT 'sku' || g, g % 20 + 1, g FROM generate_series(1, 500) g",
    "INSERT INTO countries VALUES ('de', 'Germany'), ('cn', 'China')",
    "INSERT INTO hits SELECT g % 20 + 1, now() FROM generate_series(1, 100) g",
    "INSERT INTO visits SELECT 1, date '2026-01-01' + g FROM generate_series(1, 30) g",
)
SHARED = ("--shared", "public.countries")
TABLES = {
    "public.shops", "public.orders", "public.lines", "depot.stock", "public.countries", "public.hits", "public.visits_26"
}  # fmt: skip


class Site:
    """A folder with a vault, and the command run in it."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db, self.folder = db, folder
        self.config_path, self.vault_path = folder / "ballast.toml", folder / "vault"
        self.state_dir = folder / ".ballast"

    def run(self, *arguments: str) -> Said:
        """The command as a user gives it, in this process: to start another takes longer than what most commands do."""
        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "200")
            return ballast(*arguments)

    def killed(self, step: str, *arguments: str) -> None:
        """The command in a process of its own, which is killed at that step."""
        done = subprocess.run(
            [sys.executable, "-m", "ballast.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "BALLAST_FAIL": step},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    def call(self, *more: str, dsn: str | None = None) -> list[str]:
        """The arguments of a usual `protect`."""
        place = ["--vault", str(self.vault_path), "--tenant-column", "shop_id", *SHARED]
        return ["protect", dsn or self.db.dsn, *place, *more]

    def protect(self, *more: str, dsn: str | None = None) -> dict[str, Any]:
        """It must succeed; its JSON."""
        done = self.run(*self.call(*more, "--json", dsn=dsn))
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def refused(self, *arguments: str) -> str:
        """It must fail with exit code 1; what it said, in one line."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def vault(self) -> Vault:
        return Vault.open(self.vault_path, state_dir=self.state_dir)

    def sound(self) -> Vault:
        """The vault, once `verify` has found nothing."""
        vault = self.vault()
        found = verify(vault.store, state_dir=self.state_dir)
        assert not found.faults, found.faults
        assert not intended(self.state_dir)
        assert undertaking.read(self.state_dir) is None
        return vault

    def state(self) -> dict[str, Any]:
        """Everything of the server that protecting could change."""
        dumped = subprocess.run(
            [str(pg_dump_for(self.db.major)), "--schema-only", "-d", self.db.dsn],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return {
            # Newer pg_dumps write a random word into \restrict.
            "dump": [line for line in dumped.splitlines() if not re.match(r"\\(un)?restrict", line)],
            "publications": self.db.query("SELECT * FROM pg_publication"),
            "slots": self.db.query("SELECT slot_name FROM pg_replication_slots"),
            "triggers": self.db.query("SELECT evtname FROM pg_event_trigger"),
            "schemas": self.db.query("SELECT nspname FROM pg_namespace ORDER BY 1"),
            "roles": self.db.query("SELECT rolname FROM pg_roles ORDER BY 1"),
            "identities": self.db.query(
                "SELECT c.oid::regclass::text, c.relreplident, (SELECT i.indexrelid::regclass::text FROM pg_index i"
                " WHERE i.indrelid = c.oid AND i.indisreplident) FROM pg_class c WHERE c.relkind = 'r' AND c.oid >= 16384"
                " ORDER BY 1"
            ),
            "settings": self.db.query("SELECT name, setting FROM pg_file_settings ORDER BY 1"),
        }


@pytest.fixture
def site(pg: Database, open_folder: Path) -> Site:
    pg.run(*SHOP)
    return Site(pg, open_folder)


@pytest.fixture
def site18(pg18: Database, open_folder: Path) -> Site:
    pg18.run(*SHOP)
    return Site(pg18, open_folder)


def _imaged(vault: Vault, table: str) -> list[bytes]:
    """Rows of a table in the newest image, as COPY lines."""
    image = vault.index.images[-1]
    (number,) = [r.number for r in vault.schema(image.schema).values() if r.qualified == table]
    rows = []
    for run in image.runs:
        read = pq.read_table(io.BytesIO(vault.read_object(run.object)))
        for relation, row in zip(read["relation"].to_pylist(), read["row"].to_pylist(), strict=True):
            if relation == number:
                rows.append(row)
    return rows


# Looking


def test_a_dry_run_tells_everything_and_changes_nothing(site: Site) -> None:
    before = site.state()
    document = json.loads(site.run(*site.call("--dry-run", "--json")).stdout)
    report = document["report"]
    assert site.state() == before
    assert list(site.folder.iterdir()) == []
    assert report["problems"] == []
    tenants = {t["table"]: t["tenant"] for t in report["tables"]}
    assert tenants["public.orders"] == "column shop_id"
    assert tenants["public.lines"].startswith("through lines_order_id_fkey")
    assert tenants["public.countries"] == "shared"
    assert {i["table"]: i["to"] for i in report["identities"]} == {"public.orders": "FULL", "public.hits": "FULL"}
    kinds = {u["kind"]: u["names"] for u in report["unprotected"]}
    assert kinds["unlogged tables"] == ["public.cache"]
    assert kinds["materialized views"] == ["public.totals"]
    warned = " ".join(w["what"] for w in report["warnings"])
    assert "max_slot_wal_keep_size is -1" in warned


def test_what_was_foreseen_of_identities_is_what_is_done(site18: Site) -> None:
    site18.db.run(
        "CREATE TABLE a (shop_id int NOT NULL, code text NOT NULL, body text, UNIQUE (shop_id, code))",
        "CREATE TABLE b (id int PRIMARY KEY, shop_id int NOT NULL, code text NOT NULL, x int NOT NULL)",
        "CREATE UNIQUE INDEX b_long ON b (shop_id, code, x)",
        "CREATE UNIQUE INDEX b_short ON b (code, shop_id)",
        "CREATE TABLE c (shop_id int NOT NULL, id int NOT NULL, PRIMARY KEY (shop_id, id))",
        "ALTER TABLE c REPLICA IDENTITY NOTHING",
        "CREATE TABLE d (shop_id int NOT NULL, id int NOT NULL UNIQUE, PRIMARY KEY (shop_id, id))",
        "ALTER TABLE d REPLICA IDENTITY USING INDEX d_id_key",
        "CREATE TABLE e (shop_id int PRIMARY KEY)",
        "ALTER TABLE e REPLICA IDENTITY FULL",
        "CREATE TABLE f (shop_id int UNIQUE)",
    )
    foreseen = json.loads(site18.run(*site18.call("--dry-run", "--json")).stdout)["report"]["identities"]
    site18.protect()
    done = dict(
        site18.db.query(
            "SELECT 'public.' || c.relname, CASE c.relreplident WHEN 'd' THEN 'DEFAULT' WHEN 'f' THEN 'FULL'"
            " ELSE 'USING INDEX ' || (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
            " WHERE i.indrelid = c.oid AND i.indisreplident) END"
            " FROM ballast.identity i JOIN pg_class c ON c.oid = i.relation"
        )
    )
    assert {i["table"]: i["to"] for i in foreseen} == done
    assert done["public.b"] == "USING INDEX b_short"
    assert "public.e" not in done


# Protecting


def test_everything_is_in_the_image_or_in_the_stream_while_writers_go_on(site: Site) -> None:
    stop = threading.Event()

    def write(first: int) -> None:
        with psycopg.connect(site.db.dsn, autocommit=True) as conn:
            while not stop.is_set():
                first += 1
                conn.execute("INSERT INTO orders (id, shop_id) VALUES (%s, %s)", (first, first % 20 + 1))
                conn.execute("UPDATE shops SET name = %s WHERE shop_id = %s", (f"n{first}", first % 20 + 1))

    writers = [threading.Thread(target=write, args=(n * 1_000_000,)) for n in (1, 2, 3)]
    for writer in writers:
        writer.start()
    outcome = site.protect()["outcome"]
    stop.set()
    for writer in writers:
        writer.join()
    vault = site.sound()
    assert outcome["did"] == "protected"
    assert {r.qualified for r in vault.schema(1).values()} == TABLES
    imaged = {int(row.split(b"\t")[0]) for row in _imaged(vault, "public.orders")}
    streamed = set()
    with site.db.connect() as conn:
        found = conn.execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('ballast', NULL, NULL, 'proto_version', '1',"
            " 'publication_names', 'ballast')"
        ).fetchall()
        (oid,) = conn.execute("SELECT 'orders'::regclass::oid").fetchone() or (0,)
    for (data,) in found:
        message = pgoutput.decode(data)
        if isinstance(message, pgoutput.Insert) and message.oid == oid:
            assert isinstance(message.new[0], bytes)
            streamed.add(int(message.new[0]))
    assert not imaged & streamed
    assert imaged | streamed == {row[0] for row in site.db.query("SELECT id FROM orders")}
    assert len(_imaged(vault, "public.lines")) == 6000
    assert len(_imaged(vault, "public.visits_26")) == 30


def test_what_protect_leaves_is_what_the_recorder_begins_with(site: Site) -> None:
    outcome = site.protect()["outcome"]
    vault = site.sound()
    found = origin.find(config.load(site.config_path))
    assert format_lsn(found.recorded_until) == outcome["position"]
    ((confirmed,),) = site.db.query("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")
    assert confirmed == outcome["position"]
    baseline = read_baseline(site.state_dir)
    assert baseline is not None
    assert baseline.good_lsn == found.recorded_until
    mapping = vault.index.mapping
    assert mapping is not None
    assert mapping.tenant_column == "shop_id"
    assert mapping.rules["public.orders"] == ByColumn(2)
    assert isinstance(mapping.rules["public.lines"], Via)
    assert mapping.rules["public.countries"] == Shared()
    dump = vault.index.dumps[-1]
    assert b"CREATE TABLE public.orders" in vault.read_object(dump.pre_data)
    assert b"ballast" not in vault.read_object(dump.pre_data) + vault.read_object(dump.post_data)
    assert {s.name for s in vault.index.images[-1].sequences} == {"orders_id_seq"}
    # The application can write to every table.
    site.db.run("DELETE FROM hits", "UPDATE orders SET note = 'y'", "DELETE FROM visits")


def test_again_is_nothing(site: Site) -> None:
    site.protect()
    before, head = site.state(), site.vault().index.head
    text = site.config_path.read_text()
    site.config_path.write_text("# mine\n" + text)
    assert site.protect()["outcome"]["did"] == "already protected"
    assert site.run("protect", site.db.dsn).returncode == 0
    assert site.state() == before
    assert site.vault().index.head == head
    assert site.config_path.read_text() == "# mine\n" + text


def test_the_password_is_not_written(site18: Site) -> None:
    site18.protect(dsn=site18.db.dsn + " password=s3cr3t")
    files = [p for p in site18.folder.rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if b"s3cr3t" in p.read_bytes()]
    assert site18.protect()["outcome"]["did"] == "already protected"


STEPS = [
    "protect.key", "protect.genesis", "protect.installed", "protect.triggers", "protect.identity", "protect.published",
    "protect.begun", "protect.slot", "protect.dumped", "protect.copying:3", "protect.decided", "protect.entry",
    "protect.entry:3", "protect.entry:4", "protect.entry:5", "protect.finished",
]  # fmt: skip


def _killed_and_run_again(site: Site, step: str) -> None:
    site.killed(step, *site.call())
    outcome = site.protect()["outcome"]
    assert outcome["did"] in ("protected", "already protected")
    vault = site.sound()
    assert len(vault.index.timelines) == len(vault.index.images) == 1
    assert len(site.db.query("SELECT FROM pg_replication_slots")) == 1
    assert not vault.index.gaps
    assert len(_imaged(vault, "public.orders")) == 3000
    assert origin.find(config.load(site.config_path)).recorded_until == vault.index.images[0].lsn
    assert read_baseline(site.state_dir) is not None
    assert site.protect()["outcome"]["did"] == "already protected"


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_run_completes_it(site18: Site, step: str) -> None:
    _killed_and_run_again(site18, step)


@pytest.mark.parametrize("step", ["protect.published", "protect.slot", "protect.entry:2"])
def test_the_same_on_the_oldest_server(pg16: Database, open_folder: Path, step: str) -> None:
    pg16.run(*SHOP)
    _killed_and_run_again(Site(pg16, open_folder), step)


def test_a_table_created_in_a_transaction_under_way_can_be_written_to(site18: Site) -> None:
    late = site18.db.connect(autocommit=False)
    late.execute("SET event_triggers = off" if site18.db.major >= 17 else "SELECT 1")
    late.execute("CREATE TABLE late (shop_id int, body text)")
    ready = threading.Timer(4.0, late.commit)
    ready.start()
    site18.protect()
    ready.join()
    site18.db.run("INSERT INTO late VALUES (1, 'x')", "DELETE FROM late")
    assert "public.late" in {r.qualified for r in site18.sound().schema(1).values()}


# Later runs


def test_a_lost_slot_begins_anew_with_a_gap(site: Site) -> None:
    first = site.protect()["outcome"]
    site.db.run("SELECT pg_drop_replication_slot('ballast')", "DELETE FROM shops WHERE false", "DELETE FROM hits")
    again = site.protect()["outcome"]
    assert again["did"] == "begun anew"
    vault = site.sound()
    (gap,) = vault.index.gaps.values()
    assert (format_lsn(gap.from_lsn), format_lsn(gap.to_lsn or 0)) == (first["position"], again["position"])
    assert gap.relations is None
    assert origin.find(config.load(site.config_path)).recorded_until == gap.to_lsn
    assert vault.schema(1) == vault.schema(2)
    assert site.protect()["outcome"]["did"] == "already protected"
    assert _imaged(vault, "public.hits") == []


@pytest.mark.parametrize("step", ["protect.slot", "protect.entry:4", "protect.finished"])
def test_beginning_anew_can_be_killed_as_well(site18: Site, step: str) -> None:
    site18.protect()
    site18.db.run("SELECT pg_drop_replication_slot('ballast')")
    site18.killed(step, *site18.call())
    site18.protect()
    vault = site18.sound()
    assert len(vault.index.images) == 2
    assert len(vault.index.gaps) == 1
    assert site18.protect()["outcome"]["did"] == "already protected"


def test_what_only_the_spool_holds_must_be_sealed_first(site18: Site) -> None:
    site18.protect()
    known = origin.find(config.load(site18.config_path))
    spool = Spool(site18.state_dir / "spool", vault_id=known.vault_id, timeline=known.timeline)
    at = spool.recover(known.recorded_until)
    spool.append(b"\0\0\0\1" + bytes(8) + b"C", at + 1)
    spool.sync()
    spool.close()
    site18.db.run("SELECT pg_drop_replication_slot('ballast')")
    said = site18.refused(*site18.call())
    assert "are not in the vault yet" in said
    assert "cannot be sealed" in said
    assert site18.db.query("SELECT FROM pg_replication_slots") == []


def test_another_rule_for_a_table_begins_anew(site18: Site) -> None:
    site18.db.run("CREATE TABLE extra (id int PRIMARY KEY, shop_id int NOT NULL, owner int NOT NULL)")
    site18.protect()
    text = site18.config_path.read_text()
    site18.config_path.write_text(text.replace("[tenants.tables]", '[tenants.tables]\n"public.extra" = "owner"'))
    again = site18.protect()["outcome"]
    assert again["did"] == "begun anew"
    assert "public.extra has another tenant rule" in again["why"][0]
    vault = site18.sound()
    assert vault.index.mapping is not None
    assert vault.index.mapping.rules["public.extra"] == ByColumn(3)
    (extra,) = [r for r in vault.schema(2).values() if r.qualified == "public.extra"]
    assert extra.tenant == ByColumn(3)


@pytest.mark.parametrize(
    "harm",
    [
        "DROP PUBLICATION ballast",
        "ALTER PUBLICATION ballast SET (publish = 'insert')",
        "ALTER EVENT TRIGGER ballast_ddl DISABLE",
        "DROP SCHEMA ballast CASCADE",
    ],
)
def test_what_somebody_changed_is_put_right(site: Site, harm: str) -> None:
    site.protect()
    site.db.run(harm)
    assert site.protect()["outcome"]["did"] == "repaired"
    ((all_tables, operations),) = site.db.query(
        "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication"
    )
    assert all_tables
    assert operations
    assert site.db.query("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1") == [
        ("ballast_ddl", "A"), ("ballast_drop", "A"), ("ballast_rewrite", "A")
    ]  # fmt: skip
    site.sound()
    assert site.protect()["outcome"]["did"] == "already protected"


def test_another_server_is_another_timeline(own_server: NewServer, open_folder: Path) -> None:
    servers = [own_server(), own_server()]
    for server in servers:
        server.start()
    databases = [Database(server, 18, "postgres") for server in servers]
    site = Site(databases[0], open_folder)
    for database in databases:
        database.run(*SHOP)
    site.protect()
    databases[1].run("DROP TABLE lines")
    again = site.protect(dsn=databases[1].dsn)["outcome"]
    assert (again["did"], again["timeline"]) == ("another timeline", 2)
    vault = site.sound()
    assert vault.index.timelines[2].parent is None
    before, after = ({r.number for r in vault.schema(v).values()} for v in (1, 2))
    assert not before & after
    assert config.load(site.config_path).dsn == databases[1].dsn
    assert origin.find(config.load(site.config_path)).timeline == 2


# Beside a recorder


def test_beside_a_recorder_nothing_it_stands_on_is_changed(site18: Site) -> None:
    site18.protect()
    with health.only_one(site18.state_dir):
        assert site18.protect()["outcome"]["did"] == "already protected"
        assert "Stop it first" in site18.refused("unprotect")
        site18.db.run("SELECT pg_drop_replication_slot('ballast')")
        assert "recording must begin anew" in site18.refused(*site18.call())


def test_a_recorder_at_work_is_no_reason_to_begin_anew(site: Site) -> None:
    site.protect("--acknowledge", "off")
    with (site.folder / "recorder.log").open("wb") as log:
        command = [sys.executable, "-m", "ballast.cli", "record", "--config", str(site.config_path)]
        recorder = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            site.db.run("UPDATE shops SET name = name || '+'")
            ((confirmed,),) = site.db.query("SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots")
            if confirmed > site.vault().index.images[0].lsn:
                break
            assert time.monotonic() < deadline, (site.folder / "recorder.log").read_text()
            time.sleep(0.2)
        assert site.protect("--acknowledge", "off")["outcome"]["did"] == "already protected"
    finally:
        recorder.terminate()
        recorder.wait(60)
    assert site.protect()["outcome"]["did"] == "already protected"
    site.sound()


# Undoing


@pytest.mark.parametrize("role", ["superuser", "owner"])
def test_unprotect_leaves_nothing(site: Site, role: str) -> None:
    dsn = site.db.dsn
    if role == "owner":
        dsn = _owner(site)
    before = site.state()
    site.protect(dsn=dsn)
    if role == "superuser":
        with arming.control_connection(site.db.dsn, "test") as conn:
            arming.arm(conn, site.state_dir, "ballast")
    done = site.run("unprotect")
    assert done.returncode == 0, done.stderr
    assert "not protected any more" in done.stdout
    assert site.state() == before
    assert site.vault_path.exists()
    assert "nothing to be undone" in site.run("unprotect").stdout
    assert site.protect(dsn=dsn)["outcome"]["did"] == "begun anew"


def test_another_recorders_things_stay(site18: Site, tmp_path: Path) -> None:
    second = Site(site18.db, tmp_path)
    site18.protect()
    assert second.protect("--slot", "ballast_b")["outcome"]["did"] == "protected"
    done = site18.run("unprotect")
    assert "another recorder" in done.stdout
    assert site18.db.query("SELECT slot_name FROM pg_replication_slots") == [("ballast_b",)]
    assert second.protect()["outcome"]["did"] == "already protected"


# Refusals


def _owner(site: Site) -> str:
    """A role that owns everything and is no superuser."""
    name = f"shop_owner_{site.db.name[-20:]}"
    site.db.run(
        f"CREATE ROLE {name} LOGIN REPLICATION",
        f'GRANT CREATE ON DATABASE "{site.db.name}" TO {name}',
        f"ALTER SCHEMA depot OWNER TO {name}",
        *(f"ALTER TABLE {table} OWNER TO {name}" for table in (*sorted(TABLES), "public.visits", "public.cache")),
        f"ALTER MATERIALIZED VIEW totals OWNER TO {name}",
    )
    return site.db.dsn_as(name)


def test_an_owner_who_may_replicate_suffices(site: Site) -> None:
    document = site.protect(dsn=_owner(site))
    assert document["outcome"]["did"] == "protected"
    warned = " ".join(w["what"] for w in document["report"]["warnings"])
    assert "no superuser" in warned
    assert "may not make production wait" in warned
    published = {f"{s}.{t}" for s, t in site.db.query("SELECT schemaname, tablename FROM pg_publication_tables")}
    assert published == {*TABLES, "ballast.canary"}
    site.sound()
    site.db.run(
        "CREATE TABLE fresh (shop_id int PRIMARY KEY)", f"ALTER TABLE fresh OWNER TO shop_owner_{site.db.name[-20:]}"
    )
    assert site.protect(dsn=_again(site))["outcome"]["did"] == "repaired"
    published = {t for (t,) in site.db.query("SELECT tablename FROM pg_publication_tables")}
    assert "fresh" in published


def _again(site: Site) -> str:
    return site.db.dsn_as(f"shop_owner_{site.db.name[-20:]}")


def test_each_missing_right_is_named_with_what_to_do(site18: Site) -> None:
    site18.db.run("CREATE ROLE nobody_much LOGIN")
    said = site18.refused(*site18.call(dsn=site18.db.dsn_as("nobody_much")))
    assert 'ALTER ROLE "nobody_much" REPLICATION' in said
    assert "GRANT CREATE ON DATABASE" in said
    assert "does not own" in said
    assert not site18.config_path.exists()


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("host=127.0.0.1 port=1 dbname=x", "No connection to the server"),
        ("postgresql://127.0.0.1:1:2/x", "invalid integer value"),
        ("nonsense", "cannot be understood"),
    ],
)
def test_a_wrong_dsn(tmp_path: Path, pg18: Database, dsn: str, words: str) -> None:
    assert words in Site(pg18, tmp_path).refused("protect", dsn, "--vault", "v", "--tenant-column", "t")


def test_a_wrong_database_name(site18: Site) -> None:
    assert 'database "nowhere" does not exist' in site18.refused(*site18.call(dsn=site18.db.server.dsn("nowhere")))


def test_wal_level_must_be_logical(own_server: NewServer, open_folder: Path) -> None:
    server = own_server(settings={"wal_level": "replica"})
    server.start()
    site = Site(Database(server, 18, "postgres"), open_folder)
    said = site.refused(*site.call()[:-2])
    assert "wal_level is replica" in said
    assert "ALTER SYSTEM SET wal_level = 'logical'" in said


def test_tables_whose_tenant_nobody_can_tell(site18: Site) -> None:
    site18.db.run(
        "CREATE TABLE moves (id int PRIMARY KEY, from_order bigint NOT NULL REFERENCES orders,"
        " to_order bigint NOT NULL REFERENCES orders)"
    )
    said = site18.refused(*site18.call())
    assert "refuses to guess" in said
    assert "[tenants.via]" in said
    assert not site18.config_path.exists()
    # What it asks for can be written before anything is protected.
    site18.config_path.write_text(
        '[tenants.via]\n"public.moves" = { columns = ["to_order"], parent = "public.orders", parent_columns = ["id"] }\n'
    )
    assert site18.protect()["outcome"]["did"] == "protected"
    mapping = site18.vault().index.mapping
    assert mapping is not None
    assert mapping.rules["public.moves"].__class__ is Via
    assert config.load(site18.config_path).tenants.shared == ("public.countries",)


def test_an_unknown_tenant_column(site18: Site) -> None:
    said = site18.refused("protect", site18.db.dsn, "--vault", "v", "--tenant-column", "shopid")
    assert 'table "public.shops" has no tenant column' in said
    assert "[tenants.tables]" in said


def test_a_slot_of_somebody_else_is_left_alone(site18: Site) -> None:
    site18.db.run("SELECT pg_create_logical_replication_slot('ballast', 'pgoutput')")
    assert "was not made from" in site18.refused(*site18.call())
    assert len(site18.db.query("SELECT FROM pg_replication_slots")) == 1


def test_a_publication_of_somebody_else_is_left_alone(site18: Site) -> None:
    site18.db.run("CREATE PUBLICATION ballast FOR TABLE shops")
    assert "not Ballast's" in site18.refused(*site18.call())


def test_a_vault_with_another_key_is_not_adopted(site18: Site) -> None:
    site18.protect()
    said = site18.refused(*site18.call("--state-dir", "elsewhere", "--config", "other.toml"))
    assert "its signing key is not in" in said


def test_contradictions_between_the_file_and_the_options(site18: Site) -> None:
    site18.protect()
    assert "--slot says ballast_2" in site18.refused("protect", site18.db.dsn, "--slot", "ballast_2")


def test_an_address_that_no_vault_can_have_is_said_anew_without_ado(site18: Site) -> None:
    (site18.folder / "file").write_text("in the way")
    assert "file/vault" in site18.refused(*site18.call("--vault", "file/vault"))
    assert "no address" in site18.refused(*site18.call("--vault", "s3:/vault"))
    assert not (site18.folder / "s3:").exists()
    assert not site18.config_path.exists()
    site18.protect()
    site18.sound()


def test_rows_of_a_subscription_are_named_as_not_recorded(pg18: Database) -> None:
    pg18.run(
        "CREATE SUBSCRIPTION elsewhere CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    )
    report = examine.examine(pg18.dsn, Tenants(column="shop"), checks.Wanted("ballast", "ballast", "spool")).report
    assert any("elsewhere" in finding.what for finding in report.warnings)
    pg18.run("DROP SUBSCRIPTION elsewhere")


def test_unprotect_from_elsewhere_leaves_anothers_protection(site18: Site, tmp_path: Path) -> None:
    site18.protect()
    elsewhere = config.load(site18.config_path)
    elsewhere = msgspec.structs.replace(elsewhere, state_dir=tmp_path / "elsewhere")
    with pytest.raises(ProtectionError, match="was not made from"):
        unprotect(elsewhere, site18.db.dsn)
    assert site18.db.query("SELECT slot_name FROM pg_replication_slots") == [("ballast",)]
    assert site18.db.query("SELECT count(*) FROM pg_event_trigger") == [(3,)]
