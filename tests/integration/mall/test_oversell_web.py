"""Many shoppers at once on few pieces, over HTTP, while web processes are killed under them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from ballast.mall import jobs
from ballast.mall.settings import to_environ
from tests.fix_mall import MallDatabase, OpenShop
from tests.fix_people import with_database
from tests.integration.mall.calling import ADDRESS, shopper_of
from tests.integration.mall.ordering import stock_of
from tests.integration.mall.test_oversell import _BROKEN, _MOVED

SHOPPERS, PIECES, KILLS = 200, 50, 3
_OFTEN = 1_000_000


@pytest.fixture
def granian(mall_database: MallDatabase, tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of two web processes, and the process that starts them again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = mall_database.settings(
        sandbox_url="http://127.0.0.1:9",
        base_url=f"http://127.0.0.1:{port}",
        api_caller_per_minute=_OFTEN,
        api_address_per_minute=_OFTEN,
        api_shop_per_minute=_OFTEN,
    )
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--workers", "2", "--no-ws"]
    command += ["--respawn-failed-workers", "--port", str(port), "ballast.mall.web.serve:application"]
    given = to_environ(settings) | {"PYTHONPATH": os.pathsep.join(sys.path), "BALLAST_CONFIG": "/nowhere"}
    with (tmp_path / "web.log").open("ab") as log:
        started = subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log, start_new_session=True)
    process = psutil.Process(started.pid)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200:
                    break
            assert time.monotonic() < until, (tmp_path / "web.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process
    finally:
        family = [*process.children(recursive=True), process]
        started.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for one in alive:
            one.kill()
        started.wait(10)


def test_200_shoppers_of_the_last_50_pieces_buy_exactly_50_though_web_processes_are_killed(
    granian: tuple[str, psutil.Process], open_shop: OpenShop
) -> None:
    url, process = granian
    shop = open_shop()
    sku = shop.add_product(stock=PIECES).sku_ids[0]
    lines = [{"sku_id": str(sku), "quantity": 1}]
    with httpx.Client(base_url=url, timeout=20) as client:
        quoted = shopper_of(client, shop).call("POST", "/quotes", {"lines": lines, "address": ADDRESS})
    order = {"lines": lines, "address": ADDRESS, "agreed_fen": quoted["total_fen"]}
    broken = Counter[str]()

    async def send(client: httpx.AsyncClient, path: str, body: object, headers: dict[str, str]) -> httpx.Response:
        """Until it is answered: whoever hears nothing asks again, with the same key."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(f"/api/v1/shops/{shop.slug}{path}", json=body, headers=headers)
                if answer.status_code != 503:
                    return answer
                broken["503"] += 1
            broken["again"] += 1
            await asyncio.sleep(0.2)

    async def shopper(client: httpx.AsyncClient, number: int) -> int:
        token = (await send(client, "/visitors", None, {})).json()["token"]
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"shopper-{number}"}
        return (await send(client, "/orders", order, headers)).status_code

    async def killer() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(0.4)
            workers = [one for one in process.children() if one.status() != psutil.STATUS_ZOMBIE]
            workers[0].kill()
            broken["killed"] += 1

    async def rush() -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=20, limits=httpx.Limits(max_connections=SHOPPERS)) as client:
            answers = asyncio.gather(*(shopper(client, number) for number in range(SHOPPERS)))
            await killer()
            return await answers

    answers = Counter(asyncio.run(asyncio.wait_for(rush(), 90)))
    assert answers == {201: PIECES, 409: SHOPPERS - PIECES}, (answers, broken)
    assert broken["killed"] == KILLS
    assert broken["again"] > broken["503"], "no shopper was cut off in the middle"
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(PIECES,)]
    assert shop.database.run(_BROKEN, shop.shop_id) == [(0,)]
    assert stock_of(shop, sku) == (PIECES, PIECES)

    later = datetime.now(UTC) + timedelta(hours=1)
    assert with_database(shop.database, lambda db: jobs.expire(db, later)) == PIECES
    assert stock_of(shop, sku) == (PIECES, 0)
    assert shop.database.run(_MOVED, sku) == [(PIECES, 0)]
