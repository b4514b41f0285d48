"""The text of a value is one and the same: in the stream, in COPY, encoded here, put back, and on another version."""

from collections.abc import Iterable

import numpy as np
import psycopg
import pytest
from psycopg import sql

from ballast.errors import FormatError
from ballast.postgres import copytext, pgoutput, session
from ballast.postgres.replication import HEADER_BYTES, Replication, connect
from ballast.postgres.tuples import RowLayout, decode_rows, scan_copy_lines, split_messages
from tests.fix_postgres import Connection, Database

HOSTILE = [
    "",
    " ",
    " both ends ",
    "\\.",
    "\\N",
    "\\",
    "\\\\",
    "a\\.b",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\b\f\v",
    "\x01\x07\x0e\x1b\x1f\x7f",
    "'quoted' \"doubly\"",
    '{1,NULL,"x"}',
    "NULL",
    "null",
    "店铺 – 价格 ¥1.00",
    "🛒👩‍👩‍👧",
    "é e\u0301 \u200b\ufeff",
    "\\x41 \\101 \\q",
    "x" * 3000,
    "\\" * 1000 + "\t" * 1000,
]

# Values of every built-in type that a column can have, as literals.
VALUES: dict[str, list[str]] = {
    "bool": ["t", "f"],
    "bytea": ["\\x", "\\x00ff5c0a09", "\\x" + "5c2e" * 500],
    "char": ["a", "", "\\\\", "\\200"],
    "name": ["x", "with space", 'q"uote'],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "int2": ["-32768", "0"],
    "int2vector": ["", "1 2 -3"],
    "int4": ["-2147483648", "7"],
    "regproc": ["pg_catalog.now", "0", "-"],
    "text": HOSTILE,
    "oid": ["0", "4294967295"],
    "tid": ["(0,1)", "(4294967295,65535)"],
    "xid": ["0", "4294967295"],
    "cid": ["0", "4294967295"],
    "oidvector": ["", "1 2"],
    "json": ['{"a": 1,  "b":"\\u0000\\n" }', "null", '"\\t"', "[ ]"],
    "xid8": ["0", "18446744073709551615"],
    "point": ["(0.1,-1e300)", "(NaN,Infinity)"],
    "lseg": ["[(0,0),(1,1)]"],
    "path": ["((0,0),(1,1))", "[(0,0),(1,1)]"],
    "box": ["(1,1),(0,0)"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "line": ["{1,-1,0.1}"],
    "float4": ["0.1", "1e-45", "3.4028235e38", "NaN", "-Infinity", "-0"],
    "float8": ["0.1", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "NaN", "-0", "1e21"],
    "circle": ["<(0.1,2),3>"],
    "money": ["-92233720368547758.08", "1234567.89"],
    "macaddr": ["08:00:2b:01:02:03"],
    "inet": ["10.0.0.1/8", "::1", "fe80::1/64"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "aclitem": ["postgres=arwdDxt/postgres"],
    "bpchar": ["abc ", ""],
    "varchar": ["", "x ", "\\"],
    "date": ["0001-01-01", "4713-01-01 BC", "infinity", "5874897-12-31", "2024-02-29"],
    "time": ["00:00:00", "23:59:59.999999", "24:00:00"],
    "timestamp": ["2024-02-29 23:59:60", "4713-01-01 00:00:00 BC", "-infinity", "294276-12-31 23:59:59.999999"],
    "timestamptz": ["2024-02-29 12:00:00.123456+08", "0044-03-15 12:00+00 BC", "infinity"],
    "interval": ["1 year 2 mons -3 days +04:05:06.789", "-1 day +23:00", "-00:00:00.000001", "178000000 years"],
    "timetz": ["12:34:56.789+08:45", "00:00:00-15:59:59"],
    "bit": ["1"],
    "varbit": ["", "0101"],
    "numeric": ["0", "-0.000", "1e1000", "NaN", "Infinity", "123456789012345678901234567890.0100"],
    "refcursor": ["<unnamed portal 1>"],
    "regprocedure": ["pg_catalog.now()", "-"],
    "regoper": ["pg_catalog.||/", "0"],
    "regoperator": ["pg_catalog.+(integer,integer)"],
    "regclass": ["pg_catalog.pg_class", "-"],
    "regcollation": ['pg_catalog."C"', "-"],
    "regtype": ["integer", "pg_catalog.int4[]", "-"],
    "regrole": ["postgres", "-"],
    "regnamespace": ["pg_catalog", "-"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "pg_lsn": ["16/B374D848", "FFFFFFFF/FFFFFFFF"],
    "tsvector": ["'a':1A,2 'it''s':3B '\\\\':4", ""],
    "tsquery": ["'a':*A & !( 'b' <-> 'c\\\\' )", ""],
    "regconfig": ["pg_catalog.simple"],
    "regdictionary": ["pg_catalog.simple"],
    "jsonb": ['{"a": [1.10, null, "\\n\\t\\\\ \\"店\\""], "": {}}', "1e100", '"\\\\."'],
    "jsonpath": ['$."a"[*] ? (@ > 1)'],
    "txid_snapshot": ["10:20:10,14"],
    "pg_snapshot": ["10:20:10,14"],
    "int4range": ["empty", "[1,5)", "(,)"],
    "numrange": ["[1.10,2.0]", "(,5]"],
    "tsrange": ['["2024-01-01 00:00","2024-01-02 00:00:00.5")'],
    "tstzrange": ['["2024-01-01 00:00+08",infinity]'],
    "daterange": ["[2024-01-01,2024-02-01)"],
    "int8range": ["[1,9223372036854775807)"],
    "int4multirange": ["{}", "{[1,2),[5,7)}"],
    "nummultirange": ["{[1.0,2.0],(3,)}"],
    "tsmultirange": ['{["2024-01-01 00:00","2024-01-02 00:00")}'],
    "tstzmultirange": ['{["2024-01-01 00:00+08","2024-01-02 00:00+00")}'],
    "datemultirange": ["{[2024-01-01,2024-02-01)}"],
    "int8multirange": ["{[1,2)}"],
}
# The server makes these by itself; their input functions refuse everything.
WITHOUT_INPUT = {
    "xml",  # … here: the wheel's servers are built without libxml
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "gtsvector",
}
WITHOUT_ARRAY = {"int2vector", "oidvector"}  # theirs exist, but element quoting is that of the others


@pytest.fixture
def loose(pg: Database) -> Connection:
    """A session whose printing is set to everything but the usual."""
    return pg.connect(
        options="-c DateStyle=German -c IntervalStyle=iso_8601 -c TimeZone=Asia/Kathmandu -c extra_float_digits=0"
        " -c bytea_output=escape -c quote_all_identifiers=on"
    )


def fill(conn: Connection) -> list[str]:
    """One table for each type, with the type and its array; gives their names."""
    types = conn.execute(
        "SELECT t.typname, t.typarray <> 0, quote_ident(t.typname)"
        " FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace"
        " WHERE nspname = 'pg_catalog' AND typtype IN ('b', 'r', 'm') AND typelem = 0 OR typname IN"
        " ('point', 'lseg', 'box', 'line', 'name', 'int2vector', 'oidvector') ORDER BY typname"
    ).fetchall()
    tables = []
    for name, has_array, quoted in types:
        if name in WITHOUT_INPUT:
            continue
        assert name in VALUES, f"a built-in type without values to test: {name}"
        table = f"t_{name}"
        as_type = sql.SQL("pg_catalog." + quoted)
        array = (
            sql.SQL("pg_catalog.{}[]").format(sql.SQL(quoted)) if has_array and name not in WITHOUT_ARRAY else as_type
        )
        conn.execute(
            sql.SQL("CREATE TABLE public.{} (id int PRIMARY KEY, v {}, a {})").format(
                sql.Identifier(table), as_type, array
            )
        )
        for i, value in enumerate([None, *VALUES[name]]):
            conn.execute(
                sql.SQL("INSERT INTO public.{} SELECT {}, v, {} FROM (SELECT {}::{} AS v) x").format(
                    sql.Identifier(table),
                    sql.Literal(i),
                    sql.SQL("ARRAY[v, NULL, v]") if array is not as_type else sql.SQL("v"),
                    sql.Literal(value),
                    as_type,
                )
            )
        tables.append(table)
    return tables


def copy_out(conn: Connection, table: str) -> bytes:
    with conn.cursor().copy(sql.SQL("COPY public.{} TO STDOUT").format(sql.Identifier(table))) as copy:
        return b"".join(bytes(part) for part in copy)


def copy_in(conn: Connection, table: str, lines: bytes) -> None:
    with conn.cursor().copy(sql.SQL("COPY public.{} FROM STDIN").format(sql.Identifier(table))) as copy:
        copy.write(lines)


def streamed(stream: Replication, rows: int) -> tuple[dict[int, pgoutput.Relation], list[bytes]]:
    """Row messages until there are so many, and the relations announced."""
    relations, found = {}, []
    while len(found) < rows:
        for raw in stream.receive(5.0).messages:
            message = raw[HEADER_BYTES:]
            if message[:1] == b"R":
                relation = pgoutput.decode(message)
                assert isinstance(relation, pgoutput.Relation)
                relations[relation.oid] = relation
            elif message[:1] in (b"I", b"U", b"D"):
                found.append(message)
    return relations, found


def in_bulk(messages: Iterable[bytes], layouts: list[RowLayout]) -> dict[int, list[bytes]]:
    """COPY lines by relation, found as the sealer finds them."""
    payload = b"".join(len(m).to_bytes(4, "big") + bytes(8) + m for m in messages)
    starts, ends, _ = split_messages(payload)
    batch = decode_rows(payload, starts, ends, layouts)
    lines: dict[int, list[bytes]] = {layout.oid: [] for layout in layouts}
    for i in range(len(batch)):
        lines[layouts[batch.layout[i]].oid].append(batch.row[i] or b"")
    return lines


def test_stream_and_copy_and_our_own_encoding_print_every_type_alike(pg: Database, loose: Connection) -> None:
    pg.run("CREATE PUBLICATION p FOR ALL TABLES")
    with connect(pg.dsn, "ballast_test") as stream:
        start = stream.create_slot("s", temporary=True).consistent_point
        tables = fill(loose)
        stream.start("s", start, ["p"])
        rows = sum(len(VALUES[t[2:]]) + 1 for t in tables)
        relations, messages = streamed(stream, rows)

    layouts = [RowLayout(oid, 3, (0,)) for oid in relations]
    from_stream = in_bulk(messages, layouts)
    assert {r.name for r in relations.values()} == set(tables)
    with session.connect(pg.dsn) as reader:
        for oid, relation in relations.items():
            by_copy = copy_out(reader, relation.name)
            one_by_one = (
                copytext.encode_row([v if isinstance(v, bytes) else None for v in m.new])
                for m in map(pgoutput.decode, messages)
                if isinstance(m, pgoutput.Insert) and m.oid == oid
            )
            assert b"".join(from_stream[oid]) == by_copy == b"".join(one_by_one), relation.name


def test_lines_put_back_come_out_again_on_the_same_version(pg: Database, loose: Connection) -> None:
    tables = fill(loose)
    with session.connect(pg.dsn) as conn:
        for table in tables:
            lines = copy_out(conn, table)
            conn.execute(sql.SQL("TRUNCATE public.{}").format(sql.Identifier(table)))
            copy_in(conn, table, lines)
            assert copy_out(conn, table) == lines, table


def test_lines_of_16_come_out_of_18_as_they_went_in(pg16: Database, pg18: Database) -> None:
    tables = fill(pg16.connect())
    fill(pg18.connect())
    with session.connect(pg16.dsn) as old, session.connect(pg18.dsn) as new:
        for table in tables:
            lines = copy_out(old, table)
            new.execute(sql.SQL("TRUNCATE public.{}").format(sql.Identifier(table)))
            copy_in(new, table, lines)
            assert copy_out(new, table) == lines, table


def test_hostile_text_is_written_by_the_server_as_it_is_here(pg: Database) -> None:
    every_byte = [chr(c) for c in range(1, 128)] + [f"a{chr(c)}b" for c in range(1, 128)]
    texts = [None, *HOSTILE, *every_byte]
    with session.connect(pg.dsn) as conn:
        conn.execute("CREATE TABLE public.h (i int, a text, b text)")
        with conn.cursor() as cursor:
            cursor.executemany("INSERT INTO public.h VALUES (%s, %s, %s)", [(i, t, t) for i, t in enumerate(texts)])
        by_server = copy_out(conn, "h")

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else text.encode()

    ours = b"".join(copytext.encode_row([str(i).encode(), encoded(t), encoded(t)]) for i, t in enumerate(texts))
    assert ours == by_server
    lines = scan_copy_lines(by_server, 3, [1], 1, skip_first_column=True)
    assert [lines.partition[i] for i in range(len(lines))] == [encoded(t) for t in texts]
    assert [lines.row[i] for i in range(len(lines))] == [copytext.encode_row([encoded(t)] * 2) for t in texts]


def test_a_large_value_that_an_update_left_alone_is_missing_or_filled_in(pg: Database) -> None:
    big = "('{\"k\": \"' || repeat(md5(random()::text), 40000) || '\"}')::jsonb"
    pg.run(
        "CREATE TABLE keyed (shop text, id int, doc jsonb, PRIMARY KEY (shop, id))",
        "ALTER TABLE keyed ALTER doc SET STORAGE external",
        "CREATE TABLE whole (LIKE keyed INCLUDING ALL)",
        "ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR ALL TABLES",
    )
    with connect(pg.dsn, "ballast_test") as stream:
        start = stream.create_slot("s", temporary=True).consistent_point
        stream.start("s", start, ["p"])
        for table in ("keyed", "whole"):
            pg.run(
                f"INSERT INTO {table} SELECT 'lin', 1, {big}",
                f"UPDATE {table} SET shop = shop",
                f"UPDATE {table} SET shop = 'wu'",
                f"DELETE FROM {table}",
            )
        relations, messages = streamed(stream, 8)
    oids = {r.name: oid for oid, r in relations.items()}
    layouts = [RowLayout(oids["keyed"], 3, (0, 1), 0), RowLayout(oids["whole"], 3, (0, 1), 0)]
    ends = np.cumsum([0, *map(len, messages)], dtype=np.int64)

    batch = decode_rows(b"".join(messages), ends[:-1], ends[1:], layouts)

    assert batch.op.tobytes() == b"IPDPD" + b"IUDID"
    missing = batch.to_arrow()["missing"].to_pylist()
    assert missing == [None, [2], None, [2], None] + [None] * 5
    assert batch.before_key[3] == b"lin\t1"
    assert batch.partition.to_text().to_pylist() == ["lin", "lin", "lin", "wu", "wu"] * 2
    whole = [batch.row[i] or b"" for i in (5, 6, 8)]
    assert len(whole[0]) > 1_000_000
    assert whole[0] == whole[1]
    assert whole[2] == b"wu" + whole[0][3:]


def test_row_security_fails_loudly_instead_of_hiding_rows(pg: Database) -> None:
    pg.run(
        "CREATE TABLE r (id int)",
        "INSERT INTO r VALUES (1)",
        "ALTER TABLE r ENABLE ROW LEVEL SECURITY",
        "CREATE ROLE plain LOGIN",
        "GRANT SELECT ON r TO plain",
    )
    with session.connect(pg.dsn_as("plain")) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT * FROM public.r")


def test_a_transaction_can_be_pinned_alone(pg: Database, loose: Connection) -> None:
    with loose.transaction():
        loose.execute(session.pin_sql(local=True).encode())
        pinned = loose.execute("SELECT '2024-02-03 00:00+00'::timestamptz::text").fetchone()
    after = loose.execute("SELECT '2024-02-03 00:00+00'::timestamptz::text").fetchone()

    assert pinned == ("2024-02-03 00:00:00+00",)
    assert after == ("03.02.2024 05:45:00 +0545",)


def test_an_error_in_copy_lines_is_not_taken_for_data() -> None:
    with pytest.raises(FormatError):
        scan_copy_lines(b"1\t2\n3\n", 2, [0])
