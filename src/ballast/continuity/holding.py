"""The recorder as a part of a platform: it does not record while its server is being made anew.

    python -m ballast.continuity.holding --config ballast.toml --folder FOLDER

waits as long as the sentinel holds it, then is `ballast.vault.recorder`. A recorder that ran meanwhile would refuse the new
server, end, and be started ever more seldom; and it would keep `protect` from the spool.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ballast.vault.durable import remove_file, replace_file

_HOLD = "hold"
_LOOK_S = 0.05


def hold(folder: Path) -> None:
    """No recorder begins from now on; one that runs is not touched."""
    replace_file(folder / _HOLD, b"")


def let_go(folder: Path) -> None:
    """It may."""
    remove_file(folder / _HOLD)


def is_held(folder: Path) -> bool:
    """Whether it must wait."""
    return (folder / _HOLD).exists()


def main() -> None:
    """As of the recorder."""
    parser = argparse.ArgumentParser(prog="python -m ballast.continuity.holding")
    parser.add_argument("--config", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    from ballast.vault import recorder  # so that it begins at once when it may

    while is_held(options.folder):
        time.sleep(_LOOK_S)
    sys.argv = [sys.argv[0], "--config", options.config]
    recorder.main()


if __name__ == "__main__":
    main()
