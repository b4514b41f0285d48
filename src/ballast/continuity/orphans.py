"""Ends the lifeboats' servers that nobody looks after any more: their sentinel was killed, and with it whoever starts it again.

`watch` starts this file as a process of its own, which waits for the end of a pipe that the sentinel alone holds open. A sentinel
that is started again in time takes over what it needs, and nothing of that is touched. Data stays where it is, for whoever goes
on with the same incident.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

LONGEST_S = 30.0
"""So long whoever starts the sentinel again has for that."""
_LOOK_S = 0.2


def watch(folder: Path, major: int) -> subprocess.Popen[bytes]:
    """Have the servers in `folder`/<number> ended when this process has been killed; it ends by itself when its stdin is closed
    and none of them is left."""
    return subprocess.Popen(
        # -P: the modules that stand beside this file are no top-level ones
        [sys.executable, "-P", __file__, str(folder), str(major), str(os.getppid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not meant for it
    )


def _main(folder: Path, major: int, starter: int) -> None:
    """`starter`: who starts the sentinel again, as long as it lives."""
    starter_ended = select.poll()
    if sys.platform == "linux":
        try:
            starter_ended.register(os.pidfd_open(starter), select.POLLIN)
        except OSError:
            starter = 0
    sys.stdin.buffer.read()
    from ballast.errors import BallastError  # only now: until then it takes no more room than an empty interpreter
    from ballast.postgres import EmbeddedServer

    # Those that are there now: what comes later is of the next sentinel.
    servers = [EmbeddedServer(path, major=major) for path in folder.iterdir() if path.name.isdigit()]
    until = time.monotonic() + (LONGEST_S if starter else 0.0)
    while orphans := [one for one in servers if one.running() and not one.has_owner]:
        if time.monotonic() < until and not starter_ended.poll(_LOOK_S * 1000):
            continue
        for one in orphans:
            try:
                one.stop("immediate")
            except (BallastError, OSError):
                continue
        return


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
