"""Images of real databases: every row under its tenant, byte for byte as COPY shows it, in bounded memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from ballast.errors import ProtectionError
from ballast.postgres import read_catalog
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import image as image_module
from ballast.vault import spill
from ballast.vault.batch import Batch
from ballast.vault.config import Tenants
from ballast.vault.image import Taken, read_sequences, take_image
from ballast.vault.lineage import UNKNOWN, Lineage, parent_space
from ballast.vault.read import rows, tenants
from ballast.vault.records import SHARED_BUCKET, Cut, Genesis, Image, Relation, RunRef, SchemaVersion, Timeline
from ballast.vault.registry import Registry
from ballast.vault.run import open_run, sort_rows
from ballast.vault.signing import KEY_FILE, create_key
from ballast.vault.tables import tables_of
from ballast.vault.vault import Vault
from tests.fix_postgres import Database

pytestmark = pytest.mark.any_version

TENANTS = ("plain", "tab\tbed", "two\nlines", "back\\slash", "\\N", "ü", "")

SHOPS = """
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE nothing ();
CREATE TABLE shops (shop text PRIMARY KEY, title text);
CREATE TABLE products (
    gone int, shop text REFERENCES shops, id int, name text, price numeric(10,2),
    double numeric GENERATED ALWAYS AS (price * 2) STORED, "odd ""name" jsonb, PRIMARY KEY (shop, id));
ALTER TABLE products DROP COLUMN gone;
CREATE TABLE notes (shop text, body text);
ALTER TABLE notes REPLICA IDENTITY FULL;
CREATE TABLE orders (id bigint PRIMARY KEY, shop text REFERENCES shops, placed timestamptz);
CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id int REFERENCES orders, what text);
CREATE TABLE parcels (line bigint REFERENCES order_lines, number int, PRIMARY KEY (line, number));
CREATE TABLE events (shop text, day date, id int, PRIMARY KEY (shop, day, id)) PARTITION BY RANGE (day);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE events_new (gone int, id int NOT NULL, day date NOT NULL, shop text NOT NULL);
ALTER TABLE events_new DROP COLUMN gone;
ALTER TABLE events ATTACH PARTITION events_new FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE tickets (shop text, at int, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE tickets_1 PARTITION OF tickets FOR VALUES FROM (0) TO (100);
CREATE TABLE tickets_2 (gone int, id int NOT NULL, at int NOT NULL, shop text);
ALTER TABLE tickets_2 DROP COLUMN gone;
ALTER TABLE tickets ATTACH PARTITION tickets_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE replies (id int PRIMARY KEY, ticket_at int, ticket int, body text,
    FOREIGN KEY (ticket_at, ticket) REFERENCES tickets (at, id));
CREATE TABLE secrets (shop text, id int, PRIMARY KEY (shop, id));
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON secrets USING (false);
INSERT INTO countries VALUES ('de', 'Deutschland'), ('cn', '中国');
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
"""

FILL = """
INSERT INTO shops SELECT s, s || E'\\t' || chr(7) FROM unnest(%(tenants)s::text[]) s;
INSERT INTO products (shop, id, name, price, "odd ""name")
    SELECT s, i, CASE WHEN i %% 7 > 0 THEN s || i END, i * 1.5, jsonb_build_object('n', repeat(E'\\n', i %% 3))
      FROM unnest(%(tenants)s::text[]) s, generate_series(1, 30) i;
INSERT INTO notes SELECT s, b FROM unnest(%(tenants)s::text[] || ARRAY[NULL]) s, unnest(ARRAY['x', 'x', NULL, E'\\\\']) b;
INSERT INTO orders SELECT n * 100 + i, s, to_timestamp(i)
    FROM unnest(%(tenants)s::text[] || ARRAY[NULL]) WITH ORDINALITY AS o (s, n), generate_series(1, 5) i;
INSERT INTO order_lines SELECT id * 10 + i, id, repeat('w', i) FROM orders, generate_series(1, 3) i;
INSERT INTO order_lines VALUES (1, NULL, 'of no order');
INSERT INTO parcels SELECT id, i FROM order_lines, generate_series(1, 2) i;
INSERT INTO events SELECT s, date '2025-12-30' + i, i FROM unnest(%(tenants)s::text[]) s, generate_series(1, 4) i;
INSERT INTO tickets SELECT s, n * 25, i FROM unnest(%(tenants)s::text[]) WITH ORDINALITY AS o (s, n), generate_series(1, 3) i;
INSERT INTO replies SELECT at * 10 + id, at, id, 'r' FROM tickets;
INSERT INTO secrets SELECT s, 1 FROM unnest(%(tenants)s::text[]) s
"""

ORDERS_OF = "SELECT id FROM orders WHERE shop IS NOT DISTINCT FROM {t}"
LINES_OF = (
    "SELECT l.id FROM order_lines l LEFT JOIN orders o ON o.id = l.order_id WHERE o.shop IS NOT DISTINCT FROM {t}"
)
WHOSE = {
    "countries": "{t} IS NULL",
    "nothing": "{t} IS NULL",
    "order_lines": f"id IN ({LINES_OF})",
    "parcels": f"line IN ({LINES_OF})",
    "replies": "(ticket_at, ticket) IN (SELECT at, id FROM tickets WHERE shop IS NOT DISTINCT FROM {t})",
}
"""Of which rows a tenant is, in SQL; every other table has a column that says so."""

RULES = Tenants(column="shop", shared=("public.countries", "public.nothing"))
State = dict[str, list[bytes]]
"""Table to its lines."""


@pytest.fixture
def shops(pg: Database) -> Database:
    """A database with every way in which a row can belong to somebody."""
    with psycopg.connect(pg.dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        conn.execute(SHOPS)
        conn.execute(FILL.encode(), {"tenants": list(TENANTS)})
    return pg


class Imaging:
    """A vault, and one snapshot of the database to take images of."""

    def __init__(self, folder: Path, conn: psycopg.Connection[Any], lsn: int, tenants: Tenants) -> None:
        self.conn, self.lsn = conn, lsn
        self.state, self.scratch = folder / "state", folder / "scratch"
        key = create_key(self.state / KEY_FILE)
        self.vault = Vault.create(folder / "vault", Genesis(1, "v", key.public, 8, "test"), state_dir=self.state)
        registry = Registry(tenants)
        registry.read(tables_of(read_catalog(conn)), "test")
        self.relations = {relation.name: relation for relation in registry.relations}
        self.vault.append(Timeline(1, "1", "shop", conn.info.server_version, "s", "p", lsn))
        with self.batch() as batch:
            ref = batch.put("relations", "json", registry.encode())
            self.vault.append(SchemaVersion(1, 1, lsn, 0, ref, "test"))
            batch.done()

    def batch(self) -> Batch:
        return Batch(self.vault.store, self.state, "image", 1, self.lsn, self.lsn)

    def take(self, *names: str, **options: Any) -> Taken:
        """An image of these tables (none: of all), in the ledger."""
        relations = [self.relations[name] for name in names] or list(self.relations.values())
        with self.batch() as batch:
            taken = take_image(
                self.conn,
                relations,
                timeline=1,
                lsn=self.lsn,
                schema=1,
                buckets=8,
                batch=batch,
                scratch=self.scratch,
                **options,
            )
            numbers = tuple(r.number for r in relations) if names else None
            self.vault.append(Image(1, self.lsn, 1, numbers, taken.runs, (), "test"))
            batch.done()
        return taken

    def recorded(self, tenant: str | None, *names: str) -> State:
        """A tenant's rows in the vault."""
        found: State = {}
        numbers = [self.relations[name].number for name in names] or None
        for chunk in rows(self.vault, Cut(1, self.lsn), tenant=tenant, relations=numbers):
            found.setdefault(chunk.relation.name, []).extend(chunk.lines.to_pylist())
        return {name: sorted(lines) for name, lines in found.items()}

    def shown(self, tenant: str | None, *names: str) -> State:
        """A tenant's rows as the server shows them under the same snapshot."""
        found = {}
        for name, relation in self.relations.items():
            if names and name not in names:
                continue
            whose = WHOSE.get(name, "shop IS NOT DISTINCT FROM {t}").format(t=sql.Literal(tenant).as_string(self.conn))
            lines = copied(self.conn, relation, whose)
            if lines:
                found[name] = sorted(lines)
        return found


def lines_in(imaging: Imaging, run: RunRef, tenant: str | None) -> list[bytes]:
    return [line for rows in open_run(imaging.vault.store, run).slices({tenant}) for line in rows["row"].to_pylist()]


def copied(conn: psycopg.Connection[Any], relation: Relation, whose: str) -> list[bytes]:
    by_number = {c.attnum: sql.Identifier(c.name) for c in relation.columns}
    columns = sql.SQL(", ").join(by_number[attnum] for attnum in relation.row_columns)
    conn.execute("SET search_path = public")
    select = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT")
    with (
        conn.cursor() as cursor,
        cursor.copy(select.format(columns, sql.Identifier(relation.name), sql.SQL(whose))) as copy,
    ):
        return b"".join(copy).splitlines(keepends=True)


@pytest.fixture
def imaging(shops: Database, tmp_path: Path) -> Iterator[Imaging]:
    """A snapshot of `shops`, which is changed right after it."""
    with snapshot_at_cut(shops.dsn) as (conn, lsn):
        shops.run("INSERT INTO countries VALUES ('later', 'later')", "DELETE FROM replies")
        yield Imaging(tmp_path, conn, lsn, RULES)


def test_every_row_comes_back_under_its_tenant(imaging: Imaging) -> None:
    progress: dict[str, int] = {}
    taken = imaging.take(progress=lambda table, more: progress.update({table: progress.get(table, 0) + more}))

    assert sum(run.rows for run in taken.runs) == taken.rows == sum(progress.values())
    assert progress["public.products"] == 30 * len(TENANTS)
    assert set(tenants(imaging.vault, Cut(1, imaging.lsn))) == set(TENANTS)
    whole = {tenant: imaging.recorded(tenant) for tenant in (*TENANTS, None)}
    assert whole == {tenant: imaging.shown(tenant) for tenant in (*TENANTS, None)}
    assert taken.bytes == sum(len(line) for state in whole.values() for lines in state.values() for line in lines)
    assert {"notes", "replies", "parcels", "secrets", "events_new"} <= whole["plain"].keys()
    assert whole[None].keys() == {"countries", "nothing", "notes", "orders", "order_lines", "parcels"}
    assert not list(imaging.scratch.iterdir())


def test_more_rows_than_fit_into_memory_are_merged_from_sorted_pieces(
    imaging: Imaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIECE_BYTES", 4000), ("SLICE_BYTES", 700), ("FAN_IN", 3), ("GROUP_BYTES", 100_000)):
        monkeypatch.setattr(spill, name, value)
    monkeypatch.setattr(image_module, "RUN_BYTES", 3_000)

    taken = imaging.take()

    assert len(taken.runs) > 4
    for tenant in (*TENANTS, None):
        assert imaging.recorded(tenant) == imaging.shown(tenant)
    for ref in taken.runs:
        held = pa.concat_tables(open_run(imaging.vault.store, ref).batches(1000))
        assert held.equals(sort_rows(held))
        assert (ref.bucket == SHARED_BUCKET) == (ref.max_tenant is None)


def test_parents_outside_of_the_image_still_say_whose_rows_these_are(imaging: Imaging) -> None:
    taken = imaging.take("parcels", "replies", known=list(imaging.relations.values()))

    for tenant in (*TENANTS, None):
        found = [row for run in taken.runs for row in lines_in(imaging, run, tenant)]
        shown = imaging.shown(tenant, "parcels", "replies")
        assert sorted(found) == sorted(line for lines in shown.values() for line in lines)
    with pytest.raises(ValueError, match=r"parent .* of public\.parcels"):
        imaging.take("parcels")


def test_the_lineage_knows_every_parent_afterwards(imaging: Imaging, tmp_path: Path) -> None:
    lineage = Lineage(tmp_path / "lineage")

    imaging.take(lineage=lineage)

    orders, lines, tickets = (imaging.relations[name] for name in ("orders", "order_lines", "tickets_2"))
    second = TENANTS[1]
    for line in imaging.shown(second, "orders")["orders"]:
        order = line.split(b"\t")[0]
        assert lineage.find(parent_space(orders.oid, (1,)), order) == second
        assert lineage.find(parent_space(lines.oid, (1,)), order + b"3") == second
    assert lineage.find(parent_space(tickets.root_oid, (2, 3)), b"100\t2") == TENANTS[3]
    assert lineage.find(parent_space(tickets.root_oid, (2, 3)), b"100\t99") is UNKNOWN
    assert lineage.find(imaging.relations["replies"].oid, b"252") == TENANTS[0]
    assert lineage.cut is None


def test_a_table_that_was_truncated_after_the_snapshot_is_refused(imaging: Imaging, shops: Database) -> None:
    shops.run("TRUNCATE notes")

    with pytest.raises(ProtectionError, match=r"public\.notes was truncated or rewritten"):
        imaging.take()

    assert not list(imaging.scratch.iterdir())


def test_a_role_that_does_not_see_every_row_is_told_so(shops: Database, tmp_path: Path) -> None:
    shops.run("CREATE ROLE reader LOGIN IN ROLE pg_read_all_data")
    with snapshot(shops.dsn_as("reader")) as conn:
        imaging = Imaging(tmp_path, conn, 100, RULES)
        with pytest.raises(ProtectionError, match="BYPASSRLS"):
            imaging.take("secrets")


def test_stopping_half_way_leaves_nothing_and_the_connection_can_be_used(pg: Database, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(table: str, more: int) -> None:
        raise Stop

    pg.run("CREATE TABLE wide AS SELECT 1 AS shop, repeat('x', 1000) FROM generate_series(1, 30000)")
    with snapshot(pg.dsn) as conn:
        imaging = Imaging(tmp_path, conn, 100, RULES)
        with pytest.raises(Stop), conn.transaction():
            imaging.take(progress=stop)

        assert conn.execute("SELECT count(*) FROM public.wide").fetchone() == (30000,)
    assert not list(imaging.scratch.iterdir())


def test_sequences_are_read_but_our_own(pg: Database) -> None:
    pg.run(
        "CREATE SCHEMA ballast",
        "CREATE SEQUENCE ballast.ours",
        "CREATE SEQUENCE fresh INCREMENT 5 CACHE 7",
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, body text)",
        "INSERT INTO t (body) VALUES ('a'), ('b')",
        "CREATE ROLE poor LOGIN",
        "GRANT SELECT ON SEQUENCE fresh TO poor",
    )
    found = {s.name: (s.last_value, s.is_called, s.increment, s.cache) for s in read_sequences(pg.connect())}
    assert found == {"fresh": (1, False, 5, 7), "t_id_seq": (2, True, 1, 1)}
    assert [s.name for s in read_sequences(pg.connect(user="poor"))] == ["fresh"]


_MEASURED = """
import sys
from pathlib import Path
import msgspec
from ballast.postgres.session import connect
from ballast.vault.batch import Batch
from ballast.vault.image import take_image
from ballast.vault.records import Relation
from ballast.vault.store import open_store
dsn, folder = sys.argv[1], Path(sys.argv[2])
relations = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Relation])
(folder / "vault").mkdir()
with connect(dsn) as conn, conn.transaction():
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    with Batch(open_store(folder / "vault"), folder / "state", "image", 1, 1, 1) as batch:
        taken = take_image(conn, relations, timeline=1, lsn=1, schema=1, buckets=64, batch=batch, scratch=folder / "scratch")
# Not ru_maxrss: that counts what the parent had when it forked.
peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(taken.rows, taken.bytes, len(taken.runs), int(peak.split()[1]) >> 10)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("whose", ["1", "i"], ids=["one_tenant", "many_tenants"])
def test_a_large_tenant_does_not_need_its_size_in_memory(pg18: Database, tmp_path: Path, whose: str) -> None:
    pg18.run(
        "CREATE UNLOGGED TABLE big (shop int, id int, body text, PRIMARY KEY (shop, id))",
        f"INSERT INTO big SELECT {whose}, i, repeat(md5(i::text), 8) FROM generate_series(1, 800000) i",
        "ALTER TABLE big SET LOGGED",
    )
    registry = Registry(Tenants(column="shop"))
    with psycopg.connect(pg18.dsn) as conn:
        registry.read(tables_of(read_catalog(conn)), "test")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, pg18.dsn, str(tmp_path)],
        input=msgspec.json.encode(registry.relations),
        capture_output=True,
        check=True,
    )
    count, size, runs, resident_mb = map(int, done.stdout.split())
    assert count == 800_000
    assert size > 200 << 20
    assert runs > 1
    assert resident_mb <= 350


@contextmanager
def snapshot(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """For roles that may not make a slot."""
    from ballast.postgres.session import connect

    with connect(dsn) as conn, conn.transaction(force_rollback=True):
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield conn
