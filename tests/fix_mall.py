"""A mall on a real server: a migrated database of the test's own, its application, a browser-less client, a shop with goods.

- `mall_database` is a migrated, empty database; one template is migrated a worker, each test module gets a copy.
- `mall` is the application over it, reached through real HTTP by `mall.url` (Granian, one process) for tests that need it.
- `open_shop` opens shops by plain SQL: what the services of the platform do has tests of its own.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ballast.mall.ids import new_id
from ballast.mall.migrate import migrate
from ballast.mall.settings import Settings
from ballast.postgres.embedded import EmbeddedServer
from tests.folders import a_folder

_names = count(1)


@dataclass(frozen=True)
class MallDatabase:
    """A migrated database, and how each role reaches it."""

    dsn: str
    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def settings(self, **changes: Any) -> Settings:
        """Settings of a web process of this database."""
        return Settings(
            **{
                "app_dsn": make_conninfo(self.dsn, user="mall_app"),
                "identity_dsn": make_conninfo(self.dsn, user="mall_identity"),
                "platform_dsn": make_conninfo(self.dsn, user="mall_platform"),
                "owner_dsn": self.dsn,
                "secret": self.secret,
                **changes,
            }
        )

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """One statement as the superuser, who sees every shop; its rows, if it has any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Goods:
    """A product with one SKU or more."""

    product_id: UUID
    sku_ids: list[UUID]


@dataclass
class Shop:
    """A shop that is open, and what was put into it."""

    database: MallDatabase
    shop_id: UUID
    slug: str
    goods: list[Goods] = field(default_factory=list)

    def add_product(
        self, title: str = "茶 Tea", *, price_fen: int = 1000, stock: int = 100, skus: int = 1, title_en: str = ""
    ) -> Goods:
        """A product on sale with that many SKUs, each with that stock (and the movement that says where it came from)."""
        product_id = new_id()
        sku_ids = [new_id() for _ in range(skus)]
        specs = (
            [
                {
                    "name": "规格",
                    "name_en": "Size",
                    "values": [{"value": f"V{n}", "value_en": f"V{n}"} for n in range(skus)],
                }
            ]
            if skus > 1
            else []
        )
        with psycopg.connect(self.database.dsn) as connection:
            connection.execute(
                "INSERT INTO mall.product (shop_id, product_id, status, title, title_en, specs, min_price_fen, max_price_fen, search)"
                " VALUES (%s, %s, 'on_sale', %s, %s, %s, %s, %s, to_tsvector('simple', %s))",
                (
                    self.shop_id,
                    product_id,
                    title,
                    title_en,
                    json.dumps(specs),
                    price_fen,
                    price_fen,
                    f"{title} {title_en}",
                ),
            )
            for number, sku_id in enumerate(sku_ids):
                connection.execute(
                    "INSERT INTO mall.sku (shop_id, sku_id, product_id, options, price_fen, position) VALUES (%s, %s, %s, %s, %s, %s)",
                    (self.shop_id, sku_id, product_id, [f"V{number}"] if skus > 1 else [], price_fen, number),
                )
                connection.execute(
                    "INSERT INTO mall.stock (shop_id, sku_id, on_hand) VALUES (%s, %s, %s)",
                    (self.shop_id, sku_id, stock),
                )
                connection.execute(
                    "INSERT INTO mall.stock_movement (shop_id, movement_id, sku_id, kind, on_hand, reserved, actor)"
                    " VALUES (%s, %s, %s, 'receive', %s, 0, 'test')",
                    (self.shop_id, new_id(), sku_id, stock),
                )
        goods = Goods(product_id, sku_ids)
        self.goods.append(goods)
        return goods


OpenShop = Callable[..., Shop]


@pytest.fixture(scope="session")
def mall_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server a worker, with a migrated database `mall_template`."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        server = stack.enter_context(
            EmbeddedServer(
                folder / "server", settings={"fsync": "off", "full_page_writes": "off", "max_connections": "300"}
            )
        )
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE mall_template")
        migrate(server.dsn("mall_template"))
        yield server


@pytest.fixture(scope="module")
def mall_database(mall_server: EmbeddedServer) -> Iterator[MallDatabase]:
    """A database of one test module's own."""
    name = f"mall_{next(_names)}"
    with psycopg.connect(mall_server.dsn(), autocommit=True) as connection:
        copied = sql.SQL("CREATE DATABASE {} TEMPLATE mall_template STRATEGY file_copy")
        connection.execute(copied.format(sql.Identifier(name)))
        yield MallDatabase(mall_server.dsn(name))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def open_shop(mall_database: MallDatabase) -> OpenShop:
    """Opens a shop: ``open_shop()`` or ``open_shop("lin", products=3)``."""
    return shop_opener(mall_database)


def shop_opener(mall_database: MallDatabase) -> OpenShop:
    """What `open_shop` gives, for fixtures that live longer than a test."""

    def make(slug: str | None = None, *, products: int = 0, name: str = "小店 Shop") -> Shop:
        return open_a_shop(mall_database, slug, products=products, name=name)

    return make


def open_a_shop(database: MallDatabase, slug: str | None = None, *, products: int = 0, name: str = "小店 Shop") -> Shop:
    """A shop of this database, with so many products."""
    shop_id = new_id()
    slug = slug or f"s{shop_id.hex[-12:]}"
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            "INSERT INTO mall.directory (shop_id, slug, name, industry, plan, service_until) VALUES (%s, %s, %s, 'food', 'pro', now() + interval '1 year')",
            (shop_id, slug, name),
        )
        connection.execute("INSERT INTO mall.shop (shop_id, name, name_en) VALUES (%s, %s, %s)", (shop_id, name, name))
        connection.execute(
            "INSERT INTO mall.shipping (shop_id, shipping_id, name, rules, is_default) VALUES (%s, %s, 'free', '[]', true)",
            (shop_id, new_id()),
        )
    shop = Shop(database, shop_id, slug)
    for number in range(products):
        shop.add_product(f"商品{number} Product {number}")
    return shop
