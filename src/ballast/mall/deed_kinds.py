"""What shoppers do, each with all that is needed to do it again: the payloads of `deeds`.

Ids and times are made before a deed is done and are part of it, so that the same deed done elsewhere makes the same rows. Of a
token there is its hash only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall.owner import Owner
from ballast.mall.quoting import Address, Delivery, Quote, Wanted


class VisitorOpened(msgspec.Struct, frozen=True):
    """A browser that comes for the first time."""

    visitor_id: UUID
    token_hash: bytes
    at: datetime


class Registered(msgspec.Struct, frozen=True):
    """The guest `before` became the customer, with a new token."""

    before: UUID
    customer_id: UUID
    phone: str | None
    email: str | None
    name: str
    password_hash: str
    visitor_id: UUID
    token_hash: bytes
    at: datetime


class LoggedIn(msgspec.Struct, frozen=True):
    """The visitor `before` is the customer from now on, with a new token. `was_guest`: what was his comes along."""

    before: UUID
    was_guest: bool
    customer_id: UUID
    visitor_id: UUID
    token_hash: bytes
    at: datetime


class LoggedOut(msgspec.Struct, frozen=True):
    """The token of `before` is over; a new guest."""

    before: UUID
    visitor_id: UUID
    token_hash: bytes
    at: datetime


class LoggedOutElsewhere(msgspec.Struct, frozen=True):
    """All tokens of the customer are over, but that of `but`."""

    customer_id: UUID
    but: UUID
    at: datetime


class CartSet(msgspec.Struct, frozen=True):
    """So many pieces of the SKU are in the cart now."""

    owner_id: UUID
    sku_id: UUID
    quantity: int
    at: datetime
    key: UUID | None = None
    """The request that added pieces."""


class CartRemoved(msgspec.Struct, frozen=True):
    """These SKUs are out of the cart."""

    owner_id: UUID
    skus: tuple[UUID, ...]


class CouponTaken(msgspec.Struct, frozen=True):
    """A coupon of those that are offered, or the one of a code."""

    owner: Owner
    claim_id: UUID
    coupon_id: UUID | None
    code: str
    at: datetime


class Checkout(msgspec.Struct, frozen=True):
    """An order as it was accepted. `quote` is what the shopper agreed to; its price holds."""

    order_id: UUID
    number: str
    owner: Owner
    lines: tuple[Wanted, ...]
    key: str
    request_hash: bytes
    address: Address
    delivery: Delivery
    claim_id: UUID | None
    """The coupon that was chosen."""
    note: str
    source: Literal["web", "api", "intake"]
    at: datetime
    pay_by: datetime
    quote: Quote
    placed_from: bytes | None = None
    """See `quoting.Room`."""

    @property
    def pieces(self) -> dict[UUID, int]:
        """By SKU."""
        found: dict[UUID, int] = {}
        for line in self.quote.lines:
            found[line.sku_id] = found.get(line.sku_id, 0) + line.quantity
        return found


class PaymentBegun(msgspec.Struct, frozen=True):
    """A payment is about to be asked of the provider."""

    order_id: UUID
    owner_id: UUID
    payment_id: UUID
    provider: str
    amount_fen: int
    at: datetime


class PaymentOpened(msgspec.Struct, frozen=True):
    """The provider has taken it up."""

    order_id: UUID
    payment_id: UUID
    code: str
    pay_url: str


class Callback(msgspec.Struct, frozen=True):
    """What a provider told, verified, of a payment or refund of the order."""

    order_id: UUID
    provider: str
    callback_id: str
    kind: Literal["payment.succeeded", "payment.failed", "refund.succeeded", "refund.failed"]
    reference: UUID
    code: str
    amount_fen: int
    body: str
    at: datetime


class Cancelled(msgspec.Struct, frozen=True):
    """An order that was not paid."""

    order_id: UUID
    by: Literal["shopper", "merchant"]
    actor: str
    reason: str
    at: datetime


class Received(msgspec.Struct, frozen=True):
    """The shopper has it."""

    order_id: UUID
    actor: str
    at: datetime


class AskedBack(msgspec.Struct, frozen=True):
    """Pieces of a line, and/or an amount."""

    line: int
    quantity: int
    amount_fen: int | None = None


class RefundAsked(msgspec.Struct, frozen=True):
    """Money back, of these lines or (None) of all."""

    order_id: UUID
    refund_id: UUID
    items: tuple[AskedBack, ...] | None
    shipping_fen: int
    with_return: bool
    reason: str
    actor: str
    at: datetime


class RefundWithdrawn(msgspec.Struct, frozen=True):
    """He does not want it any more."""

    order_id: UUID
    refund_id: UUID
    actor: str
    at: datetime


class GoodsSentBack(msgspec.Struct, frozen=True):
    """With which parcel."""

    order_id: UUID
    refund_id: UUID
    carrier: str
    code: str


class Answered(msgspec.Struct, frozen=True):
    """A key was used, and what was answered: the same request sent again gets the same."""

    scope: str
    key: str
    request_hash: bytes
    answer: str
    at: datetime


class AddressSaved(msgspec.Struct, frozen=True):
    """An address of a member's book is this; `is_default`: the usual one from now on."""

    customer_id: UUID
    address_id: UUID
    address: Address
    is_default: bool
    at: datetime


class AddressDeleted(msgspec.Struct, frozen=True):
    """An address is in a member's book no longer."""

    customer_id: UUID
    address_id: UUID
    at: datetime


class MemberRenamed(msgspec.Struct, frozen=True):
    """A member has another name."""

    customer_id: UUID
    name: str
    at: datetime


class UsedCode(msgspec.Struct, frozen=True):
    """By which code of the shop's staff a password was set, in which shop, from where."""

    code_hash: str
    shop_id: UUID
    address: str


class PasswordChanged(msgspec.Struct, frozen=True):
    """A member's password is another. `by`: he had forgotten the old one."""

    customer_id: UUID
    password_hash: str
    by: UsedCode | None
    at: datetime


KINDS: dict[str, type[msgspec.Struct]] = {
    "visitor_opened": VisitorOpened,
    "registered": Registered,
    "logged_in": LoggedIn,
    "logged_out": LoggedOut,
    "logged_out_elsewhere": LoggedOutElsewhere,
    "cart_set": CartSet,
    "cart_removed": CartRemoved,
    "coupon_taken": CouponTaken,
    "checkout": Checkout,
    "payment_begun": PaymentBegun,
    "payment_opened": PaymentOpened,
    "callback": Callback,
    "cancelled": Cancelled,
    "received": Received,
    "refund_asked": RefundAsked,
    "refund_withdrawn": RefundWithdrawn,
    "goods_sent_back": GoodsSentBack,
    "answered": Answered,
    "address_saved": AddressSaved,
    "address_deleted": AddressDeleted,
    "member_renamed": MemberRenamed,
    "password_changed": PasswordChanged,
}
"""The names under which they are accepted, and for ever: what an older version took in must be done again by a newer one."""
