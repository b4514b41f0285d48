"""Server, recorder and sentinel, kept running as `ballast up` does: `python -m tests.integration.continuity.running FOLDER`.
With a second argument the server is not ours, and somebody else keeps it running."""

from __future__ import annotations

import sys
from pathlib import Path

from ballast.supervise import Part, Supervisor
from ballast.supervise import note as notes
from ballast.supervise.lines import Console
from ballast.up.parts import Records, Serves, Watches, tied


def parts(folder: Path, *, ours: bool) -> list[Part]:
    config, server, sea = str(folder / "ballast.toml"), folder / "server", folder / "continuity"
    needs = ("server",) if ours else ()
    made = [
        Part("server", tied("ballast.postgres", str(server)), ready=Serves(server / "pgdata"), stops=3, lived_s=5),
    ]
    return [
        *(made if ours else ()),
        Part(
            "recorder", tied("ballast.continuity.holding", "--config", config, "--folder", str(sea)),
            needs=needs, ready=Records(folder / "state", sea), stops=2, stop_patience_s=60, lived_s=5,
        ),
        Part(
            "sentinel", tied("ballast.continuity.sentinel", "--config", config, *(("--server", str(server)) if ours else ())),
            needs=needs, ready=Watches(sea), stops=1, lived_s=5,
        ),
    ]  # fmt: skip


def main() -> int:
    folder = Path(sys.argv[1])
    console = Console(lambda who, text, bad: print(who, text, flush=True))
    try:
        with notes.only_one(folder):
            return Supervisor(parts(folder, ours=len(sys.argv) == 2), folder, console, everything=True).run()
    finally:
        console.close()


if __name__ == "__main__":
    sys.exit(main())
