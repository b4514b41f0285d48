"""`python -m ballast.postgres FOLDER`: a server to try things with. Prints its connection string; ends with Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from ballast.errors import BallastError
from ballast.postgres.embedded import EmbeddedServer


def main() -> int:
    """Exit code 0 when told to end, 1 where the server does not start."""
    parser = argparse.ArgumentParser(prog="python -m ballast.postgres", description=__doc__)
    parser.add_argument("folder", type=Path, help="its data folder: kept, and found again by the next start")
    parser.add_argument("--major", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    server = EmbeddedServer(options.folder.absolute(), major=options.major)
    try:
        server.start()
    except BallastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(server.dsn() + "\n")
    sys.stdout.flush()
    told.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
