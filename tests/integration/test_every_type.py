"""Every built-in type and everything made of them, through the whole path: image, stream, vault, another server."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from ballast import recovery
from ballast.vault.config import Tenants
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Protected, assert_equal, table_rows
from tests.integration.test_value_texts import VALUES

MADE = {
    "mood": ["sad", "it's ok", "店"],
    "pair": ['(1,"a,b")', '(,"")', r'(2,"\\""\\\\")'],
    "positive": ["1", "9e100"],
    "pair[]": ['{"(1,a)",NULL}'],
    "mood[]": ['{sad,"it\'s ok"}'],
    "text[]": [r'{NULL,"NULL","a,b","\"","\\"}', "{{a,b},{c,d}}", "[0:1]={x,y}", "{}"],
    "timestamptz[]": ["{infinity,NULL}"],
    "textrange": ['["a,b",c)', "empty"],
    "xml": ["<a b='1'>x</a>", "text only"],
}
STRUCTURE = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', '店')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN positive AS numeric CHECK (value > 0)",
    "CREATE TYPE textrange AS RANGE (subtype = text)",
)


def columns(db: Database) -> dict[str, list[str]]:
    """The types that this server takes as a column's."""
    found: dict[str, list[str]] = {}
    with db.connect() as conn:
        for kind, values in {**VALUES, **MADE}.items():
            spelled = '"char"' if kind == "char" else kind
            try:
                with conn.transaction(force_rollback=True):
                    conn.execute(f"CREATE TABLE probe (c {spelled})")  # type: ignore[arg-type]
                    for value in values:
                        conn.execute("INSERT INTO probe VALUES (%s)", [value])
            except psycopg.Error:
                continue
            found[spelled] = values
    return found


def fill(db: Database, kinds: dict[str, list[str]], first_id: int) -> None:
    """A row for each value of each type, and one of nulls."""
    with db.connect() as conn, conn.transaction():
        for number, (kind, values) in enumerate(kinds.items()):
            for n, value in enumerate([*values, None]):
                statement = sql.SQL("INSERT INTO {} (shop, id, v) VALUES (%s, %s, %s)").format(
                    sql.Identifier(f"type{number}")
                )
                conn.execute(statement, [f"shop {n % 2}", first_id + n, value])
            assert kind


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("source", "target"), [(16, 18), (18, 18)])
def test_every_type_comes_back_as_the_same_text(
    source: int,
    target: int,
    request: pytest.FixtureRequest,
    new_protected: Callable[..., Protected],
    own_server: NewServer,
) -> None:
    db: Database = request.getfixturevalue(f"pg{source}")
    db.run(*STRUCTURE)
    kinds = columns(db)
    missing = set(VALUES) - {k.strip('"') for k in kinds}
    assert not missing, f"no column of {missing}"
    for number, kind in enumerate(kinds):
        db.run(f"CREATE TABLE type{number} (shop text, id int, v {kind}, PRIMARY KEY (shop, id))")
    fill(db, kinds, 0)
    protected = new_protected(db, Tenants(column="shop"))
    try:
        protected.protect()
        protected.start()
        fill(db, kinds, 1000)
        db.run("UPDATE type0 SET id = id + 5000 WHERE id < 1000", "DELETE FROM type1 WHERE id >= 1000")
        look = protected.look()
        protected.sealed(look.cut)
        vault = protected.vault()
        assert_equal(vault, look)
        server = own_server(major=target)
        server.start()
        report = recovery.restore(vault, vault.resolve(None), server.dsn(), recovery.Request())
        assert report.proven
        with psycopg.connect(server.dsn(), options="-c timezone=UTC -c extra_float_digits=1 -c search_path=") as conn:
            assert {t: lines for t, lines in table_rows(conn).items() if not t.startswith("ballast")} == look.rows
    finally:
        protected.end()
