"""Which tables of the mall belong to no shop: the vault keeps them as shared, and they come back first. And which columns count.

Every row of a shop carries `shop_id`; what does not is the platform's. Five tables of the platform name a shop and are not that
shop's all the same: whether it is open and what it pays does not go back in time when its owner goes back to yesterday.
"""

from __future__ import annotations

from typing import Any

import psycopg

NAMING_A_SHOP = (
    "mall.directory",
    "mall.hostname",
    "mall.subscription",
    "mall.service_extension",
    "mall.account_link",
)
COUNTERS = (
    "mall.stock.on_hand",
    "mall.stock.reserved",
    "mall.product.sold",
    "mall.customer.points",
    "mall.customer.spent_fen",
    "mall.coupon.claimed",
    "mall.coupon.used",
    "mall.limited_price.sold",
    "mall.gift_card.balance_fen",
)
"""Columns to which the mall adds and from which it subtracts, and which no person sets to a number but by such a difference."""
_WITHOUT_SHOP = """
SELECT n.nspname || '.' || c.relname
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND (n.nspname = 'mall' OR (n.nspname = 'public' AND c.relname ~ '^_?yoyo_'))
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attname = 'shop_id' AND a.attnum > 0 AND NOT a.attisdropped)
 ORDER BY 1
"""


def shared(connection: psycopg.Connection[Any]) -> list[str]:
    """The tables that belong to all shops together, as `schema.table`."""
    return [*NAMING_A_SHOP, *(str(row[0]) for row in connection.execute(_WITHOUT_SHOP.encode()).fetchall())]
