"""What the API says and hears, apart from what the services work with: these names are a promise, those are ours.

Amounts are in fen (1/100 yuan); moments in UTC. `next` leads to the next page, and is null on the last one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from ballast.mall.rules.coupons import CouponReason
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.states import Event, RefundStatus, Status

T = TypeVar("T")
Pieces = Annotated[int, Meta(ge=1, le=999)]
GiftCode = Annotated[str, Meta(min_length=1, max_length=60)]
_Line = Annotated[int, Meta(ge=1, le=1000)]
_Fen = Annotated[int, Meta(ge=0, le=100_000_000_000)]


def shaped(found: object, kind: type[T]) -> T:
    """What a service gave, as the API says it."""
    return msgspec.convert(found, kind, from_attributes=True)


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What callers send: a field that is not known is an error, not overlooked."""


class Shown(msgspec.Struct, frozen=True):
    """What callers get."""


# --- the shop and its goods


class ShopInfo(Shown, frozen=True):
    """How a shop presents itself."""

    slug: str
    name: str
    name_en: str
    intro: str
    intro_en: str
    logo_picture: str | None
    service_phone: str
    language: str
    theme_colour: str
    pickup_address: str
    points_per_yuan: int


class CategoryInfo(Shown, frozen=True):
    """A visible category."""

    category_id: UUID
    parent_id: UUID | None
    name: str
    name_en: str
    picture: str | None


class CategoryList(Shown, frozen=True):
    """All visible categories, in the shop's order."""

    items: tuple[CategoryInfo, ...]


class ProductItem(Shown, frozen=True):
    """A product in a list."""

    product_id: UUID
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    picture: str | None
    min_price_fen: int
    max_price_fen: int
    sold: int


class ProductPage(Shown, frozen=True):
    """A page of products."""

    items: tuple[ProductItem, ...]
    next: str | None


class SpecValueInfo(Shown, frozen=True):
    """One value that can be chosen."""

    value: str
    value_en: str


class SpecInfo(Shown, frozen=True):
    """One thing to choose: a size, a colour."""

    name: str
    name_en: str
    values: tuple[SpecValueInfo, ...]


class SkuInfo(Shown, frozen=True):
    """What can be bought. `options`: a value of each spec; `free`: pieces that can be bought now."""

    sku_id: UUID
    options: list[str]
    price_fen: int
    compare_at_fen: int | None
    limited_fen: int | None
    limited_until: datetime | None
    now_fen: int
    free: int


class ProductInfo(Shown, frozen=True):
    """A product with its SKUs. `description` is HTML, sanitised."""

    product_id: UUID
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    description: str
    description_en: str
    specs: tuple[SpecInfo, ...]
    pictures: list[str]
    min_price_fen: int
    max_price_fen: int
    sold: int
    choices: tuple[SkuInfo, ...]


# --- who shops


class VisitorInfo(Shown, frozen=True):
    """Who calls; without a `customer_id` a guest, and the rest is empty."""

    visitor_id: UUID
    customer_id: UUID | None
    name: str
    level: int
    points: int
    phone: str | None
    email: str | None


class LoginInfo(Shown, frozen=True):
    """A token, to be sent as ``Authorization: Bearer …`` from now on. It ends 90 days after it was last used."""

    token: str
    visitor: VisitorInfo


class SignUp(Asked, frozen=True):
    """`login`: a phone number or an e-mail address."""

    login: Annotated[str, Meta(min_length=1, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]
    name: Annotated[str, Meta(max_length=60)] = ""


class SignIn(Asked, frozen=True):
    """`login`: a phone number or an e-mail address."""

    login: Annotated[str, Meta(min_length=1, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]


class NameRequest(Asked, frozen=True):
    """Another name; an empty one is possible."""

    name: Annotated[str, Meta(max_length=60)]


class PasswordRequest(Asked, frozen=True):
    """Another password, for who knows the `present` one."""

    present: Annotated[str, Meta(min_length=1, max_length=1000)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]


class ResetRequest(Asked, frozen=True):
    """Another password, by the `code` that the shop's staff told."""

    login: Annotated[str, Meta(min_length=1, max_length=254)]
    code: Annotated[str, Meta(min_length=1, max_length=40)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]


class AddressInfo(Asked, frozen=True):
    """Where an order goes, and who takes it there. For a pick-up name and phone are enough."""

    name: Annotated[str, Meta(max_length=60)] = ""
    phone: Annotated[str, Meta(max_length=30)] = ""
    province: Annotated[str, Meta(max_length=30)] = ""
    city: Annotated[str, Meta(max_length=60)] = ""
    district: Annotated[str, Meta(max_length=60)] = ""
    street: Annotated[str, Meta(max_length=200)] = ""


class AddressRequest(Asked, frozen=True):
    """An address for the member's book. `is_default`: the usual one from now on."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    phone: Annotated[str, Meta(min_length=1, max_length=30)]
    province: Annotated[str, Meta(min_length=1, max_length=30)]
    street: Annotated[str, Meta(min_length=1, max_length=200)]
    city: Annotated[str, Meta(max_length=60)] = ""
    district: Annotated[str, Meta(max_length=60)] = ""
    is_default: bool = False


class SavedAddressInfo(Shown, frozen=True):
    """An address of the member's book."""

    address_id: UUID
    name: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    is_default: bool


class SavedAddressList(Shown, frozen=True):
    """The usual one comes first."""

    items: tuple[SavedAddressInfo, ...]


# --- coupons


class ScopeInfo(Shown, frozen=True):
    """Which goods a coupon is for; neither products nor categories: all of the shop."""

    products: tuple[UUID, ...]
    categories: tuple[UUID, ...]


class CouponTermsInfo(Shown, frozen=True):
    """What a coupon takes off: `amount_fen`, or `percent_bp` (2000 is 20 %) up to `cap_fen`; of goods for `threshold_fen`."""

    name: str
    name_en: str
    amount_fen: int | None
    percent_bp: int | None
    cap_fen: int | None
    threshold_fen: int
    scope: ScopeInfo
    starts_at: datetime
    ends_at: datetime


class OfferedCouponInfo(CouponTermsInfo, frozen=True, kw_only=True):
    """A coupon that the shop offers. `left` null: any number. `why_not`: why this shopper cannot take one (more)."""

    coupon_id: UUID
    per_customer: int
    taken: int
    left: int | None
    why_not: CouponReason | None


class OfferedCouponList(Shown, frozen=True):
    """Those that can be taken now come first; those of the next seven days follow."""

    items: tuple[OfferedCouponInfo, ...]


class CouponInfo(CouponTermsInfo, frozen=True, kw_only=True):
    """A coupon that the shopper holds. `state` good: it can be used now; ahead: not yet."""

    claim_id: UUID
    state: Literal["good", "ahead", "used", "over"]
    used_at: datetime | None


class CouponList(Shown, frozen=True):
    """Those that can be used come first, and of these those that end first."""

    items: tuple[CouponInfo, ...]


class CouponRequest(Asked, frozen=True):
    """Take one that is offered (`coupon_id`), or the one of a `code`: one of the two."""

    coupon_id: UUID | None = None
    code: Annotated[str, Meta(max_length=30)] = ""


class TakenInfo(Shown, frozen=True):
    """The `claim_id` goes into a quote or an order."""

    claim_id: UUID


# --- cart and checkout


class CartLineInfo(Shown, frozen=True):
    """Pieces of a SKU in the cart; `buyable`: so many can be ordered now."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    quantity: int
    price_fen: int
    free: int
    on_sale: bool
    buyable: bool


class CartInfo(Shown, frozen=True):
    """What is in the cart. What it costs with all promotions says a quote."""

    lines: tuple[CartLineInfo, ...]
    pieces: int
    token: str | None = None
    """Of the new guest, where the first goods came without one; to be sent as ``Authorization: Bearer …`` from now on."""


class CartQuantity(Asked, frozen=True):
    """So many pieces."""

    quantity: Pieces


class WantedLine(Asked, frozen=True):
    """So many pieces of a SKU."""

    sku_id: UUID
    quantity: Pieces


_Lines = Annotated[tuple[WantedLine, ...], Meta(min_length=1, max_length=100)]


class QuoteRequest(Asked, frozen=True):
    """What would it cost? Without an address shipping may not be known yet."""

    lines: _Lines
    address: AddressInfo | None = None
    delivery: Literal["ship", "pickup"] = "ship"
    claim_id: UUID | None = None


class OrderRequest(Asked, frozen=True):
    """An order. `agreed_fen` is the total that the shopper saw; with another one now nothing is ordered (409). `pay`: begin its
    payment as well, and say where it is paid. `gift_card`: the code of a card of this shop that pays all of it at once; the
    answer says `paid`, and where the card cannot pay nothing is ordered."""

    lines: _Lines
    address: AddressInfo
    agreed_fen: _Fen
    delivery: Literal["ship", "pickup"] = "ship"
    claim_id: UUID | None = None
    note: Annotated[str, Meta(max_length=500)] = ""
    pay: bool = False
    gift_card: GiftCode | None = None


class StepInfo(Shown, frozen=True):
    """One row of how a total comes about; `key` names what it is."""

    key: str
    amount_fen: int
    params: dict[str, Any]


class QuotedLineInfo(Shown, frozen=True):
    """Goods of a quote. `total_fen` is what the line costs after all discounts."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    quantity: int
    price_fen: int
    total_fen: int
    free: int


class QuoteInfo(Shown, frozen=True):
    """What the goods cost now. `orderable`: sent to there, and in stock. `coupon_problem`: why the coupon does nothing."""

    lines: tuple[QuotedLineInfo, ...]
    steps: tuple[StepInfo, ...]
    discount_fen: int
    shipping_fen: int
    shipping_known: bool
    total_fen: int
    orderable: bool
    coupon_problem: str | None


class PlacedInfo(Shown, frozen=True):
    """An order that was placed, as it stands now; while its `status` is `pending_payment` its goods are kept until `pay_by`.
    `pay_url`: where it is paid; null where that was not asked for, where there is nothing to pay (any more), and where the
    provider cannot be reached: then begin its payment later."""

    order_id: UUID
    number: str
    total_fen: int
    pay_by: datetime
    status: Status
    pay_url: str | None = None


# --- orders


class OrderLineInfo(Shown, frozen=True):
    """Pieces as they were sold."""

    line: int
    product_id: UUID | None
    sku_id: UUID | None
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    price_fen: int
    quantity: int
    discount_fen: int
    total_fen: int
    shipped_quantity: int
    refunded_quantity: int
    refunded_fen: int


class OrderItem(Shown, frozen=True):
    """An order in a list."""

    order_id: UUID
    number: str
    status: Status
    refund_status: RefundStatus
    buyer_name: str
    buyer_phone: str
    delivery: Literal["ship", "pickup"]
    total_fen: int
    paid_fen: int
    refunded_fen: int
    placed_at: datetime
    pay_by: datetime
    lines: tuple[OrderLineInfo, ...]


class OrderPage(Shown, frozen=True):
    """A page of orders, the newest first."""

    items: tuple[OrderItem, ...]
    next: str | None


class SentInfo(Shown, frozen=True):
    """Pieces of a line in a parcel."""

    line: int
    quantity: int


class ShipmentInfo(Shown, frozen=True):
    """A parcel."""

    shipment_id: UUID
    carrier: str
    tracking: str
    lines: tuple[SentInfo, ...]
    shipped_at: datetime


class DeliveryInfo(Shown, frozen=True):
    """Where an order goes."""

    name: str
    phone: str
    province: str
    city: str
    district: str
    street: str


class OrderInfo(OrderItem, frozen=True):
    """An order. `possible`: what may happen to it now."""

    address: DeliveryInfo | None
    items_fen: int
    discount_fen: int
    shipping_fen: int
    note: str
    paid_at: datetime | None
    shipped_at: datetime | None
    received_at: datetime | None
    closed_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str | None
    shipments: tuple[ShipmentInfo, ...]
    possible: tuple[Event, ...]


class PaymentRequest(Asked, frozen=True):
    """How the order is paid: with a `gift_card` of this shop, by its code, all of it and at once; without, at the provider."""

    gift_card: GiftCode | None = None


class PaymentInfo(Shown, frozen=True):
    """Where the order is paid; `pay_url` null: it is `paid`."""

    pay_url: str | None
    status: Literal["pending_payment", "paid"]


# --- refunds


class RefundLineRequest(Asked, frozen=True):
    """Pieces of a line of the order; without an amount what they were paid for."""

    line: _Line
    quantity: Annotated[int, Meta(ge=0, le=999)]
    amount_fen: _Fen | None = None


class RefundRequest(Asked, frozen=True):
    """What is asked back. Without `lines`: all that is left of the order, shipping too."""

    reason: Annotated[str, Meta(max_length=500)] = ""
    with_return: bool = False
    lines: Annotated[tuple[RefundLineRequest, ...], Meta(min_length=1, max_length=100)] | None = None


class ParcelBack(Asked, frozen=True):
    """With what the goods were sent back."""

    carrier: Annotated[str, Meta(min_length=1, max_length=60)]
    code: Annotated[str, Meta(min_length=1, max_length=80)]


class BackInfo(Shown, frozen=True):
    """What of a line goes back."""

    line: int
    quantity: int
    amount_fen: int


class RefundInfo(Shown, frozen=True):
    """A refund, and where it stands."""

    refund_id: UUID
    order_id: UUID
    status: RefundState
    with_return: bool
    lines: tuple[BackInfo, ...]
    shipping_fen: int
    amount_fen: int
    reason: str
    answer: str
    return_carrier: str
    return_code: str
    created_at: datetime
    decided_at: datetime | None
    succeeded_at: datetime | None


class RefundList(Shown, frozen=True):
    """The refunds of an order, the newest first."""

    items: tuple[RefundInfo, ...]


class RefundPage(Shown, frozen=True):
    """A page of refunds, the newest first."""

    items: tuple[RefundInfo, ...]
    next: str | None
