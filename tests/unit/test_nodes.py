"""`[nodes]` of ballast.toml: what each node's settings are, and what is refused."""

from pathlib import Path

import pytest

from ballast.errors import ConfigError
from ballast.vault import config
from ballast.vault.nodes import Spread, landing, load, vault_of, write

TEXT = """
vault = "s3://bucket/shop"
state_dir = "state"
[tenants]
column = "shop"
[nodes]
north = "host=n dbname=shop"
south = "host=s dbname=shop"
"""


def spread(folder: Path, text: str = TEXT) -> Spread:
    (folder / "ballast.toml").write_text(text)
    found = load(folder / "ballast.toml")
    assert found is not None
    return found


def test_each_node_has_its_own_vault_state_and_slot(tmp_path: Path) -> None:
    north, south = spread(tmp_path).nodes
    assert (north.settings.vault, north.settings.state_dir) == (
        "s3://bucket/shop/nodes/north",
        tmp_path / "state/nodes/north",
    )
    assert (south.settings.slot, south.settings.dsn) == ("ballast_south", "host=s dbname=shop")
    assert south.settings.tenants.column == "shop"
    assert vault_of("/v/shop", "a") == "/v/shop/nodes/a"


def test_the_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    found = spread(tmp_path, TEXT + '[citus]\ncoordinator = "north"\n')
    found.path.unlink()
    write(found)
    assert load(found.path) == found


def test_the_settings_of_one_database_name_no_nodes(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('dsn = "host=x"\nvault = "v"\n')
    assert load(tmp_path / "one.toml") is None
    assert load(tmp_path / "none.toml") is None
    with pytest.raises(ConfigError, match="names several nodes, and this command works on one"):
        config.load(spread(tmp_path).path)


@pytest.mark.parametrize(
    ("was", "to", "said"),
    [
        ("[nodes]", 'dsn = "host=x"\n[nodes]', "there is no key tenants.dsn"),
        ("vault =", 'dsn = "host=x"\nvault =', "dsn and key have no place"),
        ("north", "host", "host is no name for a node"),
        ("north", "North", "North is no name for a node"),
        ("host=n ", "password=secret ", "a connection string with a password"),
        ('north = "host=n dbname=shop"\nsouth = "host=s dbname=shop"', "", "needs lines"),
        ("[nodes]", '[citus]\ncoordinator = "west"\n[nodes]', "names no node as coordinator"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, was: str, to: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        spread(tmp_path, TEXT.replace(was, to))
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_rows_land_where_it_is_said_else_on_their_own_node(tmp_path: Path) -> None:
    found = spread(tmp_path)
    names = ("north", "south")
    assert landing(found, names, ()) == found.dsns
    assert landing(found, names, ("south=host=new",)) == {"north": "host=n dbname=shop", "south": "host=new"}
    assert landing(None, names, ("host=all",)) == {"north": "host=all", "south": "host=all"}
    with pytest.raises(ConfigError, match="where the rows of south are to go"):
        landing(None, names, ("north=host=a",))
    with pytest.raises(ConfigError, match="not each names its node"):
        landing(None, names, ("north=host=a", "host=b"))


def test_with_citus_rows_land_through_the_coordinator_without_the_options_of_protect(tmp_path: Path) -> None:
    text = TEXT.replace('"host=n dbname=shop"', "\"host=n dbname=shop options='-c citus.enable_ddl_propagation=off'\"")
    found = spread(tmp_path, text + '[citus]\ncoordinator = "north"\n')
    assert set(landing(found, ("north", "south"), ()).values()) == {"dbname=shop host=n"}
