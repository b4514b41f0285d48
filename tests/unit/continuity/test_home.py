"""What is told of a server's data by its files alone."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path

import pytest

from ballast.continuity.home import Data, Home
from ballast.errors import ServerError


def test_only_a_folder_that_is_not_there_is_gone(tmp_path: Path) -> None:
    home = Home(tmp_path / "server")
    pgdata = home.server.pgdata
    (pgdata / "global").mkdir(parents=True)
    (pgdata / "base").mkdir()
    (pgdata / "global" / "pg_control").write_bytes((7).to_bytes(8, sys.byteorder))
    assert (home.data("7"), home.data("8")) == (Data.THERE, Data.ANOTHER)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # this process can open no file any more
    try:
        assert home.data("7") is Data.THERE
        with pytest.raises(ServerError, match="cannot be looked at"):
            home.put_aside("7", tmp_path / "lost")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pgdata.is_dir()
    (pgdata / "base").rmdir()
    assert home.data("7") is Data.GONE
    shutil.rmtree(pgdata)
    assert home.data("7") is Data.GONE
