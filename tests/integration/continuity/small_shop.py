"""The application of these tests: shops, what they have in stock, and orders that take one piece each."""

from __future__ import annotations

from typing import Any

import psycopg

from ballast.recovery import CannotApply, MergeItem

SHOPS = tuple(f"shop{n}" for n in range(8))
TABLES = (
    "CREATE TABLE country (code text PRIMARY KEY)",
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE stock (tenant text PRIMARY KEY REFERENCES shop, left_over int NOT NULL CHECK (left_over >= 0))",
    "CREATE TABLE orders (tenant text REFERENCES shop, key text, body text, paid int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, key))",
    "CREATE TABLE note (tenant text REFERENCES shop, said text)",
    "INSERT INTO country VALUES ('CN'), ('DE')",
    *(f"INSERT INTO shop VALUES ('{shop}', 'Shop {shop}')" for shop in SHOPS),
    *(f"INSERT INTO stock VALUES ('{shop}', 100000)" for shop in SHOPS),
    *(
        f"INSERT INTO orders SELECT '{shop}', 'old' || g, repeat('x', 50) FROM generate_series(1, 50) g"
        for shop in SHOPS
    ),
    f"INSERT INTO note VALUES ('{SHOPS[1]}', 'one'), ('{SHOPS[1]}', 'two')",
)
PROBE = "SELECT EXISTS (SELECT FROM shop)"


def order(conn: psycopg.Connection[Any], tenant: str, key: str) -> None:
    """One order, in the transaction of `conn`; again it changes nothing."""
    added = conn.execute("INSERT INTO orders VALUES (%s, %s, 'new') ON CONFLICT DO NOTHING", (tenant, key))
    if added.rowcount:
        taken = conn.execute("UPDATE stock SET left_over = left_over - 1 WHERE tenant = %s", (tenant,))
        if not taken.rowcount:
            raise psycopg.errors.ForeignKeyViolation("nothing is known of its stock")


def pay(conn: psycopg.Connection[Any], tenant: str, key: str) -> bool:
    """One that was ordered; whether it is there."""
    query = "UPDATE orders SET paid = paid + 1 WHERE tenant = %s AND key = %s AND paid = 0"
    return conn.execute(query, (tenant, key)).rowcount == 1


def take_in(conn: psycopg.Connection[Any], item: MergeItem) -> None:
    """The handler."""
    if item.payload.get("impossible"):
        raise CannotApply("sold out")
    order(conn, item.tenant, item.payload["key"])
