"""The worker as a process: ``python -m ballast.mall.worker``. It does what `jobs` schedules, until SIGTERM; there may be several.

A job whose worker was killed would hold its lock for ever, and nothing of its kind would be done again. So each worker looks for
jobs whose worker gives no sign of life, and ends them: what they were to do is found again by the next of their kind.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import procrastinate
from procrastinate import exceptions
from procrastinate.jobs import Status

from ballast.errors import BallastError, ConfigError
from ballast.mall import jobs, settings
from ballast.mall.db import Database
from ballast.mall.payments.providers import providers
from ballast.mall.settings import Settings

SIGN_OF_LIFE_S = 3.0
SILENT_S = 12.0
"""A worker that gave no sign of life for so long is gone."""
_FINISH_S = 10.0
"""What is being done when it is told to end is finished within this time, or rolled back."""

_log = logging.getLogger(__name__)


async def work(found: Settings, ready: Path | None = None) -> None:
    """Works until SIGTERM or SIGINT; its process number is written into `ready` when it begins.

    Raises where the queue's database is lost: it is to be started again then."""
    db = Database(found)
    await db.open()
    app = jobs.queue(
        found.owner_dsn, db, providers(found), [], secret=found.secret, private_webhooks=found.private_webhooks
    )
    try:
        async with app.open_async():
            if ready is not None:
                ready.write_text(str(os.getpid()))
            tidying = asyncio.create_task(_end_jobs_of_the_dead(app))
            try:
                await app.run_worker_async(
                    concurrency=4,
                    delete_jobs="always",
                    shutdown_graceful_timeout=_FINISH_S,
                    update_heartbeat_interval=SIGN_OF_LIFE_S,
                    stalled_worker_timeout=SILENT_S,
                )
            finally:
                tidying.cancel()
                await asyncio.gather(tidying, return_exceptions=True)
    finally:
        await db.close()


async def end_stalled(app: procrastinate.App, *, silent_s: float = SILENT_S) -> int:
    """Ends jobs whose worker gave no sign of life for so long. Returns how many."""
    stalled = list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=silent_s))
    ended = 0
    for job in stalled:
        with suppress(exceptions.ConnectorException):  # another worker was quicker
            await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
            ended += 1
    return ended


async def _end_jobs_of_the_dead(app: procrastinate.App) -> None:
    while True:
        with suppress(exceptions.ConnectorException):
            if ended := await end_stalled(app):
                _log.warning("%d jobs of a dead worker ended: the next of their kind takes over", ended)
        await asyncio.sleep(SIGN_OF_LIFE_S)


def main() -> int:
    """Exit code 0: told to end; 1: the settings are not right."""
    parser = argparse.ArgumentParser(prog="python -m ballast.mall.worker", description=__doc__)
    parser.add_argument("--ready", type=Path, help="a file for its process number, written when it has begun")
    options = parser.parse_args()
    logging.basicConfig(format="[%(levelname)s] %(name)s: %(message)s", level=logging.WARNING)
    try:
        found = settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml")))
        if not found.owner_dsn:
            raise ConfigError("[mall] owner_dsn is missing", "The job queue's tables are reached by it.")
    except BallastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    asyncio.run(work(found, options.ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
