"""`[continuity]` and `[recovery]`, and that every command passes them over."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from ballast.continuity import settings
from ballast.errors import ConfigError
from ballast.vault import config

FILE = """dsn = "host=db"
vault = "vault"

# Ours.
[continuity]
node = 1
nodes = 2

[recovery]
automatic = "ask"
"""


def test_they_are_read_and_kept_beside_the_vaults_own(tmp_path: Path) -> None:
    path = tmp_path / "ballast.toml"
    path.write_text(FILE)
    vaults = config.load(path)
    config.write(vaults, path)
    found = settings.load(tomllib.loads(path.read_text()), "ballast.toml")
    assert (found.asks(ours=True), found.continuity.node, found.continuity.enabled) == (True, 1, True)
    assert "# Ours." in path.read_text()
    assert settings.folder_of(found, vaults.state_dir, tmp_path) == tmp_path / "continuity"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"recovery": {"automatic": False}}, "ask"),
        ({"recovery": {"automatic": "never"}}, "recovery"),
        ({"continuity": {"probes": "SELECT 1"}}, "probe"),
        ({"continuity": {"nodes": 2, "node": 2}}, "nodes - 1"),
        ({"continuity": {"lifeboat_bytes": 1000}}, "lifeboat_bytes"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(document: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings.load(document, "ballast.toml")
    assert words in f"{refused.value.what} {refused.value.do}"


def test_a_server_of_somebody_else_is_recovered_at_a_persons_word_unless_it_is_set() -> None:
    left_out, said = settings.load({}, "ballast.toml"), settings.load({"recovery": {"automatic": True}}, "ballast.toml")
    assert [left_out.asks(ours=True), left_out.asks(ours=False)] == [False, True]
    assert [said.asks(ours=True), said.asks(ours=False)] == [False, False]
