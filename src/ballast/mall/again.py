"""Doing again what was done elsewhere (`deed_kinds`), by the functions that did it there: same ids, same times, same rows.

What is there already stays as it is, so that a deed may be done twice. Who did it is known: nobody is asked for a token or whose
order it is. A rule that says no raises `Refused`, as at the first time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ballast.mall import addresses, aftersales, cart, checkout, coupons, idempotency, membership, orders, visitors
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import (
    KINDS,
    AddressDeleted,
    AddressSaved,
    Answered,
    Callback,
    Cancelled,
    CartRemoved,
    CartSet,
    Checkout,
    CouponTaken,
    GoodsSentBack,
    LoggedIn,
    LoggedOut,
    LoggedOutElsewhere,
    MemberRenamed,
    PasswordChanged,
    PaymentBegun,
    PaymentOpened,
    Received,
    RefundAsked,
    RefundWithdrawn,
    Registered,
    VisitorOpened,
)
from ballast.mall.order_life import lock
from ballast.mall.payments.callbacks import hear_again
from ballast.mall.payments.start import begin_again, open_made
from ballast.mall.rules.refunding import RefundState


class UnknownDeed(ValueError):
    """A deed of a kind, or with a payload, that this version does not know."""


def read(kind: str, payload: Any) -> msgspec.Struct:
    """The deed of a kind; `payload` as JSON was read. Raises UnknownDeed."""
    if kind not in KINDS:
        raise UnknownDeed(f"{kind!r} is no kind of deed")
    try:
        return msgspec.convert(payload, KINDS[kind])
    except msgspec.ValidationError as error:
        raise UnknownDeed(f"this is no {kind}: {error}") from error


async def do(connection: Connection, deed: msgspec.Struct) -> None:
    """Do it, in a transaction of the shop. Raises Refused; then what it did must be rolled back."""
    await _DOING[type(deed)](connection, deed)


async def _coupon_taken(connection: Connection, deed: CouponTaken) -> None:
    if not await coupons.is_taken(connection, deed.claim_id):  # it may be a member's meanwhile, who was a guest
        await coupons.take(connection, deed.owner, deed.claim_id, deed.at, coupon_id=deed.coupon_id, code=deed.code)


async def _callback(connection: Connection, deed: Callback) -> None:
    await hear_again(connection, deed)


async def _cancelled(connection: Connection, deed: Cancelled) -> None:
    await orders.cancel(connection, deed.order_id, by=deed.by, actor=deed.actor, now=deed.at, reason=deed.reason)


async def _received(connection: Connection, deed: Received) -> None:
    if (await lock(connection, deed.order_id)).received_at is None:
        await orders.receive(connection, deed.order_id, actor=deed.actor, now=deed.at)


async def _refund_asked(connection: Connection, deed: RefundAsked) -> None:
    await aftersales.request(
        connection,
        deed.order_id,
        deed.items,
        shipping_fen=deed.shipping_fen,
        with_return=deed.with_return,
        reason=deed.reason,
        actor=deed.actor,
        now=deed.at,
        refund_id=deed.refund_id,
    )


async def _refund_withdrawn(connection: Connection, deed: RefundWithdrawn) -> None:
    if (await aftersales.get(connection, deed.refund_id)).status != RefundState.WITHDRAWN:
        await aftersales.withdraw(connection, deed.refund_id, actor=deed.actor, now=deed.at)


async def _goods_sent_back(connection: Connection, deed: GoodsSentBack) -> None:
    found = await aftersales.get(connection, deed.refund_id)
    if (found.return_carrier, found.return_code) != (deed.carrier, deed.code):
        await aftersales.send_goods_back(connection, deed.refund_id, carrier=deed.carrier, code=deed.code)


async def _address_saved(connection: Connection, deed: AddressSaved) -> None:
    await addresses.save(connection, deed)


async def _address_deleted(connection: Connection, deed: AddressDeleted) -> None:
    await addresses.delete_again(connection, deed)


_DOING: dict[type[msgspec.Struct], Callable[[Connection, Any], Awaitable[None]]] = {
    VisitorOpened: visitors.open_made,
    Registered: visitors.register_made,
    LoggedIn: visitors.login_made,
    LoggedOut: visitors.logout_made,
    LoggedOutElsewhere: visitors.end_elsewhere,
    CartSet: cart.set_again,
    CartRemoved: cart.remove_from,
    CouponTaken: _coupon_taken,
    Checkout: checkout.place_accepted,
    PaymentBegun: begin_again,
    PaymentOpened: open_made,
    Callback: _callback,
    Cancelled: _cancelled,
    Received: _received,
    RefundAsked: _refund_asked,
    RefundWithdrawn: _refund_withdrawn,
    GoodsSentBack: _goods_sent_back,
    Answered: idempotency.answer_again,
    AddressSaved: _address_saved,
    AddressDeleted: _address_deleted,
    MemberRenamed: membership.rename,
    PasswordChanged: membership.change_again,
}
