"""The sandbox provider over real HTTP: pay page, callbacks that are doubled, disordered and not heard at once, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar

from ballast.mall import aftersales, jobs, orders, settings
from ballast.mall.payments.providers import providers
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.payments.start import start
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import RefundStatus, Status
from ballast.mall.settings import Settings
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import Caller
from tests.integration.mall.ordering import buy, guest
from tests.integration.mall.paying import Till, books_of


def mall() -> Litestar:
    """A web process (Granian calls it)."""
    from ballast.mall.web.app import create_app

    return create_app(settings.load(None))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Both:
    """A mall process and a sandbox process, each of which can be stopped and started."""

    def __init__(self, database: MallDatabase, folder: Path, **settings: object) -> None:
        self._ports = {"mall": _free_port(), "sandbox": _free_port()}
        self._folder = folder
        self.settings: Settings = database.settings(
            base_url=f"http://127.0.0.1:{self._ports['mall']}",
            sandbox_url=f"http://127.0.0.1:{self._ports['sandbox']}",
            sandbox_file=str(folder / "sandbox.sqlite"),
            sandbox_delay_s=0.05,
            sandbox_spread_s=0.2,
            sandbox_copies=3,
            **settings,
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start("sandbox")
            self.start("mall")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("mall")
        self.stop("sandbox")

    def start(self, name: str) -> None:
        target = {"mall": f"{__name__}:mall", "sandbox": "ballast.mall.sandbox.serve:application"}[name]
        given = {
            f"BALLAST_MALL_{key.upper()}": str(value) for key, value in msgspec.structs.asdict(self.settings).items()
        }
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--workers", "1"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self._ports[name]), target],
                env=os.environ | given | {"PYTHONPATH": os.pathsep.join(sys.path), "BALLAST_CONFIG": "/nowhere"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[name]), 1):
                return
            assert time.monotonic() < until, (self._folder / f"{name}.log").read_text()
            time.sleep(0.05)

    def stop(self, name: str) -> None:
        if process := self._running.pop(name, None):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


@pytest.fixture
def both(mall_database: MallDatabase, tmp_path: Path) -> Iterator[Both]:
    with Both(mall_database, tmp_path) as running:
        yield running


async def _until(till: Till, order: UUID, wanted: tuple[Status, RefundStatus]) -> None:
    for _ in range(600):
        seen = await till.act(lambda c: orders.get(c, order))
        if (seen.status, seen.refund_status) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the order is {seen.status}, {seen.refund_status} and not {wanted}")


def test_paid_on_the_pay_page_told_by_callbacks_over_restarts_and_paid_back(both: Both, open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    asyncio.run(_story(both, shop))
    assert books_of(shop) == {"sales": -1000, "refunds": 1000}
    heard = shop.database.run(
        "SELECT kind, outcome FROM mall.payment_callback WHERE shop_id = %s ORDER BY received_at", shop.shop_id
    )
    assert heard == [("payment.failed", "failed"), ("payment.succeeded", "paid"), ("refund.succeeded", "refunded")]


async def _story(both: Both, shop: Shop) -> None:
    till = Till(shop)
    till.settings = both.settings
    provider = Sandbox(both.settings)
    await till.db.open()
    now = datetime.now(UTC)
    async with httpx.AsyncClient(follow_redirects=False) as browser:
        order = (await till.act(lambda c: buy(c, guest(), shop.goods[0].sku_ids[0], now=now))).order_id

        async def begin() -> str:
            return await start(
                till.db, shop.shop_id, order, provider, owner=None, return_url="http://shop.example/back", now=now
            )

        url = await begin()
        assert "沙盒支付" in (await browser.get(url)).text
        assert "Sandbox payment" in (await browser.get(url, headers={"Accept-Language": "en"})).text
        declined = await browser.post(url, data={"decision": "decline"})
        assert (declined.status_code, declined.headers["location"]) == (303, "http://shop.example/back")
        for _ in range(600):
            if (second := await begin()) != url:
                break
            await asyncio.sleep(0.05)

        # The shop is away when it is paid, and the provider is started again meanwhile: it tells later.
        both.stop("mall")
        await browser.post(second, data={"decision": "pay"})
        assert (await till.act(lambda c: orders.get(c, order))).status == Status.PENDING_PAYMENT
        both.stop("sandbox")
        both.start("sandbox")
        both.start("mall")
        await _until(till, order, (Status.PAID, RefundStatus.NONE))

        await till.act(lambda c: aftersales.cancel_paid(c, order, actor="t", reason="r", now=now))
        assert await jobs.pay_back(till.db, {"sandbox": provider}, now) == 1
        await _until(till, order, (Status.CANCELLED, RefundStatus.REFUNDED))

        with pytest.raises(Refused, match="no"):
            await provider.refund(shop.shop_id, order, order, amount_fen=1)
        # All copies are heard, and only one of each was counted.
        forged = await browser.post(f"{both.settings.base_url}/pay/callback/sandbox/{shop.shop_id}", content=b"{}")
        nowhere = await browser.post(f"{both.settings.base_url}/pay/callback/other/{shop.shop_id}", content=b"{}")
        assert (forged.status_code, nowhere.status_code) == (401, 404)
    assert list(providers(both.settings)) == ["sandbox"]
    await provider.close()
    await till.provider.close()
    await till.db.close()


def test_a_program_has_paid_with_five_requests_where_the_provider_waits_for_the_shop(
    mall_database: MallDatabase, tmp_path: Path, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    running = Both(mall_database, tmp_path, sandbox_redirect_wait_s=30.0)
    try:
        running.start("sandbox")
        running.start("mall")
        with httpx.Client(base_url=running.settings.base_url) as client:
            caller = Caller(client, f"/api/v1/shops/{shop.slug}")
            caller.token = caller.call("PUT", f"/cart/lines/{sku}", {"quantity": 2})["token"]
            placed = caller.order(sku, 2, key="once", pay=True)
            assert caller.order(sku, 2, key="once", pay=True) == placed  # with the same address to pay at
            back = httpx.post(placed["pay_url"], data={"decision": "pay"})
            assert back.headers["location"].endswith(f"/s/{shop.slug}/orders/{placed['order_id']}/paid")
            assert caller.call("GET", f"/orders/{placed['order_id']}")["status"] == "paid"
            assert caller.order(sku, 2, key="once", pay=True) == {**placed, "status": "paid", "pay_url": None}
    finally:
        running.stop("mall")
        running.stop("sandbox")
    assert shop.database.run("SELECT count(*)::integer FROM mall.payment WHERE shop_id = %s", shop.shop_id) == [(1,)]
