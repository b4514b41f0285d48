"""What nothing below has put into words still comes out as a message, and never with a password in it."""

import errno
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from ballast.cli.unforeseen import put_into_words
from ballast.errors import ConfigError, ServerError


def _failure(dsn: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        psycopg.connect(dsn, connect_timeout=2)
    return caught.value


@pytest.mark.parametrize(
    "dsn",
    [
        "host=127.0.0.1 port=1 dbname=shop user=u password=geheim",
        "postgresql://u:geheim@127.0.0.1:1/shop",
        "postgresql://u:geh@eim@127.0.0.1:1/shop",
    ],
)
def test_a_server_that_is_away_is_named_without_the_password(dsn: str) -> None:
    said = put_into_words(_failure(dsn), ["restore", "--vault", "v", "--into", dsn])

    assert isinstance(said, ServerError)
    assert "127.0.0.1, port 1, database shop" in said.what
    assert "geh" not in str(said)
    assert said.do


def test_a_connection_string_that_is_none_is_not_repeated() -> None:
    said = put_into_words(_failure("geheim"), ["protect", "geheim"])

    assert isinstance(said, ConfigError)
    assert "geheim" not in str(said)


def test_a_server_known_from_ballast_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "ballast.toml").write_text('dsn = "host=db.example dbname=shop user=u"\nvault = "v"\n')

    said = put_into_words(psycopg.OperationalError("gone"), ["unprotect", "--config", str(tmp_path / "ballast.toml")])

    assert "db.example, database shop" in said.what


def test_a_statement_that_is_refused_keeps_the_servers_code() -> None:
    said = put_into_words(psycopg.errors.InsufficientPrivilege("permission denied for table t"), [])

    assert "permission denied for table t (42501)" in said.what


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.ENOTDIR])
def test_a_path_that_cannot_be_written_is_named(number: int) -> None:
    said = put_into_words(OSError(number, "no", "/var/lib/ballast"), [])

    assert said.what.startswith("/var/lib/ballast: ")
    assert said.do


def test_the_command_says_it_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    (tmp_path / "ballast.toml").write_text('dsn = "host=127.0.0.1 port=1 dbname=x"\nvault = "v"\nstate_dir = "state"\n')

    done = _ballast(tmp_path, "record")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "do: " in done.stderr


def test_the_version_is_shown(tmp_path: Path) -> None:
    assert _ballast(tmp_path, "--version").stdout.startswith("ballast 0.")


def _ballast(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ballast.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
