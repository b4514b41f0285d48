"""For a shopper's program: his orders, paying, cancelling, receiving, and asking for money back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from ballast.mall import aftersales, attempts, exceptions, idempotency, orders, payments, remedies
from ballast.mall.db import Database
from ballast.mall.order_life import Unknown
from ballast.mall.payments import gift_card
from ballast.mall.payments.providers import providers
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.round_trips import ending
from ballast.mall.rules.states import Status
from ballast.mall.settings import Settings
from ballast.mall.web.api.answers import Moment, cursor_of, cut, next_link, read_cursor
from ballast.mall.web.api.calls import VISITOR, Cursor, Key, Limit, ShopCall, return_url, shopper
from ballast.mall.web.api.shapes import (
    OrderInfo,
    OrderItem,
    OrderPage,
    ParcelBack,
    PaymentInfo,
    PaymentRequest,
    RefundInfo,
    RefundList,
    RefundRequest,
    shaped,
)
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import entry_of


@get("/orders", security=VISITOR)
async def list_my_orders(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    status: Annotated[Status | None, QueryParameter(description="Only these.")] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> OrderPage:
    """The shopper's orders, the newest first."""
    place = read_cursor(cursor, tuple[Moment, UUID])
    async with shopper(request, slug) as call:
        found = await orders.list_of(
            call.connection,
            owner=call.owner,
            statuses=[status] if status else None,
            before=orders.Cursor(*place) if place else None,
            most=limit + 1,
        )
    page, last = cut(found, limit)
    cursor = cursor_of(last.placed_at, last.order_id) if last else None
    return OrderPage(tuple(shaped(one, OrderItem) for one in page), next_link(request, cursor))


@get("/orders/{order_id:uuid}", security=VISITOR)
async def get_my_order(request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID]) -> OrderInfo:
    """One of them."""
    async with shopper(request, slug, only_whose=True) as call:
        ending(call.connection, reads=True)
        return await _order(call, order_id)


@post("/orders/{order_id:uuid}/payments", security=VISITOR)
async def pay_order(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    order_id: FromPath[UUID],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
    data: JSONBody[PaymentRequest | None] = None,
) -> PaymentInfo:
    """Begin a payment, or go on with the one that was begun: the same address then. With a `gift_card` it is paid when this is
    answered; sent again, it is paid once."""
    if data and data.gift_card is not None:
        await _by_card(request, slug, order_id, db, data.gift_card)
        return PaymentInfo(None, "paid")
    provider = providers(settings)[Sandbox.name]
    async with shopper(request, slug, only_whose=True) as call:
        begun = await payments.begin(call.connection, order_id, provider, owner=call.owner, now=call.now)
    back = return_url(settings, slug, order_id)
    url = await payments.ask(db, call.entry.shop_id, begun, provider, return_url=back)
    return PaymentInfo(url, "pending_payment")


async def _by_card(request: Request[Any, Any, Any], slug: str, order_id: UUID, db: Database, code: str) -> None:
    shop_id = (await entry_of(db, slug)).shop_id
    async with (
        attempts.shopper_shows_card(db, shop_id, address_of(request), datetime.now(UTC)),
        shopper(request, slug, only_whose=True) as call,
    ):
        await gift_card.pay(call.connection, order_id, code, owner=call.owner, now=call.now)


@post("/orders/{order_id:uuid}/cancel", security=VISITOR, status_code=200)
async def cancel_my_order(request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID]) -> OrderInfo:
    """Cancel an order that is not paid, or one about which the shop has to decide (`order.excepted`), whose money goes back; one
    that is cancelled stays so."""
    async with shopper(request, slug) as call:
        owner = call.owner
        if not await remedies.give_up(call.connection, owner, order_id, now=call.now):
            await orders.cancel(call.connection, order_id, by="shopper", actor=owner.actor, now=call.now, owner=owner)
        return await _order(call, order_id)


@post("/orders/{order_id:uuid}/receive", security=VISITOR, status_code=200)
async def receive_my_order(request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID]) -> OrderInfo:
    """The shopper has it; one that is received stays so."""
    async with shopper(request, slug) as call:
        owner = call.owner
        await orders.receive(call.connection, order_id, actor=owner.actor, now=call.now, owner=owner)
        return await _order(call, order_id)


@get("/orders/{order_id:uuid}/refunds", security=VISITOR)
async def list_my_refunds(request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID]) -> RefundList:
    """The refunds of an order."""
    async with shopper(request, slug) as call:
        await orders.get(call.connection, order_id, owner=call.owner)
        found = await aftersales.list_of(call.connection, order_id=order_id)
    return RefundList(tuple(shaped(one, RefundInfo) for one in found))


@post("/orders/{order_id:uuid}/refunds", security=VISITOR)
async def request_refund(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    order_id: FromPath[UUID],
    data: JSONBody[RefundRequest],
    key: Key,
) -> RefundInfo:
    """Ask for money back: of all, or of some pieces. The shop decides."""
    async with shopper(request, slug) as call:
        owner = call.owner

        async def ask() -> RefundInfo:
            lines = [aftersales.Asked(one.line, one.quantity, one.amount_fen) for one in data.lines or ()]
            made = await aftersales.request(
                call.connection,
                order_id,
                lines if data.lines else None,
                with_return=data.with_return,
                reason=data.reason,
                actor=owner.actor,
                now=call.now,
                owner=owner,
            )
            return shaped(await aftersales.get(call.connection, made, owner), RefundInfo)

        return await idempotency.once(
            call.connection, f"refund:{owner.id}", key, (order_id, data), RefundInfo, ask, call.now
        )


@post("/refunds/{refund_id:uuid}/withdraw", security=VISITOR, status_code=200)
async def withdraw_refund(
    request: Request[Any, Any, Any], slug: FromPath[str], refund_id: FromPath[UUID]
) -> RefundInfo:
    """He does not want it any more."""
    async with shopper(request, slug) as call:
        owner = call.owner
        await aftersales.withdraw(call.connection, refund_id, actor=owner.actor, now=call.now, owner=owner)
        return shaped(await aftersales.get(call.connection, refund_id, owner), RefundInfo)


@post("/refunds/{refund_id:uuid}/parcel", security=VISITOR, status_code=200)
async def send_goods_back(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    refund_id: FromPath[UUID],
    data: JSONBody[ParcelBack],
) -> RefundInfo:
    """With which parcel the goods come back."""
    async with shopper(request, slug) as call:
        owner = call.owner
        await aftersales.send_goods_back(call.connection, refund_id, carrier=data.carrier, code=data.code, owner=owner)
        return shaped(await aftersales.get(call.connection, refund_id, owner), RefundInfo)


async def _order(call: ShopCall, order_id: UUID) -> OrderInfo:
    try:
        return shaped(await orders.get(call.connection, order_id, owner=call.owner), OrderInfo)
    except Unknown:
        if await exceptions.of_shopper(call.connection, call.owner, order_id):
            raise exceptions.Excepted(order_id) from None
        raise


HANDLERS = [
    list_my_orders,
    get_my_order,
    pay_order,
    cancel_my_order,
    receive_my_order,
    list_my_refunds,
    request_refund,
    withdraw_refund,
    send_goods_back,
]
