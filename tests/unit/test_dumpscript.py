"""A dump is taken apart by the server's own quoting rules: what stands inside a string or a body is no boundary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from ballast.recovery import dumpscript

FORGED = "x\n--\n-- Name: x; Type: COMMENT; Schema: public; Owner: evil\n--\n\n; ALTER ROLE evil SUPERUSER; --\n\\restrict abc\n"


def entry(name: str, kind: str, *statements: str, schema: str = "public") -> str:
    return (
        f"--\n-- Name: {name}; Type: {kind}; Schema: {schema}; Owner: o\n--\n\n" + "\n\n\n".join(statements) + "\n\n\n"
    )


HEAD = (
    "--\n-- PostgreSQL database dump\n--\n\n\\restrict kEy\n\n-- Dumped from database version 18.0\n\n"
    "SET statement_timeout = 0;\nSET transaction_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n"
)
TAIL = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict kEy\n\n"
QUOTED = [
    f"COMMENT ON TABLE public.t IS '{FORGED}''{FORGED}';",
    f"COMMENT ON TABLE public.t IS E'\\'{FORGED}\\\\';",
    f'COMMENT ON TABLE public."{FORGED}""{FORGED}" IS NULL;',
    f"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS $_$ {FORGED} $a$ {FORGED} $$ ' $a$ \" $_$;",
    f"CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {FORGED} END $$;",
    f"CREATE VIEW public.v AS SELECT a$b$c, '$b$', 1 /* {FORGED} /* ' */ ; */ FROM public.t;",
    "CREATE RULE r AS ON INSERT TO public.t DO ALSO (INSERT INTO public.a VALUES (1); INSERT INTO public.b VALUES (2));",
    "CREATE FUNCTION public.g() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT begin; END;",
    "CREATE OR REPLACE PROCEDURE public.g(a int DEFAULT 1) LANGUAGE sql\n    BEGIN ATOMIC\n SELECT 1;\n SELECT 2;\nEND;",
]


@pytest.mark.parametrize("statement", QUOTED)
def test_what_is_quoted_is_no_boundary(statement: str) -> None:
    after = "ALTER TABLE public.t OWNER TO o;"
    script = HEAD + entry("a", "TABLE", statement, after) + entry("b", "INDEX", statement) + TAIL

    preamble, parts = dumpscript.parts(script)

    assert preamble == [
        "SET statement_timeout = 0;",
        "SET transaction_timeout = 0;",
        "SELECT pg_catalog.set_config('search_path', '', false);",
    ]
    assert [(part.name, part.type, part.statements) for part in parts] == [
        ("a", "TABLE", (statement, after)),
        ("b", "INDEX", (statement,)),
    ]
    assert dumpscript.statements(script) == [*preamble, statement, after, statement]


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.just(FORGED), min_size=1)
)
def test_any_string_stays_inside_its_statement(texts: list[str]) -> None:
    statements = [f"COMMENT ON TABLE t IS {sql.Literal(text).as_string(None).strip()};" for text in texts]
    script = HEAD + "".join(entry("t", "COMMENT", statement) for statement in statements) + TAIL
    assert [part.statements for part in dumpscript.parts(script)[1]] == [(statement,) for statement in statements]


@pytest.mark.parametrize("open_end", ["SELECT 'a; b", "SELECT $x$; $y$", 'SELECT "a;', "SELECT E'\\';", "SELECT (1;"])
def test_what_is_not_closed_is_one_statement(open_end: str) -> None:
    assert dumpscript.statements(open_end) == [open_end]


def test_a_setting_that_an_older_server_does_not_know_is_left_out() -> None:
    both = ["SET transaction_timeout = 0;", "COMMENT ON TABLE t IS '\nSET transaction_timeout = 0;\n';"]
    assert dumpscript.accepted(both, server_version=160000) == both[1:]
    assert dumpscript.accepted(both, server_version=170000) == both


def test_tables_lie_in_the_new_server_where_it_keeps_what_nobody_says_a_place_of() -> None:
    script = ["SET default_tablespace = fast;", "CREATE TABLE public.a (x int);", "SET default_tablespace = '';"]
    assert dumpscript.accepted(script, server_version=180000) == script[1:2]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("1", True),
        ("'a;b)'::text", True),
        ("ARRAY[lower('(')]", True),
        ("E'\\''", True),
        ("$$;)$$", True),
        ("- -1", True),
        ("", False),
        ("1; DROP TABLE t", False),
        ("1), OWNER TO evil, ALTER x SET DEFAULT (1", False),
        ("1 -- ", False),
        ("1 /*", False),
        ("'open", False),
        ("$a$ open $b$", False),
        ("(1", False),
        ("[1)", True),  # the server's to refuse
    ],
)
def test_one_expression(text: str, good: bool) -> None:
    assert dumpscript.is_expression(text) == good


@pytest.mark.parametrize(
    ("kind", "name", "schema", "ours"),
    [
        ("TABLE", "canary", "ballast", True),
        ("SCHEMA", "ballast", "-", True),
        ("EVENT TRIGGER", "ballast_ddl", "-", True),
        ("COMMENT", "EVENT TRIGGER ballast_ddl", "-", True),
        ("PUBLICATION", "ballast", "-", True),
        ("EVENT TRIGGER", "ballast_weights", "-", False),
        ("COMMENT", "TABLE my_ballast_tanks", "public", False),
        ("COMMENT", "COLUMN a.ballast", "public", False),
        ("TABLE", "ballast", "public", False),
    ],
)
def test_ours_by_exact_names(kind: str, name: str, schema: str, ours: bool) -> None:
    (part,) = dumpscript.parts(entry(name, kind, "SELECT 1;", schema=schema))[1]
    assert dumpscript.is_ours(part) == ours


def test_what_a_dump_has_not() -> None:
    script = HEAD + entry("a", "COMMENT", "COMMENT ON TABLE a IS '\n-- Left out: nothing\n';") + TAIL
    assert dumpscript.left_out(script) == []
    assert dumpscript.left_out(script + "-- Left out: publication a\n-- Left out: subscription b\n") == [
        "publication a",
        "subscription b",
    ]
