"""`ballast.toml`: what is written is read back, and every mistake is named with what is allowed."""

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from ballast.cli.protect import without_password
from ballast.errors import ConfigError
from ballast.vault import config
from ballast.vault.config import Config, Record, Tenants, ViaColumns

MINIMAL = 'dsn = "dbname=shop"\nvault = "vault"\n'

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
tables = st.builds(lambda a, b: f"{a}.{b}", texts, texts)
vias = st.one_of(
    tables,
    st.integers(1, 3).flatmap(
        lambda n: st.builds(
            ViaColumns,
            columns=st.tuples(*[texts] * n),
            parent=tables,
            parent_columns=st.tuples(*[texts] * n),
        )
    ),
)
configs = st.builds(
    Config,
    dsn=texts.filter(lambda t: t.strip() and "password" not in t.lower() and ":" not in t),
    vault=st.sampled_from(["/srv/vault", "/etc/other", "s3://bucket/a prefix", "file:///srv/x"]),
    state_dir=st.sampled_from([Path("/srv/.ballast"), Path("/var/lib/ballast"), Path("/srv")]),
    slot=st.sampled_from(["ballast", "ballast_a"]),
    publication=st.sampled_from(["ballast", "p_1"]),
    key=st.sampled_from(["", "0123456789abcdef" * 4]),
    tenants=st.builds(
        Tenants,
        column=texts,
        shared=st.lists(tables, max_size=3).map(tuple),
        tables=st.dictionaries(tables, texts, max_size=3),
        via=st.dictionaries(tables, vias, max_size=3),
    ),
    record=st.builds(
        Record,
        acknowledge=st.sampled_from(["spool", "store", "off"]),
        on_recorder_loss=st.sampled_from(["wait", "continue after 5s", "continue after 0.5 s"]),
        on_blind=st.sampled_from(["stop", "continue"]),
        seal_after_s=st.floats(0.1, 3600),
        seal_bytes=st.integers(1 << 16, 1 << 30),
        spool_limit_bytes=st.integers(2 << 30, 1 << 50),
    ),
)


@given(configs)
def test_what_is_written_is_read_back(wanted: Config) -> None:
    folder = Path("/srv")
    assert config.parse(config.render(wanted, folder=folder), folder=folder) == wanted


@given(configs)
def test_the_key_is_pinned_beside_what_the_owner_wrote(wanted: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ballast.toml"
        for key in ("a" * 64, ""):
            wanted = msgspec.structs.replace(wanted, key=key)
            config.write(wanted, file)
            pinned = config.pin(wanted, file, "b" * 64)
            assert config.load(file) == pinned == msgspec.structs.replace(wanted, key="b" * 64)


@pytest.mark.parametrize("rest", ["", "# mine\n[record]\nseal_after_s = 5.0\n"])
def test_pinning_keeps_the_owners_comments(tmp_path: Path, rest: str) -> None:
    file = tmp_path / "ballast.toml"
    file.write_text("# ours\n" + MINIMAL + rest, encoding="utf-8")
    pinned = config.pin(config.load(file), file, "b" * 64)
    assert config.load(file) == pinned
    assert file.read_text(encoding="utf-8").startswith("# ours\n" + MINIMAL)
    assert ("# mine" in file.read_text(encoding="utf-8")) == bool(rest)


def test_defaults_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ballast.toml"
    file.write_text(MINIMAL)
    loaded = config.load(file)
    assert loaded.vault == str(tmp_path / "vault")
    assert loaded.state_dir == tmp_path / ".ballast"
    assert loaded.spool_dir == tmp_path / ".ballast" / "spool"
    assert loaded.record.spool_limit_bytes == 8 * 1024**3
    assert loaded.record.seal_after_s == 10
    assert loaded.record.continue_after_s is None
    config.write(loaded, file)
    assert config.load(file) == loaded
    assert str(tmp_path) not in file.read_text()


def test_a_folder_that_moves_takes_its_paths_along(tmp_path: Path) -> None:
    one = config.parse(MINIMAL, folder=tmp_path / "a")
    text = config.render(one, folder=tmp_path / "a")
    assert config.parse(text, folder=tmp_path / "b").state_dir == tmp_path / "b" / ".ballast"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("slott = 1", r"no key slott\. Did you mean slot\?"),
        ("[record]\nacknowledge = 'disk'", r'record\.acknowledge .*"spool", "store" or "off"'),
        ("[record]\nacknowlege = 'off'", r"no key record\.acknowlege\. Did you mean record\.acknowledge\?"),
        ("[record]\nseal_after_s = 'soon'", r"record\.seal_after_s .*seconds from 0\.1 to 3600"),
        ("[record]\nseal_after_s = 0", r"record\.seal_after_s is 0.*seconds from 0\.1 to 3600"),
        ("[record]\nspool_limit_bytes = 1.5", r"record\.spool_limit_bytes .*bytes"),
        (
            "[record]\nspool_limit_bytes = 70_000_000",
            r"record\.spool_limit_bytes .*at least twice seal_bytes",
        ),
        ("[record]\non_recorder_loss = 'continue'", r'on_recorder_loss is "continue"\. .*continue after 5s'),
        ("[record]\non_recorder_loss = 'continue after 0s'", r"on_recorder_loss is .*continue after 5s"),
        ("[tenants]\nshared = 'public.x'", r"tenants\.shared .*a list of"),
        ("[tenants]\nshared = ['x']", r"tenants\.shared .*schema\.table"),
        ("[tenants.tables]\n'public.a' = 3", r"tenants\.tables.*\"schema\.table\" = \"column\""),
        (
            "[tenants.via]\n'public.a' = {columns=['x'], parent='public.b', parent_columns=[]}",
            r"tenants\.via",
        ),
        ("[tenants.via]\n'public.a' = {columns=['x'], to='public.b'}", r"tenants\.via"),
        ("[tenant]\ncolumn = 'x'", r"no key tenant\. Did you mean tenants\?"),
        ("slot = 'other'", r"slot is \"other\"\. .*starts with ballast"),
        ("publication = 'My Pub'", r"publication is"),
        ("state_dir = 4", r"state_dir"),
        ("dsn = ", r"not TOML"),
    ],
)
def test_every_mistake_is_named_with_what_is_allowed(more: str, says: str) -> None:
    head, _, tail = more.partition("[")
    text = head + "\n" + MINIMAL + ("[" + tail if tail else "")
    with pytest.raises(ConfigError, match="(?s)" + says):
        config.parse(text, folder=Path("/srv"))


@pytest.mark.parametrize("missing", ["dsn", "vault"])
def test_what_is_missing_is_named(missing: str) -> None:
    text = "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(missing))
    with pytest.raises(ConfigError, match=rf"{missing} is missing\. Allowed is"):
        config.parse(text, folder=Path("/srv"))


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db password=geheim",
        "host=db password = 'geheim'",
        "host=db sslpassword=geheim",
        "host=db oauth_client_secret=geheim",
        "host=db scram_client_key=geheim",
        "postgresql://u:geheim@db/shop",
        "postgresql://u:ge heim@db/shop",
        "postgresql://u:g%20eheim@db/shop",
        "postgresql://db/x?password=geheim",
        "postgresql://db/x?sslpassword=geheim",
    ],
)
def test_a_password_is_refused_and_not_repeated(dsn: str) -> None:
    with pytest.raises(ConfigError, match="without a password") as caught:
        config.parse(f'dsn = "{dsn}"\nvault = "v"\n', folder=Path("/srv"))
    assert "geheim" not in str(caught.value)


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ballast protect"):
        config.load(tmp_path / "ballast.toml")


def test_seconds_of_on_recorder_loss() -> None:
    assert Record(on_recorder_loss="continue after 5s").continue_after_s == 5
    assert Record(on_recorder_loss="continue after 0.5 s").continue_after_s == 0.5


@pytest.mark.parametrize(
    ("dsn", "kept"),
    [
        ("host=db password=geheim sslpassword=geheim dbname=x", "host=db dbname=x"),
        ("postgresql://u:g%20eheim@db/x?sslpassword=geheim&sslkey=k.pem", "user=u dbname=x host=db sslkey=k.pem"),
        ("host=db passfile=/p", "host=db passfile=/p"),
    ],
)
def test_a_dsn_is_written_down_without_its_secrets(dsn: str, kept: str) -> None:
    assert conninfo_to_dict(without_password(dsn)) == conninfo_to_dict(kept)
