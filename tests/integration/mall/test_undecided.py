"""What the sentinel asks the mall before it forgets what was accepted: about what has a shop still to decide?"""

from __future__ import annotations

from uuid import uuid4

import psycopg

from ballast.continuity.outlived import undecided
from ballast.up.parts import UNDECIDED
from tests.fix_mall import MallDatabase

KEEP = """
INSERT INTO mall.exception (shop_id, exception_id, kind, reason, kept_at, settled_at, settled_by, remedy)
VALUES (%(shop)s, %(open)s, 'checkout', 'stock.out', now(), NULL, NULL, NULL),
       (%(shop)s, %(settled)s, 'checkout', 'stock.out', now(), now(), 'lin', 'refund')
"""
DEEDS = """
INSERT INTO mall.exception_deed (shop_id, exception_id, number, key, kind, payload, at)
VALUES (%(shop)s, %(open)s, 1, 'checkout:a', 'checkout', '{}', now()), (%(shop)s, %(open)s, 2, 'paid:a', 'callback', '{}', now()),
       (%(shop)s, %(settled)s, 1, 'checkout:b', 'checkout', '{}', now())
"""


def test_everything_that_came_for_an_exception_which_is_open(mall_database: MallDatabase) -> None:
    assert undecided(mall_database.dsn, UNDECIDED) == set()
    rows = {"shop": uuid4(), "open": uuid4(), "settled": uuid4()}
    with psycopg.connect(mall_database.dsn) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(KEEP, rows)
        conn.execute(DEEDS, rows)
    assert undecided(mall_database.dsn, UNDECIDED) == {(str(rows["shop"]), key) for key in ("checkout:a", "paid:a")}
