"""`python -m ballast.postgres FOLDER`: a server to try things with. Prints its connection string; ends with Ctrl-C or SIGTERM.

SIGQUIT, or a second signal while it stops, ends the server at once (it replays its log at the next start). Should the server
itself die, this process ends with exit code 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from ballast.errors import BallastError
from ballast.postgres.embedded import EmbeddedServer

_LOOK_S = 0.25


class _Told(BaseException):
    """A signal came. `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Exit code 0 when told to end, 1 where the server does not start, or dies."""
    parser = argparse.ArgumentParser(prog="python -m ballast.postgres", description=__doc__)
    parser.add_argument("folder", type=Path, help="its data folder: kept, and found again by the next start")
    parser.add_argument("--major", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()

    def tell(number: int, frame: FrameType | None) -> None:
        raise _Told(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, tell)
    server = EmbeddedServer(options.folder.absolute(), major=options.major)
    try:
        try:
            server.start()
            sys.stdout.write(server.dsn() + "\n")
            sys.stdout.flush()
            while server.running():
                time.sleep(_LOOK_S)
        except _Told as told:
            if told.number != signal.SIGQUIT:
                server.stop()
                return 0
            raise
    except _Told:
        server.stop("immediate")
        return 0
    except BallastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"the server in {server.data_dir} has ended, and nobody here told it to: see {server.log_path}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
