"""The worker as a process: ``python -m ballast.mall.worker``. It does what `jobs` lists, until SIGTERM; there may be several."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from ballast.errors import BallastError
from ballast.mall import jobs, settings, webhooks
from ballast.mall.db import Database
from ballast.mall.payments.providers import providers
from ballast.mall.settings import Settings
from ballast.mall.webhooks import signature


async def work(found: Settings, ready: Path | None = None) -> None:
    """Works until SIGTERM or SIGINT; its process number is written into `ready` when it begins."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    db = Database(found)
    await db.open()
    try:
        sender = webhooks.Sender(db, signature.safe(found.secret), private=found.private_webhooks)
        async with sender:
            if ready is not None:
                ready.write_text(str(os.getpid()))
            ended = await jobs.run(found.platform_dsn, jobs.jobs_of(db, providers(found), [], sender), stop)
            if not (await sender.ended() and ended):
                os._exit(0)  # see `jobs.run`
    finally:
        await db.close()


def main() -> int:
    """Exit code 0: told to end; 1: the settings are not right."""
    parser = argparse.ArgumentParser(prog="python -m ballast.mall.worker", description=__doc__)
    parser.add_argument("--ready", type=Path, help="a file for its process number, written when it has begun")
    options = parser.parse_args()
    logging.basicConfig(format="[%(levelname)s] %(name)s: %(message)s", level=logging.WARNING)
    try:
        found = settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml")))
    except BallastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    asyncio.run(work(found, options.ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
