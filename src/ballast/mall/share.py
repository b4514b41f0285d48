"""Several machines serve a shop whose database is away, each from a lifeboat of its own, and none hears of the others' sales.

So each sells of what was left at the loss its share alone: of 7 pieces among 3 machines the first sells 3, the others 2 each. The
same holds for what is left of limited-time prices and of coupons to be taken. Nothing is sold twice; that one machine may refuse
what another could still sell is the price.

How many machines there are, and which of them (counted from 0) this is, are settings of the lifeboat's database alone:
``ballast.nodes`` and ``ballast.node``. At home there are none, and `divide` does nothing there.
"""

from __future__ import annotations

from typing import Any

NODES = "COALESCE(NULLIF(current_setting('ballast.nodes', true), '')::integer, 1)"
"""SQL: how many machines there are."""
_NODE = "current_setting('ballast.node', true)::integer"


def _share(left: str) -> str:
    """SQL: this machine's part of what is left."""
    return f"(({left}) / {NODES} + (({left}) % {NODES} > {_NODE})::integer)"


# The line in `idempotency` says that it is done, in this lifeboat: what is sold here later is not divided again.
_DIVIDE = f"""
WITH first AS (
    INSERT INTO mall.idempotency (shop_id, scope, key, request_hash)
    SELECT mall.current_shop(), 'lifeboat', 'share', '' WHERE {NODES} > 1
    ON CONFLICT DO NOTHING RETURNING key
), prices AS (
    UPDATE mall.limited_price SET sold = quota - {_share("quota - sold")}
    WHERE quota IS NOT NULL AND EXISTS (SELECT FROM first)
), coupons AS (
    UPDATE mall.coupon SET claimed = stock - {_share("stock - claimed")}
    WHERE stock IS NOT NULL AND EXISTS (SELECT FROM first)
)
UPDATE mall.stock SET on_hand = reserved + {_share("on_hand - reserved")}
WHERE EXISTS (SELECT FROM first)
"""


async def divide(connection: Any) -> None:
    """In a transaction of a shop in the lifeboat, before anything else is done there: once, however often it is called."""
    await connection.execute(_DIVIDE.encode())
