"""What the database has at the end, asked as its owner; and every shop held beside the record."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ballast.demo.engineer import PRICE_FEN
from ballast.demo.ledger import Found

_ORDERS = """
SELECT o.order_id, o.shop_id, o.number, o.note, o.total_fen, o.paid_fen, o.status,
       ARRAY(SELECT sku_id || ':' || sum(quantity) FROM mall.order_line l
              WHERE (l.shop_id, l.order_id) = (o.shop_id, o.order_id) GROUP BY sku_id) AS lines,
       (SELECT count(*) FROM mall.payment p WHERE (p.shop_id, p.order_id) = (o.shop_id, o.order_id)
           AND p.status = 'succeeded' AND NOT p.undue) AS payments
  FROM mall.orders o WHERE o.note LIKE 'replay-%'
"""
_CODES = "SELECT sku_id, code FROM mall.sku WHERE sku_id = ANY (%s)"
# What the merge itself could not do.
_NOT_MERGED = "SELECT kind, key, payload::text FROM ballast_merge.exception"
# What waits for a shop's decision, each with all deeds that wait with it.
_EXCEPTIONS = """
SELECT kind, coalesce(order_id, exception_id)::text,
       (SELECT string_agg(d.payload::text, ' ') FROM mall.exception_deed d
         WHERE (d.shop_id, d.exception_id) = (e.shop_id, e.exception_id))
  FROM mall.exception e
"""
_APPLIED = "SELECT kind, count(*) FROM ballast_merge.applied GROUP BY kind"
# Goods that are counted down twice, or not at all, do not add up to what came and went.
_STOCK = """
SELECT count(*) FROM mall.stock s
  LEFT JOIN (SELECT shop_id, sku_id, sum(on_hand) AS on_hand, sum(reserved) AS reserved FROM mall.stock_movement GROUP BY 1, 2) m
       USING (shop_id, sku_id)
 WHERE (s.on_hand, s.reserved) IS DISTINCT FROM (coalesce(m.on_hand, 0)::int, coalesce(m.reserved, 0)::int)
"""
_BOOKS = """
SELECT count(*) FROM (SELECT FROM mall.posting GROUP BY shop_id, transaction_id HAVING sum(amount_fen) <> 0) unbalanced
"""
_BOOKED = "SELECT payment_id FROM mall.payment WHERE status = 'succeeded'"
# What neither shoppers nor merchants of a replay change, nor time does: of each shop, table by table.
_STANDING = ("category", "product_category", "shipping", "page", "picture", "staff", "full_reduction", "address")
_STAND = "SELECT shop_id, count(*), sum(hashtextextended(t::text, 0)) FROM mall.{} t GROUP BY 1"
_SOLD_LONG_AGO = """
SELECT l.shop_id, count(*), sum(hashtextextended(l::text, 0))
  FROM mall.order_line l JOIN mall.orders o USING (shop_id, order_id) WHERE o.note NOT LIKE 'replay-%' GROUP BY 1
"""
_PRICED = "SELECT shop_id, count(*), sum(hashtextextended(sku_id || ':' || price_fen, 0)) FROM mall.sku GROUP BY 1"
_CHEAP = """
SELECT order_id FROM mall.order_line JOIN mall.orders o USING (shop_id, order_id)
 WHERE list_fen = %s AND o.note LIKE 'replay-%%' AND o.status NOT IN ('cancelled', 'refunded')
"""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


Standing = dict[str, dict[str, tuple[int, str]]]
"""Shop to table to how many rows, and a digest of them."""


class AtTheEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    orders: tuple[Found, ...]
    codes: dict[str, str]
    """SKU to code, of those that merchants changed."""
    excepted: frozenset[str]
    """Every id that an exception of a merge names."""
    exceptions: int
    merged: dict[str, int]
    """Deeds that were merged, by kind."""
    standing: Standing
    stock_wrong: int
    """SKUs whose stock is not the sum of what moved it."""
    books_wrong: int
    """Transactions of the books whose postings do not add up to nothing."""
    cheap: tuple[str, ...]
    """Orders at the price that was set wrong."""
    unbooked: tuple[str, ...]
    """Payments that the provider took and the shops' books do not have, nor an exception."""


def standing(dsn: str) -> Standing:
    """What stands in each shop that must not change. psycopg.Error where the database is not there."""
    found: Standing = {}
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        questions = [(table, _STAND.format(table)) for table in _STANDING]
        for table, question in (*questions, ("order_line", _SOLD_LONG_AGO), ("price", _PRICED)):
            for shop_id, count, digest in connection.execute(question.encode()).fetchall():
                found.setdefault(str(shop_id), {})[table] = (count, str(digest))
    return found


def look(dsn: str, sandbox: Path, slugs: Mapping[str, str], skus: Iterable[str]) -> AtTheEnd:
    """Ask it. `slugs`: by the shops' ids; `skus`: whose codes are to be known. psycopg.Error where it is not there."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        orders = tuple(_found(row, slugs) for row in connection.execute(_ORDERS).fetchall())
        codes = connection.execute(_CODES, (list(skus),)).fetchall()
        exceptions, applied = _register(connection)
        excepted = frozenset(found for row in exceptions for text in row for found in _ID.findall(str(text)))
        booked = {str(row[0]) for row in connection.execute(_BOOKED).fetchall()}
        return AtTheEnd(
            orders=orders,
            codes={str(sku): str(code) for sku, code in codes},
            excepted=excepted,
            exceptions=len(exceptions),
            merged=dict(applied),
            standing=standing(dsn),
            stock_wrong=_count(connection, _STOCK),
            books_wrong=_count(connection, _BOOKS),
            cheap=tuple(str(row[0]) for row in connection.execute(_CHEAP, (PRICE_FEN,)).fetchall()),
            unbooked=tuple(sorted(_taken(sandbox) - booked - excepted)),
        )


def undelivered(sandbox: Path) -> int:
    """News of payments that the provider has still to bring to the shops."""
    with contextlib.closing(_provider(sandbox)) as provider:
        return int(provider.execute("SELECT count(*) FROM delivery WHERE heard = 0").fetchone()[0])


def _found(row: tuple[Any, ...], slugs: Mapping[str, str]) -> Found:
    order_id, shop_id, number, mark, total_fen, paid_fen, status, lines, payments = row
    read = (line.rpartition(":") for line in lines)
    return Found(
        order_id=str(order_id),
        shop=slugs.get(str(shop_id), str(shop_id)),
        number=number,
        mark=mark,
        lines=tuple((sku, int(pieces)) for sku, _, pieces in read),
        total_fen=total_fen,
        paid_fen=paid_fen,
        status=status,
        payments=payments,
    )


def _register(connection: psycopg.Connection[Any]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    exceptions = connection.execute(_EXCEPTIONS).fetchall()
    try:
        return exceptions + connection.execute(_NOT_MERGED).fetchall(), connection.execute(_APPLIED).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return exceptions, []  # nothing was merged


def _count(connection: psycopg.Connection[Any], question: str) -> int:
    row = connection.execute(question.encode()).fetchone()
    return int(row[0]) if row else 0


def _taken(sandbox: Path) -> set[str]:
    with contextlib.closing(_provider(sandbox)) as provider:
        return {
            reference
            for (reference,) in provider.execute(
                "SELECT reference FROM payment WHERE status = 'paid' AND code NOT LIKE 'seed-%'"
            )
        }


def _provider(sandbox: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{sandbox}?mode=ro", uri=True, timeout=5)
