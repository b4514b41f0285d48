"""The vault's format is enough: DuckDB and psql alone rebuild a tenant, by the commands of `docs/vault-format.md`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ballast.postgres import tool
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from tests.fix_descent import Recovered
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Look, Protected, table_rows, tenant_of

DOCS = Path(__file__).parents[2] / "docs"
# The library has the engine that the command line has; it must know nothing of Ballast.
DUCKDB = """
import sys, duckdb
vault, tenant, timeline, cut, script = sys.argv[1:]
con = duckdb.connect()
tenant = "NULL" if tenant == "(shared)" else "'" + tenant + "'"
con.execute(f"SET VARIABLE vault = '{vault}'; SET VARIABLE tenant = {tenant}; SET VARIABLE timeline = {timeline}; SET VARIABLE cut = {cut}")
con.execute(open(script).read())
assert "ballast" not in sys.modules
"""


def psql(dsn: str, file: Path) -> None:
    done = subprocess.run(
        [str(tool("psql", 18)), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def rebuild(protected: Protected, look: Look, tenant: str, target: str, folder: Path) -> None:
    """The page's commands: this tenant's rows, then those that are shared, between the two halves of the structure."""
    for n, whose in enumerate((tenant, "(shared)")):
        here = folder / f"{tenant}{n}"
        here.mkdir(parents=True)
        at = (str(look.cut.timeline), str(look.cut.lsn))
        subprocess.run(
            [sys.executable, "-c", DUCKDB, protected.config.vault, whose, *at, str(DOCS / "rebuild-tenant.sql")],
            cwd=here, check=True,
        )  # fmt: skip
        before, after = (here / "structure.txt").read_text().splitlines()
        if n == 0:
            psql(target, Path(before))
        psql(target, here / "rows.sql")
    psql(target, Path(after))


@pytest.mark.timeout(240)
def test_a_tenant_is_rebuilt_with_duckdb_and_psql_alone(
    pg18: Database, own_server: NewServer, new_protected: Callable[..., Protected], tmp_path: Path
) -> None:
    pg18.run(
        "CREATE TABLE kind (id int PRIMARY KEY, name text)", "INSERT INTO kind VALUES (1, 'a'), (2, E'b\\tc')",
        "CREATE TABLE item (shop text, id int, kind int REFERENCES kind, body text, PRIMARY KEY (shop, id))",
        "CREATE TABLE log (shop text, line text)", "CREATE TABLE gone (shop text, id int PRIMARY KEY)",
        "CREATE INDEX ON item (kind)",
        "INSERT INTO item SELECT 'shop ' || g % 3, g, 1 + g % 2, repeat(md5(g::text), 300) FROM generate_series(1, 60) g",
        "INSERT INTO log SELECT 'shop ' || g % 3, 'same' FROM generate_series(1, 9) g",
    )  # fmt: skip
    protected = new_protected(pg18, Tenants(column="shop", shared=("public.kind",)))
    try:
        protected.protect()
        protected.start()
        for statement in (
            "INSERT INTO gone SELECT 'shop 1', g FROM generate_series(1, 5) g",
            "UPDATE item SET kind = 2 WHERE id % 4 = 0",
            "UPDATE item SET id = id + 1000, body = E'moved\\n\\\\.' WHERE id % 10 = 0",
            "DELETE FROM item WHERE id % 7 = 0",
            "DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY shop)",
            "TRUNCATE gone",
            "INSERT INTO gone VALUES ('shop 1', 9), ('shop 2', 10)",
            "ALTER TABLE item ADD COLUMN price numeric DEFAULT 9.90",
            "INSERT INTO item VALUES ('shop 1', 5000, 1, 'new', NULL), ('shop 2', 5001, 1, NULL, 1)",
            "UPDATE item SET price = 5 WHERE id = 4",
        ):
            pg18.run(statement)
        look = protected.look()
        pg18.run("DELETE FROM item")
        protected.sealed(look.cut)
        protected.wishes_granted()
        vault = protected.vault()
        relations = {r.qualified: r for r in vault.relations_at(look.cut).values()}
        server = own_server()
        server.start()
        for number, tenant in enumerate(("shop 1", "shop 2")):
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE rebuilt{number}")  # type: ignore[arg-type]
            target = server.dsn(f"rebuilt{number}")
            rebuild(protected, look, tenant, target, tmp_path)
            with psycopg.connect(target) as conn:
                found = table_rows(conn)
            assert found["public.kind"] == look.rows["public.kind"]
            for table in ("public.item", "public.log", "public.gone"):
                expected = [line for line in look.rows[table] if tenant_of(line, relations[table]) == tenant]
                assert found[table] == expected, table
    finally:
        protected.end()


@pytest.mark.timeout(240)
def test_a_tenant_is_rebuilt_across_a_fork(
    own_server: NewServer, new_protected: Callable[..., Protected], tmp_path: Path
) -> None:
    """Parent and child timeline, positions that begin low again, a table that was imaged anew, and a lost side branch."""
    first, second, third = (own_server() for _ in range(3))
    for server in (first, second, third):
        server.start()
    db = Database(first, 18, "postgres")
    db.run(
        "CREATE TABLE kind (id int PRIMARY KEY, name text)", "INSERT INTO kind VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE item (shop text, id int, kind int REFERENCES kind, body text, PRIMARY KEY (shop, id))",
        "CREATE TABLE log (shop text, line text)", "CREATE TABLE gone (shop text, id int PRIMARY KEY)",
        "INSERT INTO item SELECT 'shop ' || g % 3, g, 1 + g % 2, repeat(md5(g::text), 300) FROM generate_series(1, 60) g",
        "INSERT INTO log SELECT 'shop ' || g % 3, 'same' FROM generate_series(1, 9) g",
        "INSERT INTO gone SELECT 'shop 1', g FROM generate_series(1, 5) g",
    )  # fmt: skip
    protected = new_protected(db, Tenants(column="shop", shared=("public.kind",)))
    try:
        protected.protect()
        protected.start()
        db.run("UPDATE item SET kind = 2 WHERE id % 4 = 0", "DELETE FROM log WHERE ctid = '(0,1)'")
        common = protected.look()
        db.run("DELETE FROM item", "TRUNCATE log", "CREATE TABLE side (shop text PRIMARY KEY)")
        lost = protected.look()
        protected.sealed(lost.cut)
        protected.wishes_granted()
        protected.stop()
        first.discard()
        recovered = Recovered(protected, Database(second, 18, "postgres"), show(common.cut))
        recovered.everything()
        recovered.to.run("UPDATE kind SET name = 'imaged anew' WHERE id = 2")
        recovered.protect()
        protected.start()
        recovered.to.run(
            "UPDATE item SET kind = 1 WHERE id % 8 = 0",
            "DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log GROUP BY shop)",
            "TRUNCATE gone", "INSERT INTO gone VALUES ('shop 1', 9)",
            "INSERT INTO item VALUES ('shop 1', 5000, 1, 'new')",
        )  # fmt: skip
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        relations = {r.qualified: r for r in protected.vault().relations_at(look.cut).values()}
        for number, seen in enumerate((look, common)):
            with psycopg.connect(third.dsn(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE rebuilt{number}")  # type: ignore[arg-type]
            rebuild(protected, seen, "shop 1", third.dsn(f"rebuilt{number}"), tmp_path / str(number))
            with psycopg.connect(third.dsn(f"rebuilt{number}")) as conn:
                found = table_rows(conn)
            assert found["public.kind"] == seen.rows["public.kind"]
            for table in ("public.item", "public.log", "public.gone"):
                expected = [line for line in seen.rows[table] if tenant_of(line, relations[table]) == "shop 1"]
                assert found[table] == expected, table
        protected.verified()
    finally:
        protected.end()
