"""SIGKILL between any two steps of `ballast protect` on a server that goes on from a parent: the next run completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest

from ballast.vault import config
from tests.deep import mostly_deep
from tests.fix_descent import Recovered
from tests.fix_postgres import NewServer
from tests.fix_protected import Protected, assert_equal
from tests.integration.test_descent_recovered import images, lost

STEPS = (
    "protect.installed", "protect.triggers", "protect.published", "protect.begun", "protect.slot", "protect.dumped",
    "protect.decided", "protect.entry", "protect.entry", "protect.entry", "protect.entry", "protect.finished",
)  # fmt: skip
_RUN = """
import sys
from pathlib import Path
from ballast.vault import config, protect
from tests.fix_protected import Silent
path = Path(sys.argv[1])
settings = config.load(path)
print(protect.protect(settings, path, settings.dsn, Silent()).did)
"""


def run(protected: Protected, fail: str = "") -> int:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(protected.config_path)],
        env={**os.environ, "BALLAST_FAIL": fail}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.timeout(300)
@pytest.mark.parametrize("finished", mostly_deep([False, True], True))
def test_protecting_a_recovered_server_survives_kills(
    own_server: NewServer, new_protected: Callable[..., Protected], finished: bool
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        recovered = Recovered(protected, to)
        if finished:
            recovered.everything()
            to.run("UPDATE word SET said = 'written before the slot'")
        else:
            recovered.structure()
            recovered.back("1")
        protected.db = to
        protected.config = msgspec.structs.replace(config.load(protected.config_path), dsn=to.dsn)
        config.write(protected.config, protected.config_path)
        killed = [step for step in STEPS if run(protected, step) == -signal.SIGKILL]
        assert killed[:7] == list(STEPS[:7])
        assert run(protected) == 0
        vault = protected.vault()
        assert sorted(vault.index.timelines) == [1, 2]
        assert [image is not None for image in images(protected, 2)] == ([True] if finished else [])
        assert len([v for v in vault.index.schemas.values() if v.timeline == 2]) == 1
        protected.start()
        if not finished:
            recovered.back("2", "3", "4", "5", "6")
            recovered.shared("word")
            recovered.finished()
        to.run("UPDATE shop SET name = 'on it goes'")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        assert_equal(protected.vault(), before)
        protected.verified()
