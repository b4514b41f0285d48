"""A vault in a bucket, over HTTP: protected, recorded, merged, restored, verified and looked into with the commands.

Only three things are asked of the bucket: put if there is nothing by that name, get, list.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from ballast.postgres.lsn import format_lsn
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import Database
from tests.fix_protected import table_rows
from tests.fix_vault import Asked, bucket_url, s3_environment

pytestmark = pytest.mark.any_version

New = Callable[..., Pipeline]


def ballast(*arguments: str) -> str:
    """A command, which must succeed; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "ballast.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unexpected(asked: Asked) -> bool:
    """Whether a request is none of the three."""
    if asked.method == "PUT":
        return asked.if_none_match != "*"
    return asked.method not in ("GET", "HEAD")


@pytest.mark.timeout(240)
def test_a_vault_in_a_bucket(
    pg: Database, s3_endpoint: str, s3_requests: list[Asked], new_pipeline: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    pipeline = new_pipeline(pg, vault=bucket_url(), seal_after_s=0.1, merge_every_s=1.0)
    url, state = pipeline.config.vault, str(pipeline.config.state_dir)
    pipeline.start()
    clients = pipeline.clients(3)
    pipeline.until(lambda: pipeline.lines(event="merged"), "a merge", 90)
    early = pipeline.look()
    stands = len(clients.acknowledged)
    pipeline.until(lambda: len(clients.acknowledged) > stands + 100, "more commits")
    pipeline.check(clients.stop())

    position = f"{early.cut.timeline}/{format_lsn(early.cut.lsn)}"
    everything, alone = pg.another(), pg.another()
    ballast("restore", "--vault", url, "--into", everything.dsn, "--at", position)
    with psycopg.connect(everything.dsn) as conn:
        assert table_rows(conn) == early.rows
    ballast("restore", "--vault", url, "--into", alone.dsn, "--at", position, "--tenant", "3")
    with psycopg.connect(alone.dsn) as conn:
        rows = table_rows(conn)
    assert rows["public.seen"] == early.rows["public.seen"]  # shared
    assert rows["public.item"] == [line for line in early.rows["public.item"] if line.startswith(b"3\t")] != []
    assert rows["public.t"] == [line for line in early.rows["public.t"] if line.endswith(b"\t3")] != []

    versions = json.loads(ballast("history", "--vault", url, "--tenant", "3", "item", "3,5", "--json"))
    assert len(versions["versions"]) > 3
    assert json.loads(ballast("verify", "--vault", url, "--state-dir", state, "--json"))["sound"]
    pipeline.stop()
    pipeline.check_nothing_is_left()
    pipeline.verified()
    assert {asked.method for asked in s3_requests} >= {"PUT", "GET"}
    assert not [asked for asked in s3_requests if unexpected(asked)]
