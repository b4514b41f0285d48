"""What leads to another dump of what stands around the rows, and what to another entry of the ledger: no more than differs."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import psycopg
import pytest

from ballast.continuity.boats import Boats
from ballast.postgres import connect
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.recovery import DrillRequest, drill
from ballast.recovery.around import is_steady
from ballast.recovery.rebuild import create_roles
from ballast.recovery.record import structure_at
from ballast.vault import guardian, wish
from ballast.vault.batch import Batch
from ballast.vault.children import Children
from ballast.vault.config import Tenants
from ballast.vault.dump import same_scripts
from ballast.vault.fingerprint import read_baseline
from ballast.vault.guardian import Guardian
from ballast.vault.health import read_state, write_state
from ballast.vault.imager import Imager
from ballast.vault.logbook import Logbook
from ballast.vault.records import MANY, Cut, SchemaDump, SchemaVersion
from ballast.vault.standing import DUMPED_FILE, Dumped, Standing, may_dump, note, standing
from ballast.vault.vault import Vault
from tests.fix_postgres import Database
from tests.fix_protected import Protected
from tests.kept import Kept

SHOP = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text)",
    "INSERT INTO shop SELECT g, 'Shop' FROM generate_series(1, 4) g",
    "CREATE POLICY of_shop ON shop USING (shop = 1)",
)
ROLES = (
    "CREATE ROLE clerk LOGIN",
    "CREATE ROLE desk",
    "GRANT SELECT ON shop TO clerk, desk",
)
ROLE_CHANGES = (
    "GRANT desk TO clerk WITH ADMIN OPTION",
    "ALTER ROLE clerk SET statement_timeout = '7s'",
    "ALTER ROLE desk CREATEDB",
)


@pytest.fixture
def protected(pg: Database, new_protected: Callable[..., Protected]) -> Protected:
    pg.run(*SHOP, *ROLES)
    made = new_protected(pg, Tenants(column="shop"))
    made.protect()
    made.start()
    return made


def dumped_at(protected: Protected) -> float:
    found = read_state(protected.config.state_dir, DUMPED_FILE, Dumped)
    return found.at if found is not None else 0.0


def dumped_again(protected: Protected, since: float) -> Vault:
    """Another dump was taken and nothing is to be done any more."""
    protected.until(lambda: dumped_at(protected) > since, "another dump")
    protected.wishes_granted()
    return protected.vault()


def scripts(dump: SchemaDump) -> set[str]:
    return {dump.pre_data.name, dump.post_data.name, dump.roles.name}


@pytest.mark.any_version
def test_roles_that_change_alone_are_dumped_and_come_back(protected: Protected, open_folder: Path) -> None:
    for command in ROLE_CHANGES:
        before = dumped_at(protected)
        protected.db.run(command)
        vault = dumped_again(protected, before)
        roles = vault.read_object(vault.index.dumps[-1].roles).decode()
        assert command.split()[2] in roles
    for part in (
        "GRANT desk TO clerk WITH ADMIN OPTION",
        "clerk SET statement_timeout TO '7s'",
        "desk WITH NOSUPERUSER",
    ):
        assert part in roles, roles
    # Of an earlier moment are the roles of that moment.
    assert len({d.roles.name for d in vault.index.dumps}) == 1 + len(ROLE_CHANGES)
    assert len({(d.pre_data.name, d.post_data.name) for d in vault.index.dumps}) == 1, "what says the same is kept once"
    first, *_, last = vault.index.dumps
    assert vault.index.dump_at(Cut(1, first.lsn)) == first
    assert vault.index.dump_at(Cut(1, last.lsn - 1)) == vault.index.dumps[-2]
    assert vault.index.dump_at(Cut(1, last.lsn)) == last
    assert first.version == last.version
    protected.verified()
    # A drill waits for what has just changed, and does not depend on the recorder's next look.
    protected.db.run("REVOKE desk FROM clerk", "ALTER ROLE clerk RESET statement_timeout", "ALTER ROLE desk NOCREATEDB")
    outcome = drill(protected.config, DrillRequest(tenants=1, scratch=open_folder))
    assert outcome.drilled.equal, outcome.differences


@pytest.mark.any_version
def test_a_dump_that_says_the_same_is_not_kept_again(protected: Protected) -> None:
    protected.wishes_granted()
    (first,) = protected.vault().index.dumps
    before = dumped_at(protected)
    protected.db.run("GRANT SELECT ON shop TO clerk", "CREATE INDEX gone ON shop (name)", "DROP INDEX gone")
    vault = dumped_again(protected, before)
    assert {name for d in vault.index.dumps for name in scripts(d)} == scripts(first)
    cut = protected.look().cut
    protected.sealed(cut)
    vault = protected.vault()
    last = vault.index.dump_at(cut)
    assert last is not None
    assert last.version == vault.index.schema_at(cut).version > first.version, "it is known to hold now"
    protected.verified()
    before = dumped_at(protected)
    protected.db.run("CREATE INDEX stays ON shop (name)")
    vault = dumped_again(protected, before)
    assert vault.index.dumps[-1].post_data.name not in scripts(first)


def test_of_many_commands_some_versions_a_segment_tell(protected: Protected) -> None:
    before = len(protected.vault().index.schemas)
    for n in range(40):
        protected.db.run(f"COMMENT ON TABLE shop IS 'the {n}th'")
    protected.sealed(protected.look().cut)
    protected.wishes_granted()
    vault = protected.vault()
    versions = list(vault.index.schemas.values())[before:]
    assert versions
    for segment in vault.index.segments:
        assert len([v for v in versions if segment.first_lsn <= v.lsn < segment.last_lsn]) <= 6
    newest = vault.index.dumps[-1]
    assert b"'the 39th'" in vault.read_object(newest.pre_data) + vault.read_object(newest.post_data)
    protected.verified()


# Inside of one segment


@pytest.fixture
def unsealed(pg18: Database, new_protected: Callable[..., Protected]) -> Protected:
    """Sealed when a test asks for it, and the dumps are the test's."""
    pg18.run(*SHOP, "ALTER TABLE shop ENABLE ROW LEVEL SECURITY")
    made = new_protected(pg18, Tenants(column="shop"), seal_after_s=600.0)
    made.protect()
    noted = read_state(made.config.state_dir, DUMPED_FILE, Dumped)
    assert noted is not None
    write_state(made.config.state_dir, DUMPED_FILE, Dumped(1, noted.standing, noted.at, 1000.0))
    made.start()
    return made


class Between(Imager):
    """Commands come right after its snapshot, and all is sealed as one."""

    def __init__(self, protected: Protected, commands: Iterable[str]) -> None:
        super().__init__(protected.config, Logbook("test"))
        self._protected, self._commands = protected, commands
        self.after = Cut(0, 0)

    def _wait_for_sealer(self, lsn: int) -> None:
        self._protected.db.run(*self._commands)
        self.after = self._protected.look().cut
        self._protected.sealed(self.after)
        super()._wait_for_sealer(lsn)


def dumped_before(protected: Protected, *commands: str) -> Cut:
    """A dump is taken, and then come the commands; a cut after them."""
    wish.leave(protected.config.state_dir, "dump", 1, "a test", id="dump-of-a-test")
    imager = Between(protected, commands)
    imager.round()
    return imager.after


def in_one_segment(vault: Vault, *cuts: int) -> bool:
    return any(all(s.first_lsn <= lsn <= s.last_lsn for lsn in cuts) for s in vault.index.segments)


def test_a_policy_that_comes_after_a_dump_in_the_segment_of_its_table_is_warned_of(unsealed: Protected) -> None:
    unsealed.db.run("CREATE ROLE keeper", "CREATE TABLE secret (shop int PRIMARY KEY)")
    after = dumped_before(
        unsealed, "ALTER TABLE secret ENABLE ROW LEVEL SECURITY", "CREATE POLICY keep ON secret USING (shop = 1)"
    )
    vault = unsealed.vault()
    dump = vault.index.dumps[-1]
    assert in_one_segment(vault, vault.index.schemas[2].lsn, dump.lsn, after.lsn)
    assert b"keep" not in vault.read_object(dump.post_data)
    assert not structure_at(vault, Cut(1, dump.lsn)).adjustment
    assert "CREATE POLICY" in "".join(structure_at(vault, after).adjustment.unknown)
    after = dumped_before(unsealed)
    found = structure_at(unsealed.vault(), after)
    assert "CREATE POLICY keep" in found.post_data
    assert not found.adjustment
    unsealed.verified()


def test_rows_from_before_a_policy_was_dropped_come_back_with_it(unsealed: Protected) -> None:
    unsealed.db.run("COMMENT ON TABLE shop IS 'harmless'")
    before = unsealed.look().cut
    unsealed.db.run("DELETE FROM shop", "DROP POLICY of_shop ON shop", "ALTER TABLE shop DISABLE ROW LEVEL SECURITY")
    after = unsealed.look().cut
    unsealed.sealed(after)
    dumped_before(unsealed)
    vault = unsealed.vault()
    assert in_one_segment(vault, vault.index.schemas[2].lsn, before.lsn, after.lsn)
    found = structure_at(vault, before)
    assert "CREATE POLICY of_shop" in found.post_data
    assert "ENABLE ROW LEVEL SECURITY" in found.post_data
    assert "COMMENT" in "".join(found.adjustment.unknown)
    found = structure_at(vault, after)
    assert "POLICY" not in found.post_data
    assert not found.adjustment
    unsealed.verified()


def test_one_transaction_is_one_version(unsealed: Protected) -> None:
    with unsealed.session() as conn, conn.transaction():
        for n in range(5):
            conn.execute(f"COMMENT ON TABLE shop IS 'the {n}th'".encode())
    unsealed.sealed(unsealed.look().cut)
    assert len(unsealed.vault().index.schemas) == 2


def test_of_more_commands_than_are_told_one_by_one_a_restore_warns(unsealed: Protected) -> None:
    unsealed.db.run(*(f"COMMENT ON TABLE shop IS 'the {n}th'" for n in range(20)))
    early = unsealed.look().cut
    unsealed.db.run(
        "DROP POLICY of_shop ON shop", "CREATE TABLE fresh (shop int PRIMARY KEY)", "GRANT SELECT ON fresh TO PUBLIC"
    )
    middle = unsealed.look().cut
    after = dumped_before(unsealed, "CREATE POLICY late ON shop USING (true)", "COMMENT ON TABLE shop IS 'last'")
    vault = unsealed.vault()
    between = Cut(1, vault.index.schemas[max(vault.index.schemas)].lsn)
    dump = vault.index.dumps[-1]
    assert in_one_segment(vault, early.lsn, dump.lsn, after.lsn)
    assert [v.reason for v in vault.index.schemas.values()][4:] == [
        "COMMENT", MANY, "CREATE TABLE", MANY, "COMMENT"
    ]  # fmt: skip
    assert len(vault.index.schemas) == 1 + 4 + 4
    for cut, policy in ((early, "of_shop"), (middle, "of_shop"), (between, None), (after, None)):
        found = structure_at(vault, cut)
        assert found.adjustment.unknown
        assert policy is None or f"CREATE POLICY {policy}" in found.post_data
    assert not structure_at(vault, Cut(1, dump.lsn)).adjustment
    # From the last of them on one is exact.
    dumped_before(unsealed)
    vault = unsealed.vault()
    found = structure_at(vault, after)
    assert "CREATE POLICY late" in found.post_data
    assert not found.adjustment
    assert MANY in "".join(structure_at(vault, between).adjustment.unknown)
    unsealed.verified()


def test_another_dump_takes_the_place_of_one_that_is_lost(protected: Protected) -> None:
    protected.wishes_granted()
    vault = protected.vault()
    (lost,), images = vault.index.dumps, len(vault.index.images)
    (protected.folder / "vault" / lost.post_data.name).unlink()
    (protected.folder / "vault" / lost.roles.name).write_bytes(b"damaged")
    before = dumped_at(protected)
    wish.leave(protected.config.state_dir, "image", 1, "a test", id="image-of-a-test")
    protected.db.run("COMMENT ON TABLE shop IS 'x'")
    vault = dumped_again(protected, before)
    newest = vault.index.dumps[-1]
    assert newest.pre_data == lost.pre_data or b"'x'" in vault.read_object(newest.pre_data)
    assert b"of_shop" in vault.read_object(newest.post_data)
    assert b"clerk" in vault.read_object(newest.roles)
    assert len(vault.index.images) == images + 1


def test_where_no_event_triggers_tell_everything_is_compared_again(
    pg18: Database, new_protected: Callable[..., Protected], monkeypatch: pytest.MonkeyPatch
) -> None:
    pg18.run(*SHOP)
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    state = protected.config.state_dir
    baseline = read_baseline(state)
    assert baseline is not None
    told, untold = baseline.fingerprint, msgspec.structs.replace(baseline.fingerprint, event_triggers={})
    monkeypatch.setattr(guardian, "_EVERYTHING_EVERY_S", 0.0)
    by_triggers, alone = (Guardian(protected.config, 1, Logbook("test")) for _ in range(2))
    with connect(pg18.dsn) as conn:
        for one, expected in ((by_triggers, told), (alone, untold)):
            assert one._see_to_dump(conn, expected) == []
        pg18.run("ALTER POLICY of_shop ON shop USING (shop = 2)")
        by_triggers._see_to_dump(conn, told)
        assert not wish.pending(state)
        alone._see_to_dump(conn, untold)
        assert [w.kind for w in wish.pending(state)] == ["dump"]


def test_a_setting_that_is_refused_is_named_without_its_value(pg18: Database) -> None:
    with connect(pg18.dsn) as conn, conn.transaction():
        (warned,) = create_roles(conn, "ALTER ROLE nobody SET app.jwt TO 's3cret';\n")
    assert warned.startswith("roles: ALTER ROLE nobody SET app.jwt: ")
    assert "s3cret" not in warned


def test_what_an_earlier_version_did_not_heed_is_dumped_when_the_recorder_starts(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    pg18.run(*SHOP)
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    protected.start()
    protected.wishes_granted()
    with protected.session() as conn:
        conn.execute("SET event_triggers = off")
        conn.execute("ALTER POLICY of_shop ON shop USING (shop = 2)")
    protected.stop()
    assert len(protected.vault().index.dumps) == 1
    protected.start()
    vault = dumped_again(protected, dumped_at(protected))
    assert len(vault.index.dumps) == 2
    assert b"USING ((shop = 2))" in vault.read_object(vault.index.dumps[-1].post_data)
    # Nor has a version before this one noted what it dumped.
    protected.stop()
    (protected.config.state_dir / DUMPED_FILE).unlink()
    protected.start()
    vault = dumped_again(protected, 0.0)
    assert len(vault.index.dumps) == 2, "it says the same"
    at = dumped_at(protected)
    protected.stop()
    protected.start()
    checked = protected.health.batches
    protected.until(lambda: protected.health.batches > checked + 2, "the recorder to go on")
    assert dumped_at(protected) == at, "all is as it was dumped"
    assert not wish.pending(protected.config.state_dir)


@pytest.mark.any_version
def test_temporary_objects_leave_the_structure_steady(pg: Database) -> None:
    pg.run(*SHOP)
    with snapshot_at_cut(pg.dsn) as (conn, _), pg.connect() as other:
        for statement in (
            "CREATE TEMP TABLE mine (id int PRIMARY KEY CHECK (id > 0), n serial)",
            "CREATE FUNCTION pg_temp.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER stamp BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION pg_temp.stamp()",
            "CREATE TEMP VIEW seen AS SELECT * FROM mine",
            "CREATE POLICY own ON mine USING (true)",
            "CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 9)",
        ):
            other.execute(statement.encode())
            assert is_steady(conn, pg.dsn), statement
        other.execute("ALTER POLICY of_shop ON shop USING (shop = 2)")
        assert not is_steady(conn, pg.dsn)


@pytest.mark.any_version
def test_each_change_shows_in_what_stands(pg: Database) -> None:
    pg.run(*SHOP, *ROLES)
    with connect(pg.dsn) as conn, pg.connect() as other:
        stood = standing(conn)
        for command in ("INSERT INTO shop VALUES (99)", "ANALYZE shop", "VACUUM shop", "CREATE TEMP TABLE t (id int)"):
            other.execute(command.encode())
        conn.execute("SET TimeZone = 'Asia/Shanghai'")
        assert standing(conn) == stood, "rows are no structure"
        for command, roles_alone in (
            *((command, True) for command in ROLE_CHANGES), ("COMMENT ON ROLE desk IS 'x'", True),
            ("ALTER ROLE desk VALID UNTIL '2030-01-01'", True), ("GRANT SET ON PARAMETER log_statement TO desk", True),
            ("ALTER POLICY of_shop ON shop USING (true)", False), ("GRANT UPDATE ON shop TO desk", False),
            ("CREATE DOMAIN small AS int", False), ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO desk", False),
        ):  # fmt: skip
            other.execute(command.encode())
            now = standing(conn)
            changed = (now.roles != stood.roles, now.structure != stood.structure)
            assert changed == (roles_alone, not roles_alone), command
            stood = now
        other.execute("REVOKE SET ON PARAMETER log_statement FROM desk")


def test_after_some_dumps_in_a_row_the_next_waits_unless_somebody_does(tmp_path: Path) -> None:
    stood = Standing("a", "b")
    assert may_dump(tmp_path)
    for _ in range(10):
        assert may_dump(tmp_path)
        note(tmp_path, 1, stood)
    assert not may_dump(tmp_path)
    noted = read_state(tmp_path, DUMPED_FILE, Dumped)
    assert noted is not None
    for later_s, may in ((1.0, False), (400.0, True), (-3600.0, True)):  # a clock may be put back
        write_state(tmp_path, DUMPED_FILE, Dumped(1, stood, noted.at - later_s, noted.in_a_row))
        assert may_dump(tmp_path) is may


def test_commands_without_end_lead_to_a_few_dumps_and_a_drill_waits_for_none_in_vain(
    protected: Protected, open_folder: Path
) -> None:
    protected.wishes_granted()
    state = protected.config.state_dir
    noted = read_state(state, DUMPED_FILE, Dumped)
    assert noted is not None
    write_state(state, DUMPED_FILE, Dumped(1, noted.standing, noted.at, 1000.0))  # as after a thousand
    protected.db.run("CREATE INDEX one_more ON shop (name)")
    protected.sealed(protected.look().cut)
    protected.until(lambda: any(w.kind == "dump" for w in wish.pending(state)), "the wish")
    assert dumped_at(protected) == noted.at
    children = Children(protected.config_path, protected.config, Logbook("test"), streaming=lambda: True)
    assert not children._image_is_wished()
    outcome = drill(protected.config, DrillRequest(tenants=1, scratch=open_folder))
    assert outcome.drilled.equal, outcome.differences
    assert dumped_at(protected) > noted.at


def test_scripts_with_other_keys_for_psql_say_the_same() -> None:
    one, other = (
        b"--\n\\restrict %b\n\nCREATE TABLE t ();\n\\unrestrict %b\n" % (key, key) for key in (b"aB3", b"Zz9")
    )
    assert one != other
    assert same_scripts([one, b"x"], [other, b"x"])
    assert not same_scripts([one], [other.replace(b"TABLE t", b"TABLE u")])
    in_a_body = b"CREATE FUNCTION f() AS $$\n\\restrict %b\n$$;\n"
    assert not same_scripts([one + in_a_body % b"a"], [other + in_a_body % b"b"])


# The spare lifeboat


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*SHOP)
    made = Kept(pg18, open_folder, Tenants(column="shop"))
    made.look()
    return made


@pytest.fixture
def boats(open_folder: Path) -> Iterator[Boats]:
    made = Boats(open_folder / "continuity", 18, Logbook("sentinel"))
    yield made
    made.close(keep=False)


def prepared(boats: Boats, vault: Vault) -> Cut:
    """The cut that the spare one is built for, once it is."""
    boats.prepare(vault, list)
    if boats._making is not None:
        boats._making.join()
    assert boats.is_ready, boats.trouble
    assert boats._spare is not None
    assert boats._spare[1].built is not None
    return boats._spare[1].built.cut


def test_the_spare_lifeboat_is_built_anew_where_the_structure_is_another_one_and_only_then(
    kept: Kept, boats: Boats
) -> None:
    vault = kept.vault
    first = vault.index.dumps[-1]
    built = prepared(boats, vault)
    # A command, and the dump that says that it changed nothing.
    at = kept.look(dump=False)
    relations = vault.index.schemas[1].relations
    vault.append(SchemaVersion(2, 1, at.lsn - 1, 1, relations, "GRANT"))
    assert prepared(boats, vault) == built
    vault.append(SchemaDump(1, at.lsn, 2, first.pre_data, first.post_data, first.roles, first.server_version))
    assert prepared(boats, vault) == built
    # Roles that changed alone begin no version.
    kept.db.run("CREATE INDEX by_name ON shop (name)")
    kept._version = 2
    at = kept.look()
    assert vault.index.dumps[-1].version == 2
    assert prepared(boats, vault) == at
    for before, after in pairwise([d.lsn for d in vault.index.dumps]):
        assert before < after
    # Any role may change its own settings without end: they are looked at when it is launched.
    last, making, later = vault.index.dumps[-1], boats._making, kept.look(dump=False)
    with Batch(vault.store, kept.state, "dump", 1, later.lsn, later.lsn) as batch:
        roles = batch.put("dump", "sql", vault.read_object(last.roles) + b"\nCREATE ROLE late_clerk;\n")
        vault.append(msgspec.structs.replace(last, lsn=later.lsn, roles=roles))
        batch.done()
    assert prepared(boats, vault) == at
    assert boats._making is making
    _, boat = boats._take_spare(vault)
    try:
        boat.launch(vault, vault.resolve(None))
        with psycopg.connect(boat.dsn()) as conn:
            assert conn.execute("SELECT to_regclass('by_name') IS NOT NULL").fetchone() == (True,)
            assert conn.execute("SELECT to_regrole('late_clerk') IS NOT NULL").fetchone() == (True,)
    finally:
        boat.sink()
