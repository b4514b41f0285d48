"""Rows of the mall's tables as records, for whoever writes many at once: `imports`, `seed`.

A record's fields are the table's columns as far as they are given; the rest has the table's defaults. `shop_id` is that of
the transaction, but for the records of the platform, which name it. JSON columns take any value that msgspec can write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from psycopg import sql

from ballast.mall.db import Connection

_AT_ONCE = 5_000


class Row(msgspec.Struct, frozen=True):
    """A row of `mall.<TABLE>`."""

    TABLE: ClassVar[str] = ""


class Rows:
    """Rows of any tables, written in the order in which their foreign keys allow it."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._of: dict[type[Row], list[Row]] = {}
        self.count = 0
        self.add(*rows)

    def add(self, *rows: Row) -> None:
        """These too."""
        for row in rows:
            self._of.setdefault(type(row), []).append(row)
        self.count += len(rows)

    def of(self, kind: type[Row]) -> Sequence[Row]:
        """Those of a table."""
        return self._of.get(kind, [])

    async def write(self, connection: Connection) -> None:
        """Write them. Nothing may be there before: a key that is taken is an error, and the caller's transaction undone."""
        for kind in _ORDER:
            rows = self._of.get(kind, [])
            for first in range(0, len(rows), _AT_ONCE):
                written = msgspec.json.encode(rows[first : first + _AT_ONCE]).decode()
                await connection.execute(_insert(kind), (written,))


@cache
def _insert(kind: type[Row]) -> bytes:
    """One statement for any number of rows. Not COPY: the server refuses it to a role that row-level security holds for, and
    who brings data in shall not see more than one shop either."""
    columns = [field.encode_name for field in msgspec.structs.fields(kind)]
    given = sql.SQL(", ").join(map(sql.Identifier, columns))
    of_shop = "shop_id" not in columns
    statement = sql.SQL("INSERT INTO mall.{table} ({into}{columns}) SELECT {named}{columns} FROM {rows}").format(
        table=sql.Identifier(kind.TABLE),
        into=sql.SQL("shop_id, " if of_shop else ""),
        named=sql.SQL("mall.current_shop(), " if of_shop else ""),
        columns=given,
        rows=sql.SQL("json_populate_recordset(NULL::mall.{table}, %s::json)").format(table=sql.Identifier(kind.TABLE)),
    )
    return statement.as_bytes()


class Directory(Row, frozen=True):
    """The platform's line of a shop."""

    TABLE: ClassVar[str] = "directory"
    shop_id: UUID
    slug: str
    name: str
    industry: str
    plan: str
    service_until: datetime
    opened_at: datetime


class Subscription(Row, frozen=True):
    """A time that was paid for."""

    TABLE: ClassVar[str] = "subscription"
    shop_id: UUID
    subscription_id: UUID
    plan: str
    starts_at: datetime
    ends_at: datetime
    paid_fen: int
    created_at: datetime


class Shop(Row, frozen=True):
    """A shop's own row."""

    TABLE: ClassVar[str] = "shop"
    shop_id: UUID
    name: str
    name_en: str
    intro: str
    intro_en: str
    service_phone: str
    language: str
    theme_colour: str
    pickup_address: str
    levels: Sequence[Mapping[str, Any]]
    created_at: datetime
    updated_at: datetime
    logo_picture: str | None = None


class Staff(Row, frozen=True):
    """Who works there."""

    TABLE: ClassVar[str] = "staff"
    shop_id: UUID
    account_id: UUID
    role: str
    created_at: datetime


class Picture(Row, frozen=True):
    """A picture of the shop."""

    TABLE: ClassVar[str] = "picture"
    picture: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    created_at: datetime


class Shipping(Row, frozen=True):
    """How it sends."""

    TABLE: ClassVar[str] = "shipping"
    shipping_id: UUID
    name: str
    rules: Any
    is_default: bool


class Page(Row, frozen=True):
    """A decorated page."""

    TABLE: ClassVar[str] = "page"
    page_id: UUID
    slug: str
    title: str
    title_en: str
    draft: msgspec.Raw
    published: msgspec.Raw
    published_at: datetime
    in_menu: bool
    position: int
    updated_at: datetime


class Category(Row, frozen=True):
    """A category; its parent before it."""

    TABLE: ClassVar[str] = "category"
    category_id: UUID
    parent_id: UUID | None
    name: str
    name_en: str
    position: int


class Product(Row, frozen=True):
    """A product."""

    TABLE: ClassVar[str] = "product"
    product_id: UUID
    status: str
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    description: str
    description_en: str
    specs: Any
    pictures: Sequence[str]
    min_price_fen: int
    max_price_fen: int
    sold: int
    search: str
    external_code: str | None
    position: int
    created_at: datetime
    updated_at: datetime
    shipping_id: UUID | None = None


class ProductCategory(Row, frozen=True):
    """What is in which category."""

    TABLE: ClassVar[str] = "product_category"
    product_id: UUID
    category_id: UUID


class Sku(Row, frozen=True):
    """What is sold."""

    TABLE: ClassVar[str] = "sku"
    sku_id: UUID
    product_id: UUID
    code: str
    options: Sequence[str]
    price_fen: int
    compare_at_fen: int | None
    weight_g: int
    position: int


class Stock(Row, frozen=True):
    """How much of it."""

    TABLE: ClassVar[str] = "stock"
    sku_id: UUID
    on_hand: int
    reserved: int


class StockMovement(Row, frozen=True):
    """How that came about."""

    TABLE: ClassVar[str] = "stock_movement"
    movement_id: UUID
    sku_id: UUID
    kind: str
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    at: datetime


class Customer(Row, frozen=True):
    """Who buys."""

    TABLE: ClassVar[str] = "customer"
    customer_id: UUID
    phone: str | None
    email: str | None
    name: str
    password_hash: str | None
    level: int
    points: int
    spent_fen: int
    external_code: str | None
    created_at: datetime


class AddressRow(Row, frozen=True):
    """Where he lives."""

    TABLE: ClassVar[str] = "address"
    address_id: UUID
    customer_id: UUID
    name: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    is_default: bool


class Coupon(Row, frozen=True):
    """What is promised to who has it."""

    TABLE: ClassVar[str] = "coupon"
    coupon_id: UUID
    name: str
    name_en: str
    code: str | None
    kind: str
    amount_fen: int | None
    percent_bp: int | None
    cap_fen: int | None
    threshold_fen: int
    stock: int | None
    claimed: int
    used: int
    starts_at: datetime
    ends_at: datetime


class CouponClaim(Row, frozen=True):
    """Who has it."""

    TABLE: ClassVar[str] = "coupon_claim"
    claim_id: UUID
    coupon_id: UUID
    owner_id: UUID
    claimed_at: datetime
    order_id: UUID | None
    used_at: datetime | None


class FullReductionRow(Row, frozen=True):
    """满减."""

    TABLE: ClassVar[str] = "full_reduction"
    promotion_id: UUID
    name: str
    name_en: str
    tiers: Sequence[Mapping[str, int]]
    starts_at: datetime
    ends_at: datetime


class LimitedPriceRow(Row, frozen=True):
    """限时折扣."""

    TABLE: ClassVar[str] = "limited_price"
    promotion_id: UUID
    sku_id: UUID
    name: str
    name_en: str
    price_fen: int
    quota: int | None
    per_customer: int | None
    starts_at: datetime
    ends_at: datetime


class Order(Row, frozen=True):
    """An order."""

    TABLE: ClassVar[str] = "orders"
    order_id: UUID
    number: str
    status: str
    refund_status: str
    customer_id: UUID | None
    owner_id: UUID
    buyer_name: str
    buyer_phone: str
    delivery: str
    address: Any
    items_fen: int
    discount_fen: int
    shipping_fen: int
    total_fen: int
    paid_fen: int
    refunded_fen: int
    breakdown: Any
    coupon_claim_id: UUID | None
    note: str
    source: str
    external_code: str | None
    placed_at: datetime
    pay_by: datetime
    paid_at: datetime | None
    shipped_at: datetime | None
    received_at: datetime | None
    closed_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str | None
    version: int


class OrderLine(Row, frozen=True):
    """Goods of it."""

    TABLE: ClassVar[str] = "order_line"
    order_id: UUID
    line: int
    product_id: UUID | None
    sku_id: UUID | None
    title: str
    title_en: str
    options: Sequence[str]
    picture: str | None
    list_fen: int
    price_fen: int
    quantity: int
    discount_fen: int
    total_fen: int
    shipped_quantity: int
    dropped_quantity: int
    refunded_quantity: int
    refunded_fen: int


class OrderEvent(Row, frozen=True):
    """What happened to it."""

    TABLE: ClassVar[str] = "order_event"
    order_id: UUID
    event_id: UUID
    event: str
    status: str
    actor: str
    detail: Mapping[str, Any]
    at: datetime


class Payment(Row, frozen=True):
    """What was paid for it."""

    TABLE: ClassVar[str] = "payment"
    payment_id: UUID
    order_id: UUID
    provider: str
    provider_code: str | None
    amount_fen: int
    status: str
    created_at: datetime
    succeeded_at: datetime | None


class Shipment(Row, frozen=True):
    """A parcel."""

    TABLE: ClassVar[str] = "shipment"
    shipment_id: UUID
    order_id: UUID
    carrier: str
    tracking: str
    lines: Sequence[Mapping[str, int]]
    shipped_at: datetime


class Refund(Row, frozen=True):
    """What went back, or was asked for."""

    TABLE: ClassVar[str] = "refund"
    refund_id: UUID
    order_id: UUID
    payment_id: UUID
    status: str
    with_return: bool
    lines: Sequence[Any]
    shipping_fen: int
    amount_fen: int
    reason: str
    answer: str
    provider_code: str | None
    requested_by: str
    decided_by: str | None
    created_at: datetime
    decided_at: datetime | None
    sent_at: datetime | None
    succeeded_at: datetime | None


class Posting(Row, frozen=True):
    """A line of the books."""

    TABLE: ClassVar[str] = "posting"
    transaction_id: UUID
    account: str
    amount_fen: int
    order_id: UUID
    day: date
    at: datetime


class PointsEntry(Row, frozen=True):
    """Points that came or went."""

    TABLE: ClassVar[str] = "points_entry"
    entry_id: UUID
    customer_id: UUID
    points: int
    reason: str
    order_id: UUID | None
    at: datetime


class VisitHour(Row, frozen=True):
    """Who came in an hour."""

    TABLE: ClassVar[str] = "visit_hour"
    hour: datetime
    views: int
    visitors: int
    carts: int
    checkouts: int


# fmt: off
_ORDER: tuple[type[Row], ...] = (
    Directory, Shop, Subscription, Staff, Picture, Shipping, Page, Category, Product, ProductCategory, Sku, Stock,
    StockMovement, Customer, AddressRow, Coupon, CouponClaim, FullReductionRow, LimitedPriceRow, Order, OrderLine, OrderEvent,
    Payment, Shipment, Refund, Posting, PointsEntry, VisitHour,
)
# fmt: on
