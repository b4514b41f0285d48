"""COPY read from the socket itself gives what libpq gives."""

import pytest
from psycopg import sql

from ballast.postgres import connect
from ballast.postgres.copystream import PrintError, can_stream, sum_copy, sum_copy_within
from ballast.recovery import tally_of_query
from tests.fix_postgres import Database


@pytest.mark.parametrize(
    "query",
    [
        "SELECT g, repeat('x', g % 300) FROM generate_series(1, 50000) g",
        "SELECT repeat(md5(g::text), 100000) FROM generate_series(1, 3) g",
        "SELECT FROM generate_series(1, 7)",
        "SELECT 1 WHERE false",
        "SELECT NULL, '', E'\\t\\n\\\\', '漢字'",
    ],
)
def test_the_same_rows_and_checksum(pg: Database, query: str) -> None:
    with connect(pg.dsn) as conn:
        assert can_stream(conn)
        expected = tally_of_query(conn, sql.SQL(query))  # type: ignore[arg-type]
        with conn.transaction():
            conn.execute("SET LOCAL application_name = 'inside'")
            for _ in range(2):
                assert sum_copy_within(conn, f"COPY ({query}) TO STDOUT") == (expected.rows, expected.checksum)
            assert conn.execute("SHOW application_name").fetchone() == ("inside",)
        assert sum_copy(conn, f"COPY ({query}) TO STDOUT") == (expected.rows, expected.checksum)
        assert conn.closed


def test_a_refusal_on_the_way_is_one(pg18: Database) -> None:
    with pytest.raises(PrintError, match="division by zero") as refused:
        sum_copy(connect(pg18.dsn), "COPY (SELECT 1 / (30000 - g) FROM generate_series(1, 50000) g) TO STDOUT")
    assert refused.value.sqlstate == "22012"
    with pytest.raises(PrintError, match="nowhere"):
        sum_copy(connect(pg18.dsn), "COPY nowhere TO STDOUT")


def test_a_refusal_within_a_connection_leaves_it_usable(pg18: Database) -> None:
    with connect(pg18.dsn) as conn:
        for statement, state in (
            ("COPY (SELECT 1 / (30000 - g) FROM generate_series(1, 50000) g) TO STDOUT", "22012"),
            ("COPY nowhere TO STDOUT", "42P01"),
        ):
            with pytest.raises(PrintError) as refused:
                sum_copy_within(conn, statement)
            assert refused.value.sqlstate == state
        assert sum_copy_within(conn, "COPY (SELECT 'x') TO STDOUT")[0] == 1


def test_a_server_that_goes_away(pg18: Database) -> None:
    conn = connect(pg18.dsn)
    statement = "COPY (SELECT pg_terminate_backend(pg_backend_pid()) FROM generate_series(1, 9)) TO STDOUT"
    with pytest.raises(PrintError):
        sum_copy(conn, statement)
