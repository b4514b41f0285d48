"""What other tenants' transactions take while one tenant after the other is rewound, beside what they take before."""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import psycopg

from ballast.postgres import connect

if TYPE_CHECKING:
    from bench.rewind import Platform

_CLIENTS = 4
_TRANSACTION = (
    "UPDATE public.skus SET stock = stock - 1 WHERE shop_id = %(shop)s AND id = 1",
    "UPDATE public.customers SET points = points + 1 WHERE shop_id = %(shop)s AND id = 1",
    "INSERT INTO public.order_lines SELECT shop_id, id, 1000 + %(n)s, 1, 1, 100 FROM public.orders"
    " WHERE shop_id = %(shop)s ORDER BY id LIMIT 1",
)


def client(dsn: str, shops: list[int], seconds: float, seed: int) -> tuple[list[float], int]:
    """One client in a process of its own: seconds of each transaction, and how many failed."""
    chance, taken, failed = random.Random(seed), [], 0
    with connect(dsn) as conn:
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            values = {"shop": chance.choice(shops), "n": seed * 1_000_000 + len(taken)}
            try:
                with conn.transaction():
                    for statement in _TRANSACTION:
                        conn.execute(statement, values)
            except psycopg.Error:
                failed += 1
                continue
            taken.append(time.perf_counter() - started)
    return taken, failed


def measure(platform: Platform, seconds: float, rewound: list[int]) -> list[tuple[object, ...]]:
    """Alone, while tenants are damaged, while they are damaged and rewound. The damage is not the rewind's."""
    others = [shop for shop in range(1, platform.tenants + 1) if shop not in rewound]
    rows: list[tuple[object, ...]] = []
    first = 0.0
    with ProcessPoolExecutor(_CLIENTS, mp_context=get_context("spawn")) as pool:
        for phase, (name, rewinds) in enumerate(
            {"others alone": None, "others, tenants damaged": False, "others, damaged and rewound": True}.items()
        ):
            running = [
                pool.submit(client, platform.dsn, others[n::_CLIENTS], seconds, phase * _CLIENTS + n)
                for n in range(_CLIENTS)
            ]
            done = _disturb(platform, running, rewound, rewinds=rewinds)
            found = [future.result() for future in running]
            taken = sorted(second for seconds_taken, _ in found for second in seconds_taken)
            p99 = taken[int(len(taken) * 0.99)]
            first = first or p99
            rows.append(
                (
                    name,
                    done,
                    f"{len(taken) / seconds:,.0f}/s",
                    sum(failed for _, failed in found),
                    f"{statistics.median(taken) * 1e3:.1f} ms",
                    f"{p99 * 1e3:.1f} ms",
                    f"{p99 / first:.2f}",
                )
            )
    return rows


def _disturb(
    platform: Platform, running: list[Future[tuple[list[float], int]]], shops: list[int], *, rewinds: bool | None
) -> int:
    """Until the clients have ended; how many tenants were damaged, and rewound if `rewinds`."""
    done = 0
    while rewinds is not None and not all(future.done() for future in running):
        platform.damage_again(shops[done % len(shops)])
        if rewinds:
            platform.rewind(shops[done % len(shops)])
        done += 1
        time.sleep(0.05)
    return done
