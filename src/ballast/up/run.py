"""One run of the platform: everything is looked at before anything is started."""

from __future__ import annotations

from ballast.supervise import Supervisor
from ballast.supervise import note as notes
from ballast.supervise.lines import Console, Write
from ballast.supervise.processes import end_left
from ballast.up import demo, welcome
from ballast.up.parts import parts_of
from ballast.up.platform import Platform
from ballast.up.ports import refuse_taken
from ballast.up.prepare import refuse_if_lost


def run(platform: Platform, write: Write, *, shops: demo.Shops | None = None, everything: bool = False) -> int:
    """Runs until it is told to stop. `shops`: to be made, where they are not there. 0: stopped as asked; 1: it could not go on.

    ConfigError before anything is started: it runs already, a port is taken, the server's data is gone."""
    with notes.only_one(platform.folder):
        left = end_left(platform.folder)
        refuse_if_lost(platform)
        refuse_taken(platform.up.host, {"port": platform.up.port})
        if platform.up.sandbox_port:
            refuse_taken(platform.up.sandbox_host, {"sandbox_port": platform.up.sandbox_port})
        console = Console(write)
        try:
            if left:
                console.say("up", f"ended {len(left)} processes that a former run had left behind")

            def when_up() -> None:
                for line in welcome.lines(platform, demo.lines(platform) if shops else []):
                    console.say("up", line)

            parts = [*parts_of(platform), *([demo.part_of(platform, shops)] if shops else [])]
            return Supervisor(parts, platform.folder, console, everything=everything, when_up=when_up).run()
        finally:
            console.close()
