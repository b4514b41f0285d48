"""What others could write into the record, or put in its place, gives them nothing when somebody restores it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ballast.cli.app import commands
from ballast.errors import IntegrityError, RestoreError
from ballast.recovery import Report, Request, Wish, adjust, recover, restore
from ballast.vault import Vault, config
from ballast.vault.config import Config, Record, Tenants
from ballast.vault.history import history
from ballast.vault.records import Column
from ballast.vault.run import write_run
from tests.fix_postgres import Database
from tests.kept import Kept, contents

pytestmark = pytest.mark.any_version

SHOP = (
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text)",
    "INSERT INTO shop SELECT 't' || g, 'Shop ' || g FROM generate_series(1, 9) g",
)
COMMENTS = (
    "SELECT obj_description('shop'::regclass), obj_description('f'::regproc), prosrc FROM pg_proc WHERE proname = 'f'"
)


def bring(kept: Kept, to: Database) -> Report:
    return restore(kept.vault, kept.vault.resolve(None), to.dsn, Request())


def test_a_comment_that_looks_like_a_dump_is_a_comment(pg: Database, open_folder: Path) -> None:
    role = f"evil_{pg.name}"[:60]
    to = pg.another()
    pg.run(f"CREATE ROLE {role} LOGIN")
    attack = (
        "\n--\n-- Name: TABLE x; Type: COMMENT; Schema: public; Owner: o\n--\n\n"
        f"ALTER ROLE {role} SUPERUSER;\n\n--\n-- Name: y; Type: INDEX; Schema: public; Owner: o\n--\n\n"
        f"ALTER ROLE {role} SUPERUSER;\n\\restrict x\nSET transaction_timeout = 0;\n"
    )
    try:
        pg.run(
            *SHOP,
            f"ALTER TABLE shop OWNER TO {role}",
            f"COMMENT ON TABLE shop IS '{attack}'",
            f"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $f$ SELECT $x${attack}$x$ $f$",
            f"COMMENT ON FUNCTION f() IS '{attack}'",
            f"CREATE INDEX shop_name ON shop (name) WHERE name <> '{attack}'",
            f"COMMENT ON INDEX shop_name IS '{attack}'",
            f"ALTER ROLE {role} SET app.note = '{attack}'",
            "CREATE PUBLICATION own FOR TABLE shop",
        )
        kept = Kept(pg, open_folder)
        kept.look()

        report = bring(kept, to)

        assert report.proven
        assert to.query("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname ~ '^evil_'") == []
        assert to.query(COMMENTS) == pg.query(COMMENTS)
        assert to.query("SELECT obj_description('shop_name'::regclass)") == [(attack,)]
        assert contents(to) == contents(pg)
        assert "left out of the dump, make it by hand: publication own" in report.warnings
    finally:
        to.run(f"DROP OWNED BY {role} CASCADE")
        pg.run(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("forged", "told"),
    [
        ({"type": "int; ALTER ROLE {role} SUPERUSER"}, "column public.shop.more added"),
        ({"type": "int, ADD COLUMN hole int"}, "column public.shop.more added"),
        ({"default": "1; ALTER ROLE {role} SUPERUSER"}, "not one expression"),
        ({"default": "1), OWNER TO {role}, ALTER name SET DEFAULT ('x'"}, "not one expression"),
        ({"default": "nextval('x; ALTER ROLE {role} SUPERUSER'::regclass)"}, "default set"),
    ],
)
def test_what_a_change_of_the_structure_says_runs_as_nothing_else(
    pg: Database, open_folder: Path, monkeypatch: pytest.MonkeyPatch, forged: dict[str, str], told: str
) -> None:
    """The record of the tables is made to hold what a forged message could bring into it."""
    role = f"evil_{pg.name}"[:60]
    pg.run(f"CREATE ROLE {role}", *SHOP)
    kept = Kept(pg, open_folder)
    kept.look()
    pg.run("ALTER TABLE shop ADD COLUMN more int")
    kept.look(dump=False)
    said = {name: text.format(role=role) for name, text in forged.items()}
    version = max(kept.vault.index.schemas)
    relations = {
        number: msgspec.structs.replace(r, columns=tuple(_with(c, said) for c in r.columns))
        for number, r in kept.vault.schema(version).items()
    }
    monkeypatch.setitem(kept.vault._schemas, version, relations)
    to = pg.another()
    try:
        try:
            outcome = "\n".join(bring(kept, to).warnings)
        except RestoreError as refused:
            outcome = refused.what
        assert told in outcome
        assert to.query("SELECT rolsuper FROM pg_roles WHERE rolname = %s", role) == [(False,)]
        assert to.query("SELECT 1 FROM pg_attribute WHERE attname = 'hole'") == []
        assert to.query("SELECT 1 FROM pg_class WHERE pg_get_userbyid(relowner) = %s", role) == []
    finally:
        pg.run(f"DROP ROLE {role}")


def _with(column: Column, said: dict[str, str]) -> Column:
    return msgspec.structs.replace(column, **said) if column.name == "more" else column


def test_an_expression_stays_in_its_parentheses() -> None:
    assert not adjust.is_expression("1) , (2")


@pytest.fixture
def kept(pg: Database, open_folder: Path) -> Kept:
    pg.run(*SHOP)
    made = Kept(pg, open_folder)
    made.look()
    return made


def _replace_run(kept: Kept) -> str:
    """Another run, valid by itself and of the same length, in the place of one: its shops have other names."""
    ref = next(run for image in kept.vault.index.images for run in image.runs if run.max_tenant is not None)
    path = Path(kept.url) / ref.object.name
    rows = pq.read_table(path)
    lines = pa.array([line.replace(b"Shop", b"S") for line in rows["row"].to_pylist()], pa.large_binary())
    rows = rows.set_column(rows.schema.get_field_index("row"), rows.schema.field("row"), lines)
    path.unlink()
    write_run(path, rows)
    _pad(path, ref.object.bytes)
    assert path.stat().st_size == ref.object.bytes
    assert pq.read_table(path)["row"].to_pylist() == lines.to_pylist()
    return ref.object.name


def _pad(path: Path, size: int) -> None:
    """Bytes between the pages and the footer, which no reader looks at."""
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.write_bytes(data[:-footer] + bytes(size - len(data)) + data[-footer:])


def test_a_run_replaced_by_another_valid_file_is_refused(kept: Kept) -> None:
    name = _replace_run(kept)
    to = kept.db.another()

    with pytest.raises(IntegrityError, match="not what the ledger says") as caught:
        bring(kept, to)

    assert name in caught.value.what
    with pytest.raises(IntegrityError, match="not what the ledger says"):
        restore(kept.vault, kept.vault.resolve(None), kept.db.dsn, Request(tenants=("t3",), replace=True))
    assert kept.db.query("SELECT name FROM shop WHERE tenant = 't3'") == [("Shop 3",)]
    with pytest.raises(IntegrityError, match="not what the ledger says"):
        history(kept.vault, "shop", ["t3"], tenant="t3")


def test_each_object_is_held_against_the_ledger_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed: list[str] = []
    stream = kept.vault.store.stream
    monkeypatch.setattr(kept.vault.store, "stream", lambda name: streamed.append(name) or stream(name))
    for _ in range(2):
        bring(kept, kept.db.another())
    assert streamed
    assert len(streamed) == len(set(streamed))


def test_a_vault_of_another_key_is_refused(kept: Kept, tmp_path: Path) -> None:
    pinned = kept.vault.index.genesis.public_key
    assert Vault.open(kept.url, key=pinned).index.head == kept.vault.index.head
    other = Kept(kept.db, tmp_path)
    other.look()
    shutil.rmtree(kept.url)
    shutil.move(other.url, kept.url)

    with pytest.raises(IntegrityError, match="is signed by the key"):
        Vault.open(kept.url, key=pinned)

    run = CliRunner().invoke
    to = kept.db.another()
    for command in (
        ["restore", "--vault", kept.url, "--into", to.dsn, "--key", pinned],
        ["history", "--vault", kept.url, "shop", "t3", "--tenant", "t3", "--key", pinned],
    ):
        assert isinstance(run(commands(), command).exception, IntegrityError)
    settings = tmp_path / "ballast.toml"
    settings.write_text(f'dsn = "dbname=x"\nvault = "{kept.url}"\nkey = "{pinned}"\n', encoding="utf-8")
    command = ["restore", "--vault", kept.url, "--into", to.dsn, "--config", str(settings)]
    assert isinstance(run(commands(), command).exception, IntegrityError)
    verified = run(commands(), ["verify", "--vault", kept.url, "--key", pinned])
    assert verified.exit_code == 1
    assert pinned[:16] in verified.output
    assert not to.query("SELECT 1 FROM pg_tables WHERE tablename = 'shop'")

    unpinned = run(commands(), ["restore", "--vault", kept.url, "--into", to.dsn])
    assert unpinned.exit_code == 0, unpinned.output
    said = f"the vault's key is {other.vault.index.genesis.public_key[:16]}: pin it with --key or --config"
    assert said in unpinned.output.replace("\n", " ")


@pytest.fixture
def mallory(pg: Database) -> Iterator[str]:
    """A role that may log in, and own what it makes."""
    role = f"mallory_{pg.name}"[:60]
    pg.run(f"CREATE ROLE {role} LOGIN", f"GRANT CREATE ON SCHEMA public TO {role}")
    yield role
    pg.run(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def is_superuser(db: Database, role: str) -> bool:
    return bool(db.query("SELECT rolsuper FROM pg_roles WHERE rolname = %s", role)[0][0])


@pytest.mark.parametrize("awake", ["ALWAYS TRIGGER", "REPLICA TRIGGER", "ALWAYS RULE"])
def test_what_fires_whatever_happens_is_not_fired_with_our_rights(
    pg: Database, open_folder: Path, mallory: str, awake: str
) -> None:
    pg.run(*SHOP, f"ALTER TABLE shop OWNER TO {mallory}")
    kept = Kept(pg, open_folder)
    kept.look()
    pg.run(
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN ALTER ROLE {mallory} SUPERUSER; RETURN NEW; END$$",
        f"ALTER FUNCTION f() OWNER TO {mallory}",
        "CREATE TRIGGER evil BEFORE INSERT ON shop FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE evil AS ON DELETE TO shop DO ALSO NOTIFY evil",
        f"ALTER TABLE shop ENABLE {awake} evil",
        "UPDATE shop SET name = 'x'",
    )
    before = contents(pg)
    with pytest.raises(RestoreError, match=rf"evil on public\.shop.* belongs to {mallory}"):
        restore(kept.vault, kept.vault.resolve(None), pg.dsn, Request(tenants=("t3",), replace=True))
    assert not is_superuser(pg, mallory)
    assert contents(pg) == before
    pg.run(f"ALTER TABLE shop DISABLE {awake.split()[1]} evil")
    assert restore(kept.vault, kept.vault.resolve(None), pg.dsn, Request(tenants=("t3",), replace=True)).proven


def test_a_recovery_does_not_fire_it_either(pg: Database, open_folder: Path, mallory: str) -> None:
    pg.run(
        *SHOP,
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN ALTER ROLE {mallory} SUPERUSER; RETURN NEW; END$$",
        f"ALTER FUNCTION f() OWNER TO {mallory}",
        "CREATE TRIGGER evil BEFORE INSERT ON shop FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE shop ENABLE ALWAYS TRIGGER evil",
    )
    kept, to = Kept(pg, open_folder), pg.another()
    kept.look()
    try:
        with pytest.raises(RestoreError, match=rf"evil on public\.shop.* belongs to {mallory}"):
            recover(kept.vault, kept.vault.resolve(None), to.dsn, Wish())
        assert not is_superuser(pg, mallory)
        to.run("ALTER TABLE shop DISABLE TRIGGER evil")
        assert recover(kept.vault, kept.vault.resolve(None), to.dsn, Wish()).proven
        assert contents(to)["public.shop"] == contents(pg)["public.shop"]
    finally:
        to.run(f"DROP OWNED BY {mallory} CASCADE")


def test_a_cast_of_somebodys_type_is_not_called(pg: Database, open_folder: Path, mallory: str) -> None:
    cast = f"BEGIN ALTER ROLE {mallory} SUPERUSER; RETURN 't3'; END"
    pg.run(
        "CREATE TYPE shopname AS ENUM ('t1', 't2', 't3')",
        "CREATE TABLE shop (tenant shopname PRIMARY KEY, name text)",
        "CREATE TABLE item (tenant shopname REFERENCES shop, id int, PRIMARY KEY (tenant, id))",
        "INSERT INTO shop VALUES ('t1', 'one'), ('t3', 'three')",
        "INSERT INTO item VALUES ('t1', 1), ('t3', 1), ('t3', 2)",
    )
    kept = Kept(pg, open_folder)
    kept.look()
    before = contents(pg)
    for kind in ("shopname", "item", "shop"):
        pg.run(
            f"CREATE FUNCTION castf(x {kind}) RETURNS text LANGUAGE plpgsql AS $$ {cast} $$",
            f"CREATE CAST ({kind} AS text) WITH FUNCTION castf({kind})",
        )
    pg.run("DELETE FROM item WHERE id = 2", "UPDATE shop SET name = 'x' WHERE name = 'three'")
    report = restore(kept.vault, kept.vault.resolve(None), pg.dsn, Request(tenants=("t3",), replace=True))
    assert report.proven
    pg.run("DELETE FROM item; DELETE FROM shop")
    with pytest.raises(RestoreError, match="no parent for"):  # names the row, as text
        restore(kept.vault, kept.vault.resolve(None), pg.dsn, Request(tenants=("t3",), tables=("item",)))
    assert not is_superuser(pg, mallory)
    assert restore(kept.vault, kept.vault.resolve(None), pg.dsn, Request()).proven
    assert contents(pg) == before


def test_a_tail_that_was_cut_off_is_noticed_where_the_settings_are(kept_with_settings: Kept) -> None:
    kept, cli = kept_with_settings, CliRunner()
    arguments = ["--vault", kept.url, "--tenant", "t1"]
    config = ["--config", str(Path(kept.url).parent / "ballast.toml")]
    assert cli.invoke(commands(), ["history", *arguments, *config, "shop", "t1"]).exit_code == 0
    sorted(Path(kept.url, "ledger").glob("*.json"))[-1].unlink()
    for command in (["restore", *arguments, "--into", kept.db.dsn], ["history", *arguments, "shop", "t1"]):
        refused = cli.invoke(commands(), [*command, *config])
        assert refused.exit_code != 0
        assert "tail was removed" in str(refused.exception)


@pytest.fixture
def kept_with_settings(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*SHOP)
    kept = Kept(pg18, open_folder)
    kept.look()
    settings = Config(
        dsn=pg18.dsn, vault=kept.url, state_dir=kept.state, slot="ballast", publication="ballast",
        tenants=Tenants(column="tenant"), record=Record(), key=kept.vault.index.genesis.public_key,
    )  # fmt: skip
    config.write(settings, open_folder / "ballast.toml")
    return kept
