"""Which settings keep everybody from writing, and whether there is room: asked of a real server, which is left as it was."""

from __future__ import annotations

import os

import psycopg
import pytest

from ballast.continuity import writable
from ballast.continuity.helm import sign_of_error
from ballast.continuity.signs import Sign
from tests.fix_postgres import Connection, Database, NewServer
from tests.small_disk import Hog, read_only, small_disk

ON = "SET default_transaction_read_only = on"
OFF = "SET default_transaction_read_only = off"


CASES = (
    (("ALTER DATABASE {db} " + ON,), "for the database"),
    (("ALTER ROLE ALL " + ON,), "for all roles"),
    (("ALTER ROLE ALL " + ON, "ALTER DATABASE {db} " + OFF), ""),
    (("ALTER ROLE clerk " + ON,), ""),
    (("ALTER ROLE clerk IN DATABASE {db} " + ON,), ""),
    (("ALTER ROLE clerk " + OFF, "ALTER DATABASE {db} " + ON), "for the database"),
    (("ALTER SYSTEM " + ON, "SELECT pg_reload_conf()"), "for the server"),
)
UNDO = (
    "ALTER ROLE ALL RESET default_transaction_read_only",
    "ALTER ROLE clerk RESET default_transaction_read_only",
    "ALTER ROLE clerk IN DATABASE {db} RESET default_transaction_read_only",
    "ALTER DATABASE {db} RESET default_transaction_read_only",
    "ALTER SYSTEM RESET default_transaction_read_only",
    "SELECT pg_reload_conf()",
)


def asked(pg: Database, user: str | None = None) -> Connection:
    return pg.connect(user=user, options=writable.OPTIONS)


def run(pg: Database, *statements: str) -> None:
    """As somebody who may write whatever is set."""
    with pg.connect(options="-c default_transaction_read_only=off") as conn:
        for statement in statements:
            conn.execute(statement.format(db=f'"{pg.name}"').encode())


def test_it_is_read_only_where_it_is_for_more_than_one_role(pg18: Database) -> None:
    run(pg18, "CREATE ROLE clerk LOGIN")
    assert writable.why_read_only(asked(pg18)) == ""
    for statements, why in CASES:
        before = [asked(pg18, user) for user in (None, "clerk")]
        run(pg18, *statements)
        try:
            found = {writable.why_read_only(one) for one in (*before, asked(pg18), asked(pg18, "clerk"))}
        finally:
            run(pg18, *UNDO)
        assert found == {f"default_transaction_read_only is on {why}" if why else ""}, statements


def test_who_may_write_himself_sees_that_others_may_not(pg18: Database) -> None:
    run(
        pg18,
        "CREATE ROLE keeper LOGIN SUPERUSER",
        "ALTER ROLE keeper " + OFF,
        "ALTER SYSTEM " + ON,
        "SELECT pg_reload_conf()",
    )
    try:
        keeper = asked(pg18, "keeper")
        assert keeper.execute("SHOW transaction_read_only").fetchone() == ("off",)
        assert "for the server" in writable.why_read_only(keeper)
    finally:
        run(pg18, *UNDO[-2:])


def test_what_is_asked_for_room_takes_no_transaction_number_and_logs_nothing(pg18: Database) -> None:
    connection = asked(pg18)
    written = "SELECT pg_stat_get_backend_wal(pg_backend_pid())::text, pg_snapshot_xmax(pg_current_snapshot())::text"
    files = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
    before = connection.execute(written.encode()).fetchone()
    assert writable.lacks_room(connection, 4 << 20) is None
    assert connection.execute(written.encode()).fetchone() == before
    connection.execute("SELECT pg_stat_force_next_flush()")
    (taken,) = connection.execute(files.encode()).fetchone() or (0,)
    assert taken >= 4 << 20, "it did take room for a moment"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_tablespace_without_room_is_found(pg18: Database) -> None:
    folder = pg18.server.data_dir.parent / "small"
    with small_disk(folder, 8):
        owner = (pg18.server.pgdata).stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        pg18.run(f"CREATE TABLESPACE small LOCATION '{folder}'", "CREATE TABLE goods (id int) TABLESPACE small")
        try:
            connection = asked(pg18)
            assert writable.lacks_room(connection, 4 << 20) is None
            hog = Hog(folder)
            failed = None
            while failed is None:
                failed = writable.lacks_room(connection, 1 << 20)
            assert failed[0] is Sign.FULL, failed
            hog.unlink()
            assert writable.lacks_room(connection, 1 << 20) is None
        finally:
            pg18.run("DROP TABLE goods", "DROP TABLESPACE small")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a file system read-only")
def test_a_file_system_that_has_become_read_only_is_found(own_server: NewServer) -> None:
    server = own_server()
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True, options=writable.OPTIONS) as conn:
        assert writable.lacks_room(conn, 1 << 20) is None
        with read_only(server.pgdata / "base"):
            failed = writable.lacks_room(conn, 1 << 20)
            with pytest.raises(psycopg.Error) as caught:
                conn.execute("CREATE TABLE goods (id int)")
        assert failed is not None
        assert (failed[0], sign_of_error(caught.value)) == (Sign.READ_ONLY, Sign.READ_ONLY), (failed, caught.value)
