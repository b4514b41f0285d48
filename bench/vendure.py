"""A guest's whole checkout over HTTP (cart, customer, address, delivery, payment), by 1, 8 and 16 shoppers at once, beside
Vendure 3 on the same machine and database server, in turn in the same minutes. An order ends when the shop says: paid."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from uuid import uuid4

from bench import vendure_shop
from bench.http import Client
from bench.mall import SKU, Mall, Sizes, free_port, made_id
from bench.results_file import keep
from bench.setting import setting

_REACH = 20.0
_SHOPPERS = (1, 8, 16)
Shop = Callable[[random.Random], Callable[[], None]]
"""Makes a shopper, who orders each time he is called."""


def orders_a_second(shop: Shop, shoppers: int, seconds: float) -> tuple[float, float]:
    """(orders a second, median seconds of one) of so many at once. RuntimeError where one of them failed."""
    took: list[float] = []
    failed: list[BaseException] = []
    until = time.perf_counter() + seconds

    def one(number: int) -> None:
        try:
            buy = shop(random.Random(number + time.time()))
            while (began := time.perf_counter()) < until:
                buy()
                took.append(time.perf_counter() - began)
        except BaseException as error:
            failed.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(shoppers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"a shopper failed: {failed[0]!r}") from failed[0]
    return len(took) / (time.perf_counter() - began), statistics.median(took)


def at_vendure(port: int) -> Shop:
    """Shoppers of Vendure."""

    def shopper(chance: random.Random) -> Callable[[], None]:
        client = Client(port)
        return lambda: vendure_shop.order(client, chance)

    return shopper


def at_mall(mall: Mall) -> Shop:
    """Shoppers of the mall, through its API; the payment at the sandbox provider, which tells the shop by its callback, and sends
    the shopper back when the shop has heard of it."""

    def shopper(chance: random.Random) -> Callable[[], None]:
        shop, provider = Client(mall.port), Client(mall.sandbox_port)
        return lambda: _order(mall, shop, provider, chance)

    return shopper


def _order(mall: Mall, shop: Client, provider: Client, chance: random.Random) -> None:
    s = chance.randint(1, mall.sizes.measured)
    sku = made_id(SKU, s * 10_000 + chance.randint(1, mall.sizes.products))
    base = f"/api/v1/shops/s{s}"
    token = ""

    def ask(method: str, path: str, said: object = None, expected: int = 201, **headers: str) -> dict[str, object]:
        body = b"" if said is None else json.dumps(said).encode()
        if body:
            headers["Content_Type"] = "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        answer = shop.ask(method, base + path, body, **headers)
        if answer.status != expected:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        found: dict[str, object] = json.loads(answer.body)
        return found

    token = str(ask("PUT", f"/cart/lines/{sku}", {"quantity": 1}, 200)["token"])
    goods: dict[str, object] = {
        "lines": [{"sku_id": str(sku), "quantity": 1}],
        "address": {"name": "a b", "phone": "13800000000", "province": "广东省", "city": "深圳市", "street": "x"},
        "delivery": "ship",
    }
    shown = ask("POST", "/quotes", goods, 200)["total_fen"]
    placed = ask("POST", "/orders", {**goods, "agreed_fen": shown, "pay": True}, Idempotency_Key=uuid4().hex)
    url = str(placed["pay_url"])
    answer = provider.ask(
        "POST", url.split("/", 3)[3].join(("/", "")), b"decision=pay", Content_Type="application/x-www-form-urlencoded"
    )
    if answer.status != 303:
        raise RuntimeError(f"the provider said {answer.status}")
    until = time.perf_counter() + 10
    while ask("GET", f"/orders/{placed['order_id']}", expected=200)["status"] != "paid":
        if time.perf_counter() > until:
            raise RuntimeError("the shop did not hear of the payment")
        time.sleep(0.005)


def main() -> int:
    """Measure; exit code 1 where a factor is below 20."""
    parser = argparse.ArgumentParser(prog="bench.vendure")
    parser.add_argument("--small", action="store_true", help="to try it out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    options = parser.parse_args()
    seconds, rounds = (4.0, 1) if options.small else (options.seconds, options.rounds)
    with setting() as here:
        mall = Mall(here, Sizes(100, 100, 20, 0))
        port = free_port()
        found: dict[int, list[tuple[float, float, float, float]]] = {n: [] for n in _SHOPPERS}
        with vendure_shop.vendure(here, mall.server, port) as version, mall.web(options.workers), mall.sandbox():
            theirs, ours = at_vendure(port), at_mall(mall)
            # Both are warm: statements prepared, code compiled.
            for shop in (theirs, ours):
                orders_a_second(shop, 8, 6)
            for _ in range(rounds):
                for shoppers in _SHOPPERS:
                    found[shoppers].append(
                        orders_a_second(theirs, shoppers, seconds) + orders_a_second(ours, shoppers, seconds)
                    )
    rows: list[tuple[object, ...]] = []
    reached = True
    for shoppers, measured in found.items():
        their_rate, their_s, our_rate, our_s = (statistics.median(column) for column in zip(*measured, strict=True))
        factor = statistics.median(one[2] / one[0] for one in measured)
        reached = reached and factor >= _REACH
        rows.append(
            (
                shoppers,
                f"{their_rate:.1f}",
                f"{their_s * 1e3:.0f} ms",
                f"{our_rate:.1f}",
                f"{our_s * 1e3:.0f} ms",
                f"{factor:.1f}",
            )
        )
    rows.append(("reach", "", "", "", "", f"{_REACH:.0f}"))
    columns = ("shoppers", f"Vendure {version}, orders a second", "p50", "Ballast, orders a second", "p50", "factor")
    keep("vendure", "make bench (python -m bench vendure)", columns, rows)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
