"""Every role may write into the stream in our name, and make a schema of our name first: neither is believed."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.errors import ProtectionError, RestoreError
from ballast.postgres import pgoutput
from ballast.postgres.lsn import parse_lsn
from ballast.postgres.session import connect
from ballast.recovery import progress
from ballast.vault.config import Tenants
from ballast.vault.heard import Heard
from ballast.vault.token import TOKEN_FILE, is_ours, outside, read_tokens, settle_token, taken_apart
from tests.fix_postgres import Database
from tests.fix_protected import Protected, assert_equal

NewProtected = Callable[..., Protected]
HEADER = bytes(25)


def message(prefix: bytes, content: bytes, *, transactional: bool = True) -> bytes:
    return b"M" + bytes([transactional]) + bytes(8) + prefix + b"\0" + len(content).to_bytes(4) + content


def events(protected: Protected, event: str) -> list[dict[str, object]]:
    return [
        found for line in protected.log_path.read_text().splitlines() if (found := json.loads(line))["event"] == event
    ]


def test_a_stranger_cannot_speak_for_us(pg18: Database, new_protected: NewProtected) -> None:
    pg18.run(
        "CREATE TABLE t (id int PRIMARY KEY, shop int)", "CREATE SEQUENCE s", "CREATE ROLE app LOGIN",
        "GRANT ALL ON t TO app",
    )  # fmt: skip
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    assert stat.S_IMODE((protected.config.state_dir / TOKEN_FILE).stat().st_mode) == 0o600
    protected.start()
    ((oid,),) = pg18.query("SELECT 't'::regclass::oid::bigint")
    with pg18.connect(user="app") as app:
        for refused in ("SELECT * FROM ballast.setting", "SELECT ballast.tell('{}')", "SELECT * FROM ballast.canary"):
            with pytest.raises(Exception, match="permission denied"):
                app.execute(refused.encode())
        drop = {"event": "drop", "tag": "DROP TABLE", "dropped": [oid], "n": 1}
        sequences = {"token": "0" * 32, "sequences": [{"schema": "public", "name": "s", "last_value": 99, "is_called": True,
                                                       "increment": 1, "cache": 1}]}  # fmt: skip
        say = "SELECT pg_logical_emit_message(%s, %s, %s::bytea)"
        for content in (
            json.dumps(drop),
            json.dumps({**drop, "token": "0" * 32}),
            "{",
            "",
            "\\xff00",
            '"\\ud800"',
            "[" * 5000,
        ):
            for prefix in ("ballast.ddl", "ballast.sequences"):
                for transactional in (True, False):
                    raw = b"\xff\0" if content == "\\xff00" else content.encode()
                    app.execute(say, (transactional, prefix, raw))
        app.execute(say, (True, "ballast.sequences", json.dumps(sequences).encode()))
        with app.transaction():
            app.execute(say, (True, "ballast.actor", b"\xff" + b"x" * 100_000))
            app.execute("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 50) g")
    pg18.run("ALTER TABLE t ADD COLUMN note text DEFAULT 'n'", "INSERT INTO t VALUES (100, 1, 'x')")
    look = protected.look()
    protected.sealed(look.cut)
    protected.stop()
    assert_equal(protected.vault(), look)
    assert events(protected, "forged_message")
    assert not events(protected, "stuck")
    assert not events(protected, "bug")
    versions = protected.vault().index.schemas.values()
    assert "ALTER TABLE" in {v.reason for v in versions}
    assert "DROP TABLE" not in {v.reason for v in versions}
    told = {s.name: s.last_value for segment in protected.vault().index.segments for s in segment.sequences}
    assert told.get("s") != 99
    protected.verified()


@pytest.mark.parametrize("prefix", ["ballast.ddl", "ballast.sequences"])
def test_what_is_said_outside_of_a_transaction_is_an_alarm_as_well(
    pg: Database, new_protected: NewProtected, prefix: str
) -> None:
    """It comes whether its transaction is committed or not, and none of ours is like that: not even with our token."""
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, shop int)", "CREATE SEQUENCE s", "CREATE ROLE app LOGIN",
        "GRANT ALL ON t TO app",
    )  # fmt: skip
    protected = new_protected(pg, Tenants(column="shop"))
    protected.protect()
    (token,) = read_tokens(protected.config.state_dir)
    protected.start()
    ((oid,),) = pg.query("SELECT 't'::regclass::oid::bigint")
    says = {"event": "drop", "tag": "DROP TABLE", "dropped": [oid], "n": 1}
    if prefix == "ballast.sequences":
        state = {"schema": "public", "name": "s", "last_value": 99, "is_called": True, "increment": 1, "cache": 1}
        says = {"sequences": [state]}
    say = "SELECT pg_logical_emit_message(false, %s, %s)::text"
    with pg.connect(user="app") as app:
        app.execute(say, ("ballast.actor", "a note without a commit"))  # nothing is claimed in it
        before = app.execute(say, ("another.prefix", "of somebody else")).fetchone()
        first = app.execute(say, (prefix, json.dumps(says))).fetchone()
        with app.transaction(force_rollback=True):
            app.execute(say, (prefix, json.dumps({**says, "token": token})))
        app.execute("INSERT INTO t VALUES (1, 2)")
    look = protected.look()
    protected.sealed(look.cut)
    protected.stop()
    alarms = events(protected, "forged_message")
    assert sum(int(str(alarm["count"])) for alarm in alarms) == 2, alarms
    assert {alarm["level"] for alarm in alarms} == {"alarm"}
    assert first is not None
    assert before is not None
    assert parse_lsn(before[0]) <= parse_lsn(str(alarms[0]["first_lsn"])) <= parse_lsn(first[0])
    assert_equal(protected.vault(), look)
    assert "DROP TABLE" not in {v.reason for v in protected.vault().index.schemas.values()}
    told = {s.name: s.last_value for segment in protected.vault().index.segments for s in segment.sequences}
    assert told.get("s") != 99
    protected.verified()


def test_no_password_is_kept(pg18: Database, new_protected: NewProtected) -> None:
    pg18.run("CREATE TABLE t (id int PRIMARY KEY, shop int)", "CREATE ROLE someone", "CREATE FOREIGN DATA WRAPPER f")
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    protected.start()
    pg18.run(
        "ALTER TABLE t ADD a int; ALTER ROLE someone PASSWORD 'hunter2'",
        "ALTER TABLE t ADD b int; CREATE SERVER v FOREIGN DATA WRAPPER f; CREATE USER MAPPING FOR someone SERVER v"
        " OPTIONS (pw 'hunter2'); DROP SERVER v CASCADE",
        "ALTER TABLE t ADD c int",
    )
    look = protected.look()
    protected.sealed(look.cut)
    protected.stop()
    commands = [v.command for v in protected.vault().index.schemas.values()]
    assert "ALTER TABLE t ADD c int" in commands
    assert not any("hunter2" in (command or "") for command in commands)
    assert_equal(protected.vault(), look)
    for path in (path for path in protected.folder.rglob("*") if path.is_file()):
        assert b"hunter2" not in path.read_bytes(), path


@pytest.mark.parametrize(
    "made", ["CREATE SCHEMA ballast AUTHORIZATION mallory", "CREATE SCHEMA ballast; CREATE TABLE ballast.canary ();"
             "ALTER TABLE ballast.canary OWNER TO mallory", "CREATE SCHEMA ballast; CREATE FUNCTION ballast.f() RETURNS int"
             " RETURN 1; ALTER FUNCTION ballast.f OWNER TO mallory"]
)  # fmt: skip
def test_a_schema_of_somebody_else_is_refused(pg18: Database, new_protected: NewProtected, made: str) -> None:
    pg18.run("CREATE TABLE t (id int PRIMARY KEY, shop int)", "CREATE ROLE mallory", made)
    protected = new_protected(pg18, Tenants(column="shop"))
    with pytest.raises(ProtectionError, match="belongs to role mallory"):
        protected.protect()
    pg18.run("DROP SCHEMA ballast CASCADE")
    protected.protect()


def test_a_restore_refuses_somebody_elses_memory(pg18: Database) -> None:
    pg18.run(
        "CREATE ROLE mallory",
        f"CREATE SCHEMA {progress.SCHEMA} AUTHORIZATION mallory",
        f"CREATE VIEW {progress.SCHEMA}.task AS SELECT 1/0 AS identity",
    )
    task = progress.Task("v", 1, 1, None, None, True)
    with connect(pg18.dsn) as conn:
        with pytest.raises(RestoreError, match="belongs to role mallory"):
            progress.pending(conn)
        with pytest.raises(RestoreError, match="belongs to role mallory"):
            progress.claim(conn, task)


def test_an_older_protection_is_renewed(pg18: Database, new_protected: NewProtected) -> None:
    pg18.run("CREATE TABLE t (id int PRIMARY KEY, shop int)")
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    (first,) = read_tokens(protected.config.state_dir)
    assert protected.protect().did == "already protected"
    (protected.config.state_dir / TOKEN_FILE).unlink()
    pg18.run("DELETE FROM ballast.setting WHERE name = 'token'")
    protected.start(armed=False)
    protected.until(lambda: events(protected, "stuck"), "the sealer to say what it lacks")
    protected.stop()
    assert protected.protect().did == "repaired"
    (second,) = read_tokens(protected.config.state_dir)
    assert second != first
    assert pg18.query("SELECT value #>> '{}' FROM ballast.setting WHERE name = 'token'") == [(second,)]
    protected.start()
    pg18.run("ALTER TABLE t ADD a int", "INSERT INTO t VALUES (1, 2, 3)")
    look = protected.look()
    protected.sealed(look.cut)
    protected.stop()
    assert_equal(protected.vault(), look)


def test_tokens_are_kept(tmp_path: Path) -> None:
    assert read_tokens(tmp_path) == ()
    one = settle_token(tmp_path, None)
    assert settle_token(tmp_path, None) == settle_token(tmp_path, "no token") == one
    other = settle_token(tmp_path, "f" * 32)
    assert read_tokens(tmp_path) == (other, one)  # what was recorded before is still believed


def test_what_is_ours() -> None:
    token = "a" * 32
    assert is_ours(b'{"x": [1], "token": "' + token.encode() + b'"}', (token,))
    note = b'{"note": "' + token.encode() + b'"}'
    for content in (b"", b"{}", b'{"token": "b"}', token.encode(), note, b"\xff" + token.encode()):
        assert not is_ours(content, (token,))
    assert not is_ours(b'{"token": ""}', ())
    told = message(b"ballast.ddl", b"abc")
    assert isinstance(pgoutput.decode(told), pgoutput.Message)
    assert taken_apart(b"--" + told, 2, (b"ballast.ddl",)) == (b"ballast.ddl", b"abc")
    assert taken_apart(message(b"\xff\xfe", b"abc"), 0, (b"ballast.ddl",)) is None
    assert outside(b"--" + told, 2, (b"ballast.ddl",)) is None
    alone = message(b"ballast.ddl", b"abc", transactional=False)
    assert taken_apart(b"--" + alone, 2, (b"ballast.ddl",)) is None
    assert outside(b"--" + alone[:2] + (7).to_bytes(8) + alone[10:], 2, (b"ballast.ddl",)) == 7
    assert outside(alone, 0, (b"ballast.sequences",)) is None


def test_the_guardian_hears_nobody_else() -> None:
    heard = Heard()
    heard.tokens = ("a" * 32,)
    content = b'{"event": "rewrite", "rewritten": [7], "token": "%s"}'
    heard.hear([HEADER + message(b"ballast.ddl", content % (b"b" * 32)), HEADER + message(b"\xff", b"\xff" * 100)])
    assert not heard.told().rewritten
    assert heard.messages == 0
    heard.hear([HEADER + message(b"ballast.ddl", content % (b"a" * 32))])
    assert heard.told().rewritten == {"7"}
    assert heard.messages == 1
