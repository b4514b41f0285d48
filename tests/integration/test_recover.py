"""Recovery on demand: what comes back is what was there, and who is not back cannot be mistaken for empty. 16 and 18."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from ballast.errors import BallastError, ConfigError, IntegrityError, RestoreError
from ballast.recovery import Priority, Recovered, Request, Wish, ensure, recover, restore
from ballast.recovery.doorbell import BELL, MASK, Doorbell
from ballast.recovery.gate import try_briefly
from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault.vault import Vault
from tests.fix_postgres import Database, NewServer
from tests.integration.test_restore import FILL, SHOP, TENANTS
from tests.kept import Kept, contents, sequence_values, structure

pytestmark = pytest.mark.any_version

FLAGS = "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace >= 16384 OR relnamespace = 'public'::regnamespace ORDER BY 1"
LEFT = """
SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE nspname LIKE 'ballast%' OR relname LIKE 'ballast%'
UNION ALL SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname LIKE 'ballast%'
UNION ALL SELECT polname FROM pg_policy WHERE polname LIKE 'ballast%'
UNION ALL SELECT roname FROM pg_replication_origin, pg_database
 WHERE roname LIKE 'ballast%' AND datname = current_database() AND split_part(roname, '_', 3) = pg_database.oid::text
UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%' ORDER BY 1
"""
ROLES = ("CREATE ROLE shop_app", "CREATE ROLE shop_owner", "ALTER ROLE shop_app LOGIN", "ALTER ROLE shop_owner LOGIN")
RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO shop_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop_app",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO shop_app",
)


@pytest.fixture
def kept(pg: Database, open_folder: Path) -> Kept:
    pg.run(*SHOP, *FILL)
    made = Kept(pg, open_folder, TENANTS)
    made.look()
    return made


@pytest.fixture
def kept18(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*SHOP, *FILL)
    made = Kept(pg18, open_folder, TENANTS)
    made.look()
    return made


def bring(kept: Kept, to: Database, **wish: object) -> Recovered:
    return recover(kept.vault, kept.vault.resolve(None), to.dsn, Wish(**wish))  # type: ignore[arg-type]


def command(kept: Kept, to: Database, *options: str, fail: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ballast.cli", "recover", "--json", "--vault", kept.url, "--into", to.dsn, *options],
        env={**os.environ, "BALLAST_FAIL": fail},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def halted(kept: Kept, to: Database, at: str, *options: str) -> None:
    """A recovery that was killed there."""
    process = command(kept, to, *options, fail=at)
    out, err = process.communicate(timeout=90)
    assert process.returncode == -9, (out + err).decode()


def first(kept: Kept, *tenants: str) -> str:
    """A file that puts these first."""
    path = kept.state / "first.csv"
    path.write_text("".join(f"{tenant},{rank}\n" for rank, tenant in enumerate(tenants, 1)))
    return str(path)


def refused(db: Database, user: str, *statements: str) -> tuple[str, str]:
    """SQLSTATE and hint with which the last of the statements is refused in one transaction."""
    conn = db.connect(user=user, autocommit=False)
    *before, last = statements
    for statement in before:
        conn.execute(statement.encode())
    with pytest.raises(psycopg.Error) as refusal:
        conn.execute(last.encode())
    conn.rollback()
    return refusal.value.sqlstate or "", refusal.value.diag.message_hint or ""


def test_only_those_that_are_asked_for_come_back_until_it_is_called_off(kept: Kept) -> None:
    to = kept.db.another()
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bring, kept, to, asked_only=over)
        while to.query("SELECT to_regprocedure('ballast.ensure_tenant(text, interval)') IS NOT NULL") != [(True,)]:
            assert not running.done(), running.exception()
        assert ensure(to.dsn, "t5")
        back = to.query("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL")
        over.set()
        halted = running.result(30)

    assert back == [("t5",)]
    assert (halted.left_away, halted.proven) == (8, False)
    assert bring(kept, to).proven
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept.db)


def test_everything_comes_back_and_nothing_of_ours_stays(kept: Kept) -> None:
    source, to = kept.db, kept.db.another()
    recovered = bring(kept, to)
    assert recovered.proven
    assert recovered.tenants == 9
    assert recovered.rows == sum(map(len, contents(source).values()))
    (origin,) = to.query("SELECT vault_id, timeline, lsn::text, finished_at > begun_at FROM ballast_recovery.origin")
    cut = recovered.cut
    assert origin == ("kept", 1, f"{cut.lsn >> 32:X}/{cut.lsn & 0xFFFFFFFF:X}", True)
    assert to.query(LEFT) == [
        ("ballast_recovery",),
        ("ballast_recovery.origin",),
        ("ballast_recovery.origin_only_one",),
    ]
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(source)
    assert structure(to) == structure(source)
    assert to.query(FLAGS) == source.query(FLAGS)
    assert to.query("SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    before, after = sequence_values(source), sequence_values(to)
    assert all(before[name] <= after[name] for name in before)


def test_a_vacuum_of_the_server_itself_does_not_hold_up_the_end(own_server: NewServer) -> None:
    """It holds its table's lock for as long as it takes: minutes for gigabytes that were just put back."""
    slow = "WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    holds = (
        "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'filled'::regclass"
        " AND mode = 'ShareUpdateExclusiveLock' AND query LIKE 'autovacuum: VACUUM%'"
    )
    with (
        own_server(settings={"autovacuum_naptime": "1s"}) as server,
        psycopg.connect(server.dsn(), autocommit=True) as conn,
    ):
        fill = f"CREATE TABLE filled {slow} AS SELECT n, repeat('x', 2000) FROM generate_series(1, 4000) AS n"
        conn.execute(fill.encode())
        for _ in range(600):
            if conn.execute(holds).fetchone() is not None:
                break
            time.sleep(0.05)
        else:
            pytest.fail("no automatic VACUUM came")
        assert any(try_briefly(conn, ["ALTER TABLE filled ENABLE ROW LEVEL SECURITY"]) for _ in range(10))


def test_run_again_when_all_is_done_it_says_so(kept: Kept) -> None:
    to = kept.db.another()
    bring(kept, to)
    again = bring(kept, to)
    assert again.finished_before
    assert again.proven


def test_who_is_not_back_cannot_be_read_as_empty_nor_written_to(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS, "ALTER TABLE item OWNER TO shop_owner", "GRANT USAGE ON SCHEMA public TO shop_owner")
    kept.look()
    halted(kept, to, "recover.gate")
    for user in ("shop_app", "shop_owner"):
        assert refused(to, user, "SELECT * FROM item WHERE tenant = 't3'")[0] == "BL002"
        assert refused(to, user, "SELECT count(*) FROM item")[0] == "BL002"
        state, hint = refused(to, user, "SET ballast.tenant = 't3'", "SELECT * FROM item WHERE tenant = 't3'")
        assert state == "BL001"
        assert "ballast.ensure_tenant('t3')" in hint
        assert refused(to, user, "INSERT INTO item (tenant, id) VALUES ('t3', 1000)")[0] == "BL001"
        assert refused(to, user, "SET ballast.tenant = 't3'", "DELETE FROM item")[0] == "BL001"
    # Through a parent's tenant, a partition and its root, without a key.
    for table in ("line", "comment", "visit", "visit_25"):
        assert refused(to, "shop_app", "SET ballast.tenant = 't3'", f"SELECT * FROM {table}")[0] == "BL001"
    # Not a row of it is there for a filter, or a join that never comes so far, to find.
    assert (
        refused(
            to,
            "shop_app",
            "SET ballast.tenant = 't3'",
            "SELECT FROM item JOIN line ON item.id = item_id WHERE price = 9",
        )[0]
        == "BL001"
    )
    # A new tenant, of whom the record knows nothing, is nobody's to keep out.
    app = to.connect(user="shop_app")
    with app.transaction():
        assert app.execute("SELECT ballast.ensure_tenant('new')").fetchone() == (False,)
        app.execute("INSERT INTO shop VALUES ('new', 'Opened meanwhile')")
        assert app.execute("SELECT name FROM shop").fetchall() == [("Opened meanwhile",)]
    assert bring(kept, to).proven
    assert len(app.execute("SELECT * FROM item WHERE tenant = 't3'").fetchall()) == 7
    app.execute("INSERT INTO item (tenant, price) VALUES ('t3', 4)")
    assert to.query("SELECT name FROM shop WHERE tenant = 'new'") == [("Opened meanwhile",)]


@pytest.mark.parametrize("at", ["restore.tables", "restore.index:3", "recover.chunk"])
def test_nothing_is_to_be_seen_before_the_gate_stands_and_shared_rows_are_there(kept18: Kept, at: str) -> None:
    to = kept18.db.another()
    kept18.db.run(*ROLES, *RIGHTS, "ALTER TABLE item OWNER TO shop_owner", "GRANT USAGE ON SCHEMA public TO shop_owner")
    kept18.db.run('GRANT USAGE ON SCHEMA "Back Office" TO shop_app', 'GRANT ALL ON "Back Office"."Rate" TO shop_app')
    kept18.look()
    halted(kept18, to, at)
    for user in ("shop_app", "shop_owner"):
        assert refused(to, user, "SELECT * FROM item")[0] == "42P01"
    assert all("ballast_restore" in name or "ballast_recovery_" in name for (name,) in to.query(LEFT)), "its own notes"
    halted(kept18, to, "recover.gate")
    app = to.connect(user="shop_app")
    rates = 'SELECT r::text FROM "Back Office"."Rate" r ORDER BY 1'
    assert app.execute(rates.encode()).fetchall() == kept18.db.query(rates) != []
    app.execute('DELETE FROM "Back Office"."Rate"')  # an application at work does not stop what comes after
    assert bring(kept18, to).proven


def test_locks_that_a_stranger_holds_are_named_and_keep_nobody_from_being_heard(kept18: Kept) -> None:
    to = kept18.db.another()
    kept18.db.run("CREATE ROLE mallory LOGIN")
    for number in (1, 2):
        with to.connect(user="mallory") as stranger:
            stranger.execute(f"SELECT pg_advisory_lock_shared({0x62616C6C}, {number})".encode())
            with pytest.raises(RestoreError, match=rf"process {stranger.info.backend_pid} of role mallory"):
                bring(kept18, to)
    with to.connect(user="mallory") as stranger, to.connect() as conn:
        halted(kept18, to, "recover.gate")
        stranger.execute(f"SELECT pg_advisory_lock_shared({BELL}, n) FROM generate_series(0, {MASK}) n".encode())
        bell = Doorbell(conn)
        conn.execute("SET lock_timeout = 0; SET statement_timeout = '2s'")  # who waits now is ended
        assert [bell.listen(lambda tenant: True).sessions for _ in range(2)] == [0, 0]
    assert bring(kept18, to).proven


def test_an_application_that_names_its_tenant_for_its_policies_need_not_change(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS)
    kept.look()
    halted(kept, to, "recover.gate")
    assert refused(to, "shop_app", "SET app.tenant = 't3'", "SELECT * FROM log")[0] == "BL001"
    assert refused(to, "shop_app", "SET app.tenant = 't3'", "SELECT * FROM item")[0] == "BL001"
    assert bring(kept, to).proven
    app = to.connect(user="shop_app")
    app.execute("SET app.tenant = 't3'")
    assert app.execute("SELECT * FROM log").fetchall() == [("t3", "twice")] * 2


def test_a_caller_waits_inside_of_its_transaction_until_its_tenant_is_whole(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS)
    kept.look()
    halted(kept, to, "recover.gate")
    app = to.connect(user="shop_app", autocommit=False)
    seen: list[object] = []

    def visit() -> None:
        seen.append(app.execute("SELECT ballast.ensure_tenant('t5')").fetchone())
        seen.append(app.execute("SELECT count(*) FROM item WHERE tenant = 't5'").fetchone())
        app.execute("INSERT INTO item (tenant, price) VALUES ('t5', 4)")
        app.commit()

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert bring(kept, to).proven
    visitor.join(30)
    assert seen == [(True,), (7,)]
    assert to.query("SELECT count(*) FROM item WHERE tenant = 't5'") == [(8,)]
    assert ensure(to.dsn, "t5")
    assert ensure(to.dsn, "whoever")


def test_callers_are_told_when_it_takes_too_long_or_cannot_be(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS)
    kept.look()
    halted(kept, to, "recover.gate")
    with pytest.raises(RestoreError, match='tenant "t5" did not come back within') as late:
        ensure(to.dsn, "t5", timeout_s=0.1)
    assert "is ballast recover running" in late.value.do
    state, hint = refused(
        to, "shop_app", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT ballast.ensure_tenant('t5')"
    )
    assert (state, "READ COMMITTED" in hint) == ("BL003", True)


def test_roles_for_which_the_gate_does_not_hold_are_named_before_it_opens(kept18: Kept) -> None:
    to = kept18.db.another()
    kept18.db.run(
        *ROLES,
        *RIGHTS,
        "ALTER TABLE item OWNER TO shop_owner",
        "CREATE ROLE shop_root LOGIN SUPERUSER",
        "GRANT SELECT ON item TO shop_root",
        "CREATE ROLE shop_reports LOGIN BYPASSRLS IN ROLE shop_app",
        "CREATE ROLE shop_batch BYPASSRLS IN ROLE shop_app",
        "CREATE ROLE somebody LOGIN SUPERUSER",
    )
    kept18.look()
    process = command(kept18, to)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err.decode()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    (told,) = (n for n, line in enumerate(lines) if "pass the gate" in line.get("said", ""))
    assert told < lines.index({"opened": True})
    assert "shop_reports (BYPASSRLS), shop_root (superuser)" in lines[told]["said"]
    for role in ("shop_app", "shop_owner", "shop_batch", "somebody"):
        assert f"{role} (" not in lines[told]["said"]
    assert any("pass the gate" in line for line in lines[-1]["report"]["warnings"])


def test_priorities_by_a_query_over_the_shared_tables(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(
        "CREATE TABLE plan (code text PRIMARY KEY, shop text, fee int)", "INSERT INTO plan VALUES ('p', 't7', 90)"
    )
    kept.registry.tenants = TENANTS  # type: ignore[attr-defined]
    kept.look()
    query = "SELECT shop, -fee FROM plan"
    halted(kept, to, "recover.committed:2", "-j", "1", "--priority-query", query)
    assert to.query("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL") == [("t7",)]
    with pytest.raises(ConfigError, match="the query for priorities failed"):
        bring(kept, to, priority=Priority(query="SELECT nothing FROM plan"))
    with pytest.raises(ConfigError, match="read-only"):
        bring(kept, to, priority=Priority(query="DELETE FROM plan RETURNING shop"))
    assert bring(kept, to).proven


def test_anybody_may_read_how_far_it_is(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS)
    kept.look()
    process = command(kept, to)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err.decode()
    lines = [json.loads(line) for line in out.decode().splitlines()]
    told = [line["progress"] for line in lines if "progress" in line]
    assert told[-1]["tenants_back"] == told[-1]["tenants"] == 9
    assert told[-1]["rows_back"] == lines[-1]["report"]["rows"]
    assert {"opened": True} in lines
    assert lines[-1]["proven"]
    other = kept.db.another()
    halted(kept, other, "recover.open")
    app = other.connect(user="shop_app")
    assert app.execute("SELECT tenants, tenants_back FROM ballast_recovery.progress").fetchone() == (9, 9)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("SELECT tenant FROM ballast_recovery.tenant")


def test_plans_that_a_session_keeps_do_not_read_a_missing_tenant_as_empty(kept: Kept) -> None:
    to = kept.db.another()
    kept.db.run(*ROLES, *RIGHTS)
    kept.look()
    halted(kept, to, "recover.committed:2", "-j", "1", "--priority", first(kept, "t6"))
    back, missing = "t6", "t3"
    assert to.query("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL") == [(back,)]
    app = to.connect(user="shop_app", prepare_threshold=0)
    for setting, query in (
        # By the application's own policy and without a parameter: the plan is kept from one tenant to the next.
        ("app.tenant", "SELECT * FROM log"),
        ("ballast.tenant", "SELECT * FROM item WHERE tenant = %s"),
        ("ballast.tenant", "SELECT * FROM item WHERE id = 1000 AND tenant = %s"),
    ):
        for _ in range(8):
            app.execute("SELECT set_config(%s, %s, false)", (setting, back))
            app.execute(query, (back,) if "%s" in query else None)
        app.execute("SELECT set_config(%s, %s, false)", (setting, missing))
        with pytest.raises(psycopg.Error) as refusal:
            app.execute(query, (missing,) if "%s" in query else None)
        assert refusal.value.sqlstate == "BL001", query
        app.execute("SELECT set_config(%s, '', false)", (setting,))


def test_rows_that_come_back_carry_an_origin_and_those_written_since_do_not(
    own_server: NewServer, kept18: Kept
) -> None:
    server = own_server(settings={"wal_level": "logical"})
    server.start()
    to = Database(server, 18, "postgres")
    try:
        to.run(
            "CREATE PUBLICATION new FOR TABLES IN SCHEMA public",
            "SELECT pg_create_logical_replication_slot('new', 'pgoutput')",
        )
        assert recover(kept18.vault, kept18.vault.resolve(None), to.dsn).proven
        to.run("INSERT INTO shop VALUES ('new', 'since')")
        told = to.query(
            "SELECT data FROM pg_logical_slot_get_binary_changes('new', NULL, NULL,"
            " 'proto_version', '1', 'publication_names', 'new', 'origin', 'none')"
        )
        inserted = [bytes(data) for (data,) in told if bytes(data)[:1] == b"I"]
        assert len(inserted) == 1
        assert b"since" in inserted[0]
    finally:
        server.discard()


def test_a_tenant_that_cannot_come_back_is_named_and_the_others_do(kept18: Kept) -> None:
    to = kept18.db.another()
    halted(kept18, to, "recover.gate")
    # What the application wrote meanwhile stands where a recorded row was.
    to.run(
        "SET session_replication_role = replica;"
        " INSERT INTO line (id, item_tenant, item_id) OVERRIDING SYSTEM VALUE VALUES (1, 'new', 1)"
    )
    recovered = bring(kept18, to)
    assert not recovered.proven
    (failure,) = recovered.failures
    assert re.match(r"tenant t\d: .*duplicate key value", failure)
    tenant = failure.split()[1][:-1]
    with pytest.raises(RestoreError, match=r"could not be brought back: .*duplicate key"):
        ensure(to.dsn, tenant)
    assert ensure(to.dsn, "t9" if tenant != "t9" else "t8")
    to.run("DELETE FROM line WHERE id = 1")
    assert bring(kept18, to).proven
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept18.db)


def test_a_foreign_key_that_does_not_hold_is_left_unvalidated_and_named(kept18: Kept) -> None:
    to = kept18.db.another()
    kept18.db.run("SET session_replication_role = replica; DELETE FROM item WHERE tenant = 't2' AND price = 3")
    kept18.look()
    recovered = bring(kept18, to)
    assert not recovered.proven
    assert any("line" in line and "left NOT VALID" in line for line in recovered.broken_foreign_keys)
    to.run("SET session_replication_role = replica; DELETE FROM comment; DELETE FROM line")
    assert bring(kept18, to).proven


def test_what_cannot_be_a_target_is_said_before_anything_is_written(kept18: Kept, pg16: Database) -> None:
    full = kept18.db.another()
    full.run("CREATE TABLE mine (x int)")
    with pytest.raises(RestoreError, match=r"the target is not empty: it has 1 tables \(public.mine\)"):
        bring(kept18, full)
    with pytest.raises(RestoreError, match="the target is PostgreSQL 16, and the recorded database was 18"):
        bring(kept18, pg16)
    poor = kept18.db.another()
    poor.run("CREATE ROLE poor LOGIN")
    with pytest.raises(RestoreError, match="the role poor would be held up by the gate"):
        recover(kept18.vault, kept18.vault.resolve(None), poor.dsn_as("poor"))
    poor.run("ALTER ROLE poor BYPASSRLS")
    with pytest.raises(RestoreError, match="may not restore here") as refusal:
        recover(kept18.vault, kept18.vault.resolve(None), poor.dsn_as("poor"))
    assert "GRANT CREATE ON DATABASE" in refusal.value.do
    for db in (full, poor, pg16):
        assert db.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%'") == []


def test_another_kind_of_restore_does_not_mix_in(kept18: Kept) -> None:
    to = kept18.db.another()
    halted(kept18, to, "recover.committed:2")
    with pytest.raises(RestoreError, match="another recovery on demand was begun in this database"):
        restore(kept18.vault, kept18.vault.resolve(None), to.dsn, Request())
    assert bring(kept18, to).proven


def test_a_vault_that_cannot_be_read_in_the_middle_stops_it_and_mended_it_goes_on(kept18: Kept) -> None:
    to = kept18.db.another()
    halted(kept18, to, "recover.committed:2", "-j", "1", "--priority", first(kept18, "t6"))
    runs = [run.object.name for image in kept18.vault.index.images for run in image.runs]
    spared = {name: (Path(kept18.url) / name).read_bytes() for name in runs}
    for name, data in spared.items():
        (Path(kept18.url) / name).write_bytes(data[:100] + bytes(len(data) - 100))
    with pytest.raises(IntegrityError):
        recover(Vault.open(kept18.url), kept18.vault.resolve(None), to.dsn)
    for name, data in spared.items():
        (Path(kept18.url) / name).write_bytes(data)
    assert bring(kept18, to).proven


def test_a_stranger_in_our_schema_is_refused(kept18: Kept) -> None:
    to = kept18.db.another()
    to.run("CREATE ROLE stranger", "CREATE SCHEMA ballast_recovery AUTHORIZATION stranger")
    with pytest.raises(BallastError, match="the schema ballast_recovery belongs to role stranger"):
        bring(kept18, to)


def test_a_loss_in_the_middle_of_a_recovery_leaves_no_gate_in_the_second_one(kept18: Kept, open_folder: Path) -> None:
    lost = kept18.db.another()
    halted(kept18, lost, "recover.gate")
    again = Kept(lost, open_folder / "again", TENANTS)
    again.look()
    to = kept18.db.another()
    halfway = restore(again.vault, again.vault.resolve(None), to.dsn, Request(tables=("public.shop", "public.log")))
    assert halfway.schema_rebuilt
    assert structure(to) == structure(kept18.db)
    assert to.query(FLAGS) == kept18.db.query(FLAGS)
    assert to.query(LEFT) == []


def test_a_tenant_that_is_not_back_cannot_be_rewound(kept18: Kept) -> None:
    """Its rows would be taken for deleted, and put back in the way of the recovery, which could not bring it back any more."""
    to = kept18.db.another()
    halted(kept18, to, "recover.committed:2", "-j", "1", "--priority", first(kept18, "t6"))
    resolved = kept18.vault.resolve(None)
    for dry_run in (True, False):
        with pytest.raises(RestoreError, match='tenant "t3" is not back yet'):
            rewind(kept18.vault, resolved, to.dsn, Rewinding("t3", dry_run=dry_run))
    to.run("DELETE FROM log WHERE tenant = 't6'")
    assert rewind(kept18.vault, resolved, to.dsn, Rewinding("t6")).done
    assert bring(kept18, to).proven
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept18.db)
