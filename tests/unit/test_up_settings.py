"""`[up]` and `[mall]` stand in the vault's ballast.toml, and neither half loses what the other wrote."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ballast.errors import ConfigError
from ballast.mall import settings as mall
from ballast.mall.settings import Settings
from ballast.up import secrets
from ballast.up.parts import parts_of
from ballast.up.platform import resolve
from ballast.up.ports import is_local, refuse_taken
from ballast.up.settings import load
from ballast.vault import config

OURS = """dsn = "host=db dbname=mall"
vault = "vault"

# how we run it
[up]
port = 8080  # the proxy knows it

[tenants]
column = "shop_id"

[mall]
base_url = "https://mall.example"
[record]
on_recorder_loss = "continue after 5s"
"""


def test_the_vault_passes_over_what_is_not_its_own_and_keeps_it_when_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "ballast.toml"
    path.write_text(OURS)
    settings = config.load(path)
    assert settings.tenants.column == "shop_id"

    config.write(settings, path)
    config.write(settings, path)

    assert config.load(path) == settings
    text = path.read_text()
    assert text.endswith(
        '\n# how we run it\n[up]\nport = 8080  # the proxy knows it\n\n[mall]\nbase_url = "https://mall.example"\n'
    )
    assert text.count("[up]") == text.count("[mall]") == 1
    pinned = config.pin(settings, path, "ab" * 32)
    assert config.load(path) == pinned
    assert text.count("[mall]") == 1


def test_the_command_line_goes_before_the_environment_and_that_before_the_file() -> None:
    document = {"up": {"port": 1, "host": "a", "web_workers": 3}}
    up = load(document, {"port": 3, "host": None}, "ballast.toml", {"BALLAST_UP_PORT": "2", "BALLAST_UP_HOST": "b"})
    assert (up.port, up.host, up.web_workers) == (3, "b", 3)


def test_whatever_the_pages_listen_at_the_sandbox_provider_is_for_this_machine_alone(tmp_path: Path) -> None:
    def addresses(**up: object) -> tuple[str, str]:
        (tmp_path / "ballast.toml").write_text(
            "[up]\n" + "\n".join(f"{name} = {value!r}" for name, value in up.items())
        )
        platform = resolve(tmp_path / "ballast.toml", tmp_path / "data", {"host": "0.0.0.0"})
        command = next(part.command for part in parts_of(platform) if part.name == "sandbox")
        return command[command.index("--host") + 1], platform.mall.sandbox_url

    assert addresses() == ("127.0.0.1", "http://127.0.0.1:8001")
    assert addresses(sandbox_host="10.0.0.7") == ("10.0.0.7", "http://10.0.0.7:8001")
    assert [is_local(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.7", "")] == [True] * 3 + [
        False
    ] * 3


def test_no_part_that_serves_or_works_has_the_owners_dsn(tmp_path: Path) -> None:
    platform = resolve(tmp_path / "ballast.toml", tmp_path / "data", {})
    for part in parts_of(platform):
        if part.name in ("web", "worker", "sandbox"):
            assert part.env["BALLAST_MALL_OWNER_DSN"] == "", part.name


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"prot": 1}, "prot"),
        ({"port": "x"}, "port"),
        ({"port": 0}, "port"),
        ({"port": 8001}, "8001"),
        ({"web_workers": 0}, "web_workers"),
    ],
)
def test_a_mistake_is_named(document: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load({"up": document}, {}, "ballast.toml", {})


def test_settings_travel_through_the_environment_as_they_are() -> None:
    settings = Settings(
        app_dsn="a b='c'",
        identity_dsn="i",
        platform_dsn="p",
        owner_dsn="o",
        secret="s" * 40,
        secure_cookies=True,
        pool_size=3,
    )
    assert mall.load(None, mall.to_environ(settings)) == settings
    assert mall.load(None, mall.to_environ(settings, without=("owner_dsn",))).owner_dsn == ""


def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    made = secrets.of_folder(tmp_path)
    assert secrets.of_folder(tmp_path) == made
    assert (tmp_path / secrets.SECRETS_FILE).stat().st_mode & 0o777 == 0o600
    assert len({made.secret, made.mall_app, made.mall_identity, made.mall_platform, made.demo}) == 5


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} .* taken"):
            refuse_taken("127.0.0.1", {"port": port})
    refuse_taken("127.0.0.1", {"port": port})
