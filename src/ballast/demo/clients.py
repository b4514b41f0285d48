"""One client of the demonstration: TPC-B transactions, and a journal of those that the server acknowledged.

Started as a process of its own: `python -m ballast.demo.clients DSN NUMBER SCALE ACCOUNTS JOURNAL`. It ends by itself when the
server is gone. The id in `pgbench_history.filler` tells afterwards whether a transaction is there.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import psycopg

_TRANSACTION = (
    ("UPDATE pgbench_accounts SET abalance = abalance + %(delta)s WHERE aid = %(aid)s", ("delta", "aid")),
    ("UPDATE pgbench_tellers SET tbalance = tbalance + %(delta)s WHERE tid = %(tid)s", ("delta", "tid")),
    ("UPDATE pgbench_branches SET bbalance = bbalance + %(delta)s WHERE bid = %(bid)s", ("delta", "bid")),
    (
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)"
        " VALUES (%(tid)s, %(bid)s, %(aid)s, %(delta)s, CURRENT_TIMESTAMP, %(id)s)",
        ("tid", "bid", "aid", "delta", "id"),
    ),
)


def run(dsn: str, number: int, scale: int, accounts: int, journal: Path) -> None:
    """Commits until the server is gone, noting each acknowledged transaction: id, seconds that it took."""
    chance = random.Random(number)  # noqa: S311 - the load is to be the same in every run
    with journal.open("w", buffering=1) as acknowledged, psycopg.connect(dsn, autocommit=True) as conn:
        count = 0
        while True:
            count += 1
            bid = chance.randint(1, scale)
            values = {
                "id": f"c{number:02d}-{count:010d}",
                "bid": bid,
                # As in pgbench, but with account and teller of the same branch: a tenant's sums then agree by themselves.
                "tid": (bid - 1) * 10 + chance.randint(1, 10),
                "aid": (bid - 1) * accounts + chance.randint(1, accounts),
                "delta": chance.randint(-5000, 5000),
            }
            started = time.monotonic()
            try:
                with conn.pipeline(), conn.transaction():
                    for statement, names in _TRANSACTION:
                        conn.execute(statement, {name: values[name] for name in names})
            except psycopg.Error:
                return
            acknowledged.write(f"{values['id']}\t{time.monotonic() - started:.6f}\n")


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
