"""A drill of a protected database: equal where all is well; and each way in which it can be otherwise is found and named."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ballast.errors import BallastError, GapError
from ballast.postgres import EmbeddedServer, connect
from ballast.recovery import Difference, DrillOutcome, DrillRequest, Request, Wish, drill, recover, restore
from ballast.recovery.around import lines, unlike
from ballast.recovery.drill import COMPARING
from ballast.vault import config
from ballast.vault.config import Tenants
from ballast.vault.drilled import DRILLED_FILE, Drilled, history
from ballast.vault.health import read_state
from ballast.vault.moment import show
from ballast.vault.status import status
from ballast.vault.unprotect import unprotect
from tests.commands import ballast
from tests.deep import mostly_deep
from tests.fix_postgres import Database
from tests.fix_protected import Protected, Silent

pytestmark = pytest.mark.any_version

TABLES = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text NOT NULL CHECK (name <> ''))",
    "CREATE TABLE item (shop int NOT NULL REFERENCES shop, id bigserial, body text, price numeric(12,2),"
    " twice numeric GENERATED ALWAYS AS (price * 2) STORED, PRIMARY KEY (shop, id))",
    "CREATE TABLE part (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, item_shop int, item_id bigint, n int,"
    " FOREIGN KEY (item_shop, item_id) REFERENCES item ON DELETE CASCADE)",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (shop int, said text)",
    "CREATE TABLE visit (shop int, day date, n int, PRIMARY KEY (shop, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(1, 8) g",
    "INSERT INTO item (shop, body, price) SELECT s, repeat(md5(g::text), g), g / 3.0"
    " FROM generate_series(1, 8) s, generate_series(1, 9) g",
    "INSERT INTO part (item_shop, item_id, n) SELECT shop, id, 1 FROM item, generate_series(1, 3)",
    "INSERT INTO word VALUES ('a', 'b'), ('c', NULL)",
    "INSERT INTO log SELECT g % 9, 'same' FROM generate_series(1, 36) g",
    "INSERT INTO log VALUES (NULL, 'nobody')",
    "INSERT INTO visit SELECT s, '2026-01-01'::date + 5 * g, g FROM generate_series(1, 8) s, generate_series(0, 10) g",
)
LATER = (
    "UPDATE item SET price = price + 1 WHERE id % 2 = 0",
    "DELETE FROM log WHERE ctid = '(0,3)'",
    "UPDATE part SET n = n + 1 WHERE id % 7 = 0",
    "INSERT INTO shop VALUES (9, E'tab\\t')",
    "INSERT INTO item (shop, body) VALUES (9, NULL)",
)


class Tampering(Silent):
    """A watcher that does something to the scratch server when all is restored and nothing is compared yet."""

    def __init__(self, folder: Path, *statements: str) -> None:
        self._folder, self._statements = folder, statements
        self.server: EmbeddedServer | None = None

    def begin(self, stage: str, rows: int) -> None:
        if stage == COMPARING:
            (lock,) = self._folder.glob("ballast-drill-*/server/lock")
            self.server = EmbeddedServer(lock.parent)
            with psycopg.connect(self.server.dsn("drill"), autocommit=True) as conn:
                conn.execute("SET session_replication_role = replica")
                for statement in self._statements:
                    assert conn.execute(statement.encode()).rowcount != 0, statement


@pytest.fixture
def protected(pg: Database, new_protected: Callable[..., Protected]) -> Protected:
    pg.run(*TABLES)
    made = new_protected(pg, Tenants(column="shop", shared=("public.word",)))
    made.protect()
    made.start()
    pg.run(*LATER)
    return made


@pytest.fixture
def place(open_folder: Path) -> Path:
    """Where scratch servers are made."""
    folder = open_folder / "drills"
    folder.mkdir()
    return folder


def run(protected: Protected, place: Path, *tampering: str, **order: object) -> DrillOutcome:
    outcome = drill(protected.config, DrillRequest(scratch=place, **order), Tampering(place, *tampering))  # type: ignore[arg-type]
    assert not list(place.iterdir()), "nothing is left behind"
    return outcome


def only(outcome: DrillOutcome) -> Difference:
    assert not outcome.drilled.equal
    assert len(outcome.differences) == 1, outcome.differences
    return outcome.differences[0]


def test_all_tenants_are_equal_and_the_vault_keeps_how_it_went(protected: Protected, place: Path) -> None:
    done = ballast(
        "drill", "--all", "--json", "--config", str(protected.config_path), "--scratch", str(place), "--seed", "7"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["equal"], said
    found = said["drilled"]
    assert (found["tenants"], found["tenants_known"], found["tables"]) == (10, 10, 7)
    ((rows,),) = protected.db.query(
        "SELECT (SELECT count(*) FROM shop) + (SELECT count(*) FROM item) + (SELECT count(*) FROM part)"
        " + (SELECT count(*) FROM word) + (SELECT count(*) FROM log) + (SELECT count(*) FROM visit)"
    )
    assert found["rows"] == rows
    assert found["server_s"] <= found["first_tenant_s"] <= found["half_s"] <= found["all_s"] < found["total_s"]
    assert found["recorder_behind_bytes"] is not None
    assert found["production_version"] // 10000 == found["scratch_version"] // 10000 == protected.db.major
    assert not found["warnings"], found["warnings"]
    assert not list(place.iterdir())
    vault = protected.vault()
    (kept,) = history(vault.index.notes)
    assert (kept.equal, kept.seed, kept.lsn) == (True, 7, found["lsn"])
    protected.verified()
    looked = status(protected.config)
    assert looked.drilled == kept
    assert looked.protected, looked.verdict
    shown = ballast("status", "--config", str(protected.config_path)).stdout
    assert "10 of 10 tenants: equal" in " ".join(shown.split())


def test_a_sample_is_chosen_by_its_seed_and_always_with_the_shared_rows(protected: Protected, place: Path) -> None:
    first = run(protected, place, tenants=3, seed=5)
    assert first.drilled.equal, first.differences
    assert (len(first.sampled), first.drilled.tenants_known) == (3, 10)
    again = run(protected, place, "DELETE FROM word WHERE code = 'a'", tenants=3, seed=5)
    assert again.sampled == first.sampled
    found = only(again)
    assert (found.kind, found.table, found.tenant, found.key) == ("row missing", "public.word", None, "(a)")
    assert (found.production, found.restored) == (2, 1)


@pytest.mark.parametrize("everybody", [False, True], ids=["sample", "all"])
def test_a_single_flipped_byte_on_the_restored_side(protected: Protected, place: Path, everybody: bool) -> None:
    flip = "UPDATE item SET body = overlay(body PLACING chr(ascii(substr(body, 17, 1)) # 1) FROM 17) WHERE shop = 4 AND id = 30"
    found = only(run(protected, place, flip, tenants=None if everybody else 10))
    assert (found.kind, found.table, found.tenant, found.key) == ("row changed", "public.item", "4", "(4,30)")
    assert (found.production, found.restored, found.count) == (9, 9, 1)
    assert "in body" in found.what
    assert repr("4") in found.what


@pytest.mark.parametrize("everybody", [False, True], ids=["sample", "all"])
def test_a_single_missing_row(protected: Protected, place: Path, everybody: bool) -> None:
    found = only(run(protected, place, "DELETE FROM part WHERE id = 100", tenants=None if everybody else 10))
    ((shop,),) = protected.db.query("SELECT item_shop::text FROM part WHERE id = 100")
    assert (found.kind, found.table, found.tenant, found.key) == ("row missing", "public.part", shop, "(100)")
    assert (found.production, found.restored) == (27, 26)


def test_a_row_without_a_key_that_is_there_once_too_often(protected: Protected, place: Path) -> None:
    found = only(run(protected, place, "INSERT INTO log VALUES (5, 'same')", tenants=None))
    assert (found.kind, found.table, found.tenant, found.key) == ("row too many", "public.log", "5", None)
    assert found.restored == (found.production or 0) + 1


def test_one_value_changed_behind_the_recorders_back(protected: Protected, place: Path) -> None:
    with protected.session() as conn:
        conn.execute("SELECT pg_replication_origin_create('elsewhere')")
        conn.execute("SELECT pg_replication_origin_session_setup('elsewhere')")  # the stream leaves these out
        conn.execute("UPDATE visit SET n = 77 WHERE shop = 3 AND day = '2026-02-05'")
    done = ballast("drill", "--all", "--json", "--config", str(protected.config_path), "--scratch", str(place))
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    (found,) = said["differences"]
    assert (found["kind"], found["tenant"], found["table"]) == ("row changed", "3", "public.visit_2")
    assert found["key"] == "(3,2026-02-05)"
    assert not list(place.iterdir())
    looked = status(protected.config)
    assert not looked.protected
    assert "drill" in looked.verdict.headline
    assert "visit_2" in looked.verdict.headline
    # A smaller drill afterwards must not make it forgotten.
    smaller = run(protected, place, tenants=1, seed=1)
    assert smaller.sampled[0] != "3"
    assert only(smaller).tenant == "3"
    assert not status(protected.config).protected
    # What status advises puts it right.
    protected.stop()
    unprotect(protected.config, protected.db.dsn)
    protected.protect()
    protected.start()
    protected.wishes_granted()
    assert run(protected, place, tenants=None).drilled.equal
    assert status(protected.config).protected


def test_a_tenant_that_the_vault_has_never_heard_of(protected: Protected, place: Path) -> None:
    with protected.session() as conn:
        conn.execute("SELECT pg_replication_origin_create('elsewhere')")
        conn.execute("SELECT pg_replication_origin_session_setup('elsewhere')")
        conn.execute("INSERT INTO shop VALUES (4711, 'unseen')")
    outcome = run(protected, place, tenants=11)
    assert "4711" in outcome.sampled
    found = only(outcome)
    assert (found.kind, found.tenant, found.production, found.restored) == ("row missing", "4711", 1, 0)


def test_a_sequence_behind(protected: Protected, place: Path) -> None:
    outcome = run(protected, place, "SELECT setval('public.item_id_seq', 1)", tenants=10)
    kinds = {(d.kind, d.restored) for d in outcome.differences}
    assert kinds == {("sequence", 1)}, outcome.differences
    assert any("was recorded" in d.what for d in outcome.differences)
    assert any("behind 73 in column id of public.item" in d.what for d in outcome.differences)


def test_a_constraint_that_does_not_hold_and_an_index_that_is_gone(protected: Protected, place: Path) -> None:
    outcome = run(
        protected, place, "ALTER TABLE shop DROP CONSTRAINT shop_name_check",
        "ALTER TABLE shop ADD CONSTRAINT shop_name_check CHECK (name <> '') NOT VALID", tenants=None,
    )  # fmt: skip
    found = only(outcome)
    assert (found.kind, found.table) == ("constraint", "public.shop")
    assert "NOT VALID" in found.what
    outcome = run(protected, place, "DELETE FROM shop WHERE shop = 2", tenants=None)
    assert {d.kind for d in outcome.differences} == {"row missing", "foreign key"}, outcome.differences


def test_writers_go_on_while_a_drill_reads(protected: Protected, place: Path) -> None:
    class Writing(Silent):
        written = 0

        def begin(self, stage: str, rows: int) -> None:
            with protected.session() as conn:
                conn.execute("SET lock_timeout = '2s'")
                conn.execute("UPDATE item SET price = price + 1 WHERE shop = 1")
                conn.execute("INSERT INTO log VALUES (1, %s)", [stage])
                Writing.written += 1

    outcome = drill(protected.config, DrillRequest(tenants=None, scratch=place), Writing())
    assert outcome.drilled.equal, outcome.differences
    assert Writing.written >= 5
    assert outcome.drilled.vault_behind_bytes


def test_without_its_recorder_it_says_so_and_status_remembers(protected: Protected, place: Path) -> None:
    protected.kill()
    with pytest.raises(GapError, match="no recorder runs"):
        drill(protected.config, DrillRequest(scratch=place))
    assert not list(place.iterdir())
    tried = read_state(protected.config.state_dir, DRILLED_FILE, Drilled)
    assert tried is not None
    assert "no recorder runs" in tried.failure
    assert not tried.equal


def test_a_kept_scratch_server_can_be_started_and_looked_at(protected: Protected, place: Path) -> None:
    done = ballast(
        "drill", "--tenants", "2", "--keep", "--json", "--config", str(protected.config_path), "--scratch", str(place)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = Path(json.loads(done.stdout)["kept"])
    with EmbeddedServer(kept / "server", major=protected.db.major) as server:
        with psycopg.connect(server.dsn("drill")) as conn:
            assert conn.execute("SELECT count(*) FROM public.word").fetchone() == (2,)


def test_the_recorder_holds_drills_and_raises_an_alarm(
    protected: Protected, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    done = ballast("drill", "--every", "10s", "--all", "--config", str(protected.config_path))
    assert done.returncode == 0, done.stderr
    record = config.load(protected.config_path).record
    assert (record.drill_every, record.drill_tenants, record.drill_every_s) == ("10s", 0, 10)
    protected.stop()
    protected.start()
    state = protected.config.state_dir

    def last() -> Drilled | None:
        return read_state(state, DRILLED_FILE, Drilled)

    protected.until(lambda: (found := last()) is not None and found.equal, "a drill", 90)
    with protected.session() as conn:
        conn.execute("SELECT pg_replication_origin_create('elsewhere')")
        conn.execute("SELECT pg_replication_origin_session_setup('elsewhere')")
        conn.execute("DELETE FROM visit WHERE shop = 3 AND day = '2026-02-05'")
    protected.until(lambda: (found := last()) is not None and not found.equal, "the drill after", 90)
    protected.until(lambda: '"event":"drill_failed"' in protected.log_path.read_text(), "the alarm")
    lines = [json.loads(line) for line in protected.log_path.read_text().splitlines() if "drill_failed" in line]
    assert lines[0]["level"] == "alarm"
    assert "public.visit_2" in lines[0]["named"][0]
    assert len(history(protected.vault().index.notes)) >= 2
    protected.stop()


@pytest.mark.parametrize(
    "number", mostly_deep([signal.SIGTERM, signal.SIGINT, signal.SIGKILL], signal.SIGTERM, signal.SIGKILL)
)
def test_ended_by_a_signal_it_leaves_nothing_behind(protected: Protected, place: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "ballast.cli", "drill", "--all", "--config", str(protected.config_path)]
    process = subprocess.Popen([*command, "--scratch", str(place)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    protected.until(lambda: list(place.glob("ballast-drill-*/server/pgdata/postmaster.pid")), "the scratch server")
    (noted,) = place.glob("ballast-drill-*/server/pgdata/postmaster.pid")
    time.sleep(0.3)
    postmaster = int(noted.read_text().split()[0]) if noted.exists() else None
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGKILL:  # nobody can clean up then but the next one
        assert list(place.iterdir())
        run(protected, place, tenants=1)
    assert not list(place.iterdir())
    if postmaster is not None:
        protected.until(lambda: not _lives(postmaster), "the scratch server to be gone", 10)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_failing_restore_is_found_too(protected: Protected, place: Path) -> None:
    class Refusing(Silent):
        def begin(self, stage: str, rows: int) -> None:
            if stage == "tenants":
                (lock,) = place.glob("ballast-drill-*/server/lock")
                with psycopg.connect(EmbeddedServer(lock.parent).dsn("drill"), autocommit=True) as conn:
                    conn.execute("ALTER TABLE item ADD CONSTRAINT no_more CHECK (shop NOT IN (3, 6)) NOT VALID")

    try:
        outcome = drill(protected.config, DrillRequest(tenants=None, scratch=place, seed=11), Refusing())
    except BallastError as error:
        pytest.fail(str(error))
    failed = {d.tenant for d in outcome.differences if d.kind == "restore"}
    assert failed <= {"3", "6"}
    assert failed
    assert outcome.drilled.all_s is None
    assert not list(place.iterdir())


def test_a_database_of_another_encoding(pg18: Database, new_protected: Callable[..., Protected], place: Path) -> None:
    with psycopg.connect(pg18.server.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS old_latin")
        admin.execute("CREATE DATABASE old_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    latin = Database(pg18.server, 18, "old_latin")
    latin.run(
        "SET client_encoding = 'UTF8'",
        "CREATE TABLE shop (shop text PRIMARY KEY, name text)",
        "INSERT INTO shop VALUES ('caf\u00e9', '\u00fc')",
    )
    protected = new_protected(latin, Tenants(column="shop"))
    protected.protect()
    protected.start()
    outcome = run(protected, place, tenants=None)
    assert outcome.drilled.equal, outcome.differences
    assert outcome.sampled == ("caf\u00e9",)
    found = only(run(protected, place, "UPDATE shop SET name = 'u'", tenants=None))
    assert (found.tenant, found.key) == ("caf\u00e9", "(caf\u00e9)")


def test_tenants_that_are_no_value_of_every_tables_column(
    pg18: Database, new_protected: Callable[..., Protected], place: Path
) -> None:
    pg18.run(
        "CREATE TABLE shop (shop text PRIMARY KEY, name text)", "INSERT INTO shop VALUES ('7', 'x'), ('seven', 'y'), ('', 'z')",
        "CREATE TABLE hit (shop int, id int PRIMARY KEY)", "INSERT INTO hit VALUES (7, 1), (NULL, 2)",
        "CREATE TABLE price (shop numeric, id int PRIMARY KEY)", "INSERT INTO price VALUES (1.0, 1), (1.00, 2), (1.0, 3)",
    )  # fmt: skip
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    protected.start()
    for tenants in (None, 100):
        outcome = run(protected, place, tenants=tenants)
        assert outcome.drilled.equal, outcome.differences
        assert set(outcome.sampled) == {"7", "seven", "", "1.0", "1.00"}
    found = only(run(protected, place, "DELETE FROM price WHERE id = 2", tenants=100))
    assert (found.tenant, found.production, found.restored) == ("1.00", 1, 0)


def test_what_was_changed_in_the_structure_just_before(protected: Protected, place: Path) -> None:
    protected.db.run(
        "CREATE INDEX item_price ON item (price) WHERE price > 1",
        "ALTER TABLE shop ADD CONSTRAINT short CHECK (length(name) < 100)",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE word ADD COLUMN more int DEFAULT one()",
        "CREATE TABLE later (shop int REFERENCES shop, id bigserial PRIMARY KEY)",
        "INSERT INTO later (shop) VALUES (3), (4)",
    )
    outcome = run(protected, place, tenants=None)
    assert outcome.drilled.equal, outcome.differences
    assert not outcome.drilled.warnings, outcome.drilled.warnings
    assert outcome.drilled.tables == 8


AROUND = (
    "CREATE ROLE drill_owner NOLOGIN", "CREATE ROLE drill_app LOGIN", "CREATE ROLE drill_clerk LOGIN IN ROLE drill_app",
    "ALTER ROLE drill_clerk SET search_path = desk, pg_catalog", "ALTER ROLE drill_clerk SET statement_timeout = '7s'",
    "ALTER ROLE drill_clerk SET desk.jwt = 's3cret, the first'",
    "CREATE SCHEMA desk AUTHORIZATION drill_owner", "GRANT USAGE ON SCHEMA desk, public TO drill_app",
    "CREATE FUNCTION desk.shop() RETURNS int LANGUAGE sql STABLE RETURN current_setting('desk.shop', true)::int",
    "REVOKE EXECUTE ON FUNCTION desk.shop() FROM PUBLIC", "GRANT EXECUTE ON FUNCTION desk.shop() TO drill_app",
    "CREATE FUNCTION desk.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog"
    " AS $$BEGIN NEW.said := coalesce(NEW.said, ''); RETURN NEW; END$$",
    "CREATE AGGREGATE desk.total(numeric) (SFUNC = numeric_add, STYPE = numeric)",
    "CREATE TABLE desk.note (shop int NOT NULL DEFAULT desk.shop(), id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,"
    " state varchar(9) CHECK (state IN ('new', 'it''s')), said text COLLATE \"C\" DEFAULT 'x',"
    " size int GENERATED ALWAYS AS (length(said)) STORED)",
    "INSERT INTO desk.note (shop, state) SELECT g, 'new' FROM generate_series(1, 8) g",
    "ALTER TABLE desk.note OWNER TO drill_owner",
    "ALTER TABLE desk.note ENABLE ROW LEVEL SECURITY", "ALTER TABLE desk.note FORCE ROW LEVEL SECURITY",
    "CREATE POLICY of_shop ON desk.note TO drill_app USING (shop = desk.shop()) WITH CHECK (shop = desk.shop())",
    "CREATE POLICY kept ON desk.note AS RESTRICTIVE FOR DELETE TO drill_app USING (state IN ('new', 'old'))",
    "GRANT SELECT, INSERT ON desk.note TO drill_app WITH GRANT OPTION", "GRANT UPDATE (said) ON desk.note TO drill_clerk",
    "CREATE TRIGGER stamp BEFORE INSERT ON desk.note FOR EACH ROW WHEN (NEW.state IN ('new', 'old')) EXECUTE FUNCTION desk.stamp()",
    "CREATE TRIGGER asleep BEFORE UPDATE ON desk.note FOR EACH ROW EXECUTE FUNCTION desk.stamp()",
    "ALTER TABLE desk.note DISABLE TRIGGER asleep",
    "CREATE VIEW desk.mine WITH (security_invoker = true, security_barrier = true) AS SELECT * FROM desk.note"
    " WHERE state IN ('new', 'old')",
    "CREATE RULE quiet AS ON DELETE TO desk.mine DO INSTEAD NOTHING", "GRANT SELECT ON desk.mine TO drill_app",
    "CREATE MATERIALIZED VIEW desk.counted AS SELECT shop, count(*) FROM desk.note GROUP BY shop",
    "ALTER DEFAULT PRIVILEGES FOR ROLE drill_owner IN SCHEMA desk GRANT SELECT ON TABLES TO drill_app",
    "CREATE FUNCTION desk.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "CREATE EVENT TRIGGER desk_watch ON ddl_command_end WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION desk.watch()",
    "CREATE TRIGGER stamp BEFORE UPDATE ON visit FOR EACH ROW WHEN (false) EXECUTE FUNCTION desk.stamp()",
)  # fmt: skip


@pytest.mark.parametrize("everybody", [False, True], ids=["sample", "all"])
def test_what_stands_around_the_rows_comes_back(protected: Protected, place: Path, everybody: bool) -> None:
    protected.db.run(*AROUND)
    with protected.session() as conn:
        conn.execute("CREATE TEMPORARY TABLE mine (id int PRIMARY KEY CHECK (id > 0))")
        outcome = run(protected, place, tenants=None if everybody else 3)
        assert outcome.drilled.equal, outcome.differences


def test_each_thing_around_the_rows_that_is_otherwise_is_named(protected: Protected, place: Path) -> None:
    protected.db.run(*AROUND)
    outcome = run(
        protected, place,
        "DROP POLICY of_shop ON desk.note",
        "ALTER POLICY kept ON desk.note USING (true)",
        "CREATE POLICY all_open ON item USING (true)",
        "ALTER TABLE desk.note NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE desk.note ENABLE TRIGGER asleep",
        "DROP TRIGGER stamp ON desk.note",
        "DROP RULE quiet ON desk.mine",
        "DROP EVENT TRIGGER desk_watch",
        "ALTER VIEW desk.mine SET (security_invoker = false)",
        "GRANT EXECUTE ON FUNCTION desk.shop() TO PUBLIC",
        "REVOKE UPDATE (said) ON desk.note FROM drill_clerk",
        "GRANT DELETE ON desk.note TO drill_app",
        "ALTER TABLE desk.note ALTER shop SET DEFAULT 1",
        "ALTER FUNCTION desk.stamp() SECURITY INVOKER",
        "ALTER FUNCTION desk.watch() OWNER TO drill_owner",
        "ALTER DEFAULT PRIVILEGES FOR ROLE drill_owner IN SCHEMA desk REVOKE SELECT ON TABLES FROM drill_app",
        "ALTER ROLE drill_app BYPASSRLS",
        "REVOKE drill_app FROM drill_clerk",
        "ALTER ROLE drill_clerk SET statement_timeout = '8s'",
        "CREATE INDEX item_body ON item (body)",
        tenants=None,
    )  # fmt: skip
    assert {d.what.partition(" is ")[0].partition(" was ")[0] for d in outcome.differences} == {
        'policy "of_shop" of desk.note', 'policy "kept" of desk.note', 'policy "all_open" of public.item',
        "row-level security of desk.note", 'trigger "asleep" of desk.note', 'trigger "stamp" of desk.note',
        'rule "quiet" of desk.mine', 'event trigger "desk_watch"', "view desk.mine", "rights of PUBLIC on function desk.shop()",
        "rights of drill_clerk on column desk.note.said", "rights of drill_app on desk.note", "column desk.note.shop",
        "function desk.stamp()", "owner of function desk.watch()", "rights of postgres on function desk.watch()",
        "rights of drill_owner on function desk.watch()", "rights of drill_app on what drill_owner makes later in desk (r)",
        "role drill_app", "membership of drill_clerk in drill_app", "settings of role drill_clerk", 'index "item_body" of public.item',
    }  # fmt: skip
    (policy,) = (d for d in outcome.differences if "of_shop" in d.what)
    assert (policy.kind, policy.table) == ("policy", "desk.note")
    assert "was not restored" in policy.what
    looked = status(protected.config)
    assert not looked.protected
    assert "drill" in looked.verdict.headline


def test_the_value_of_a_setting_is_shown_nowhere(protected: Protected, place: Path) -> None:
    protected.db.run(*AROUND)
    outcome = run(protected, place, "ALTER ROLE drill_clerk SET desk.jwt = 's3cret, the second'", tenants=1)
    assert [d.what for d in outcome.differences] == [
        "settings of role drill_clerk (desk.jwt, search_path, statement_timeout) have other values on production than restored"
    ]
    notes = [entry.body for entry in protected.vault().ledger.read(0)]
    kept = [path.read_text() for path in protected.config.state_dir.glob("*.json")]
    assert not [told for told in (repr(outcome), repr(notes), *kept) if "s3cret" in told]


@pytest.mark.parametrize("on_demand", [False, True], ids=["restore", "recover"])
def test_a_restored_platform_has_all_that_stood_around_its_rows(protected: Protected, on_demand: bool) -> None:
    protected.db.run(*AROUND)
    with connect(protected.db.dsn) as conn:
        before = lines(conn)
    cut = protected.look().cut
    protected.sealed(cut)
    protected.wishes_granted()  # the dump
    to, vault = protected.db.another(), protected.vault()
    resolved = vault.resolve(show(cut))
    if on_demand:
        assert recover(vault, resolved, to.dsn, Wish()).proven
    else:
        restore(vault, resolved, to.dsn, Request())
    with connect(to.dsn) as conn:
        found = unlike(before, lines(conn), sampled=False, same_major=True)
    assert not found, found


@pytest.mark.parametrize(
    "command",
    mostly_deep(
        [
            "CREATE POLICY of_shop ON item USING (true)", "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
            "GRANT SELECT ON item TO PUBLIC", "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE INDEX item_price ON item (price)", "ALTER TABLE shop DROP CONSTRAINT shop_name_check",
            "CREATE VIEW cheap AS SELECT * FROM item WHERE price < 1",
        ],
        "CREATE POLICY of_shop ON item USING (true)", "GRANT SELECT ON item TO PUBLIC",
    ),
)  # fmt: skip
def test_a_change_that_no_row_shows_is_dumped_too(protected: Protected, place: Path, command: str) -> None:
    protected.wishes_granted()
    protected.db.run(command)
    outcome = run(protected, place, tenants=1)
    assert outcome.drilled.equal, outcome.differences


def test_a_policy_that_was_changed_while_nobody_was_told(
    pg18: Database, new_protected: Callable[..., Protected], place: Path
) -> None:
    """Since 17 a superuser's session can go without event triggers, and a policy shows in nothing that a look compares."""
    pg18.run(*TABLES, "CREATE POLICY of_shop ON item USING (shop = 1)", "ALTER TABLE item ENABLE ROW LEVEL SECURITY")
    protected = new_protected(pg18, Tenants(column="shop", shared=("public.word",)))
    protected.protect()
    protected.start()
    with protected.session() as conn:
        conn.execute("SET event_triggers = off")
        conn.execute("ALTER POLICY of_shop ON item USING (shop = 2)")
    done = ballast("drill", "--json", "--config", str(protected.config_path), "--scratch", str(place))
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    (found,) = said["differences"]
    assert (found["kind"], found["table"], found["tenant"]) == ("policy", "public.item", None)
    assert "USING ((shop = 2)) on production" in found["what"]
    assert said["drilled"]["named"] == [found["what"]]
    pg18.run("COMMENT ON TABLE item IS 'another dump follows any command that is told'")
    outcome = run(protected, place)
    assert outcome.drilled.equal, outcome.differences


def test_a_scratch_server_that_dies_is_no_fault_of_the_vault(protected: Protected, place: Path) -> None:
    class Killing(Silent):
        def begin(self, stage: str, rows: int) -> None:
            if stage == "tenants":
                (lock,) = place.glob("ballast-drill-*/server/lock")
                EmbeddedServer(lock.parent).kill()

    with pytest.raises(BallastError):
        drill(protected.config, DrillRequest(tenants=None, scratch=place), Killing())
    assert not list(place.iterdir())
    looked = status(protected.config)
    assert looked.drilled is not None
    assert looked.drilled.failure
    assert looked.protected, looked.verdict
    assert any("could not be carried out" in remark.what for remark in looked.verdict.remarks)
