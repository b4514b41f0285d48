"""A guest's whole checkout over HTTP (cart, customer, address, delivery, payment), by 1, 8 and 16 shoppers at once, beside
Vendure 3 on the same machine and database server, in turn in the same minutes. An order ends when the shop says: paid.

Vendure's payment is a dummy that authorises in its own process. Compared with it is a payment that our shop settles itself as
well, with a gift card (`gift card`); a payment at a provider of its own, which tells the shop by signed callbacks (`provider`),
stands beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from bench import vendure_shop
from bench.http import Client
from bench.mall import SKU, Mall, Sizes, free_port, gift_code, made_id
from bench.results_file import keep
from bench.setting import setting

_REACH = 20.0
_SHOPPERS = (1, 8, 16)
Shop = Callable[[int, random.Random], Callable[[], None]]
"""Makes a shopper, of such a number, who orders each time he is called."""


def orders_a_second(shop: Shop, shoppers: int, seconds: float) -> tuple[float, float]:
    """(orders a second, median seconds of one) of so many at once. RuntimeError where one of them failed."""
    took: list[float] = []
    failed: list[BaseException] = []
    until = time.perf_counter() + seconds

    def one(number: int) -> None:
        try:
            buy = shop(number, random.Random(number + time.time()))
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

    def shopper(_: int, chance: random.Random) -> Callable[[], None]:
        client = Client(port)
        return lambda: vendure_shop.order(client, chance)

    return shopper


def by_card(mall: Mall) -> Shop:
    """Shoppers of the mall, through its API, each with gift cards of his own, which the shop itself settles with the order."""

    def shopper(number: int, chance: random.Random) -> Callable[[], None]:
        return partial(_order, mall, Client(mall.port), chance, card=number)

    return shopper


def at_provider(mall: Mall) -> Shop:
    """The same; the payment at the sandbox provider, which tells the shop by its callback, and sends the shopper back when the
    shop has heard of it."""

    def shopper(_: int, chance: random.Random) -> Callable[[], None]:
        return partial(_order, mall, Client(mall.port), chance, provider=Client(mall.sandbox_port))

    return shopper


def _order(
    mall: Mall, shop: Client, chance: random.Random, *, card: int | None = None, provider: Client | None = None
) -> None:
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
    paid_with = {"pay": True} if card is None else {"gift_card": gift_code(s, card)}
    placed = ask("POST", "/orders", {**goods, "agreed_fen": shown, **paid_with}, Idempotency_Key=uuid4().hex)
    if provider is None:
        if placed["status"] != "paid":
            raise RuntimeError(f"the order is {placed['status']}")
        return
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


def _shown(rounds: list[tuple[float, float]]) -> tuple[str, str]:
    rate, seconds = (statistics.median(column) for column in zip(*rounds, strict=True))
    return f"{rate:.1f}", f"{seconds * 1e3:.0f} ms"


def main() -> int:
    """Measure; exit code 1 where a factor of a payment that the shop settles itself is below 20."""
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
        measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
        with vendure_shop.vendure(here, mall.server, port) as version, mall.web(options.workers), mall.sandbox():
            shops = {"Vendure": at_vendure(port), "gift card": by_card(mall), "provider": at_provider(mall)}
            # All are warm: statements prepared, code compiled.
            for shop in shops.values():
                orders_a_second(shop, 8, 6)
            for _ in range(rounds):
                for shoppers in _SHOPPERS:
                    for name, shop in shops.items():
                        measured.setdefault((name, shoppers), []).append(orders_a_second(shop, shoppers, seconds))
    rows: list[tuple[object, ...]] = []
    reached = True
    for name in ("gift card", "provider"):
        for shoppers in _SHOPPERS:
            theirs, ours = measured["Vendure", shoppers], measured[name, shoppers]
            factor = statistics.median(our / their for (our, _), (their, _) in zip(ours, theirs, strict=True))
            reached = reached and (factor >= _REACH or name == "provider")
            shown = [cell for both in (theirs, ours) for cell in _shown(both)]
            rows.append((name, shoppers, *shown, f"{factor:.1f}"))
    rows.append(("reach, gift card", "", "", "", "", "", f"{_REACH:.0f}"))
    columns = (
        "paid with us by",
        "shoppers",
        f"Vendure {version}, orders a second",
        "p50",
        "Ballast, orders a second",
        "p50",
        "factor",
    )
    keep("vendure", "make bench (python -m bench vendure)", columns, rows)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
