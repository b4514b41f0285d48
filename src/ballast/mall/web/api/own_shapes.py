"""What a shop's own software says and hears, beside `shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from ballast.mall.offers import Status as ProductStatus
from ballast.mall.web.api.shapes import Asked, OrderInfo, Shown

_Price = Annotated[int, Meta(ge=0, le=100_000_000_000)]
_Reason = Annotated[str, Meta(max_length=200)]


class KeyInfo(Shown, frozen=True):
    """What a key opens."""

    shop: str
    name: str
    scopes: list[str]
    standing: str


class OfferItem(Shown, frozen=True):
    """A product in a list, whatever its status."""

    product_id: UUID
    status: ProductStatus
    title: str
    title_en: str
    min_price_fen: int
    max_price_fen: int
    sold: int
    external_code: str | None
    created_at: datetime
    updated_at: datetime


class OfferPage(Shown, frozen=True):
    """A page of products, the newest first."""

    items: tuple[OfferItem, ...]
    next: str | None


class OfferedSkuInfo(Shown, frozen=True):
    """A SKU of one's own, with its stock in pieces."""

    sku_id: UUID
    code: str
    options: list[str]
    price_fen: int
    compare_at_fen: int | None
    weight_g: int
    active: bool
    on_hand: int
    reserved: int


class OfferInfo(OfferItem, frozen=True):
    """A product of one's own."""

    skus: tuple[OfferedSkuInfo, ...]


class ProductChange(Asked, frozen=True):
    """Another status."""

    status: ProductStatus


class SkuPatch(Asked, frozen=True, omit_defaults=True):
    """What is to be another; what is left out stays. `compare_at_fen` null: no price is crossed out."""

    price_fen: _Price | UnsetType = UNSET
    compare_at_fen: _Price | UnsetType | None = UNSET
    code: Annotated[str, Meta(max_length=60)] | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class StockInfo(Shown, frozen=True):
    """Pieces of a SKU; `reserved` of them wait for the payment of an order, `free` can be bought."""

    sku_id: UUID
    on_hand: int
    reserved: int
    free: int


class StockCount(Asked, frozen=True):
    """So many were counted."""

    on_hand: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    reason: _Reason = ""


class StockChange(Asked, frozen=True):
    """So many pieces more, or (negative) fewer."""

    pieces: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
    reason: _Reason = ""


class MovementInfo(Shown, frozen=True):
    """By how much stock changed, and why."""

    movement_id: UUID
    sku_id: UUID
    kind: str
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    at: datetime


class MovementPage(Shown, frozen=True):
    """A page of movements, the newest first."""

    items: tuple[MovementInfo, ...]
    next: str | None


class OwnOrderInfo(OrderInfo, frozen=True):
    """An order as the shop's people see it."""

    customer_id: UUID | None
    merchant_note: str
    source: Literal["web", "api", "import", "intake"]


class ShippedLine(Asked, frozen=True):
    """Pieces of a line in a parcel."""

    line: Annotated[int, Meta(ge=1, le=1000)]
    quantity: Annotated[int, Meta(ge=1, le=999)]


class ShipmentRequest(Asked, frozen=True):
    """A parcel. Without `lines`: all that is still to be sent."""

    carrier: Annotated[str, Meta(min_length=1, max_length=60)]
    tracking: Annotated[str, Meta(max_length=80)] = ""
    lines: Annotated[tuple[ShippedLine, ...], Meta(min_length=1, max_length=100)] | None = None


class CancelRequest(Asked, frozen=True):
    """Why."""

    reason: Annotated[str, Meta(min_length=1, max_length=200)]


class NoteRequest(Asked, frozen=True):
    """What the shop's people write about it."""

    note: Annotated[str, Meta(max_length=2000)]


class RefundAnswer(Asked, frozen=True):
    """What the shopper is told."""

    answer: Annotated[str, Meta(max_length=500)] = ""


class RefundRefusal(Asked, frozen=True):
    """Why the shop does not agree."""

    answer: Annotated[str, Meta(min_length=1, max_length=500)]


class GoodsBack(Asked, frozen=True):
    """`restock`: they can be sold again."""

    restock: bool


class MemberInfo(Shown, frozen=True):
    """A customer. `level` is counted from 1; 0: none."""

    customer_id: UUID
    name: str
    phone: str | None
    email: str | None
    level: int
    points: int
    spent_fen: int
    external_code: str | None
    created_at: datetime


class MemberPage(Shown, frozen=True):
    """A page of customers, the newest first."""

    items: tuple[MemberInfo, ...]
    next: str | None
