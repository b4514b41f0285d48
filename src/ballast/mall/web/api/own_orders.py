"""For a shop's own software: its orders, what becomes of them, its refunds and customers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from ballast.mall import aftersales, fulfilment, idempotency, members, orders
from ballast.mall.db import Connection, Database
from ballast.mall.fulfilment import Filter
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.states import Status
from ballast.mall.web.api.answers import (
    DATE_TIME,
    Moment,
    cursor_of,
    cut,
    etag,
    if_match,
    needs_match,
    next_link,
    read_cursor,
    read_moment,
)
from ballast.mall.web.api.calls import Cursor, Key, KeyCall, Limit
from ballast.mall.web.api.own_shapes import (
    CancelRequest,
    GoodsBack,
    MemberInfo,
    MemberPage,
    NoteRequest,
    OwnOrderInfo,
    RefundAnswer,
    RefundRefusal,
    ShipmentRequest,
)
from ballast.mall.web.api.shapes import OrderItem, OrderPage, RefundInfo, RefundPage, ShipmentInfo, shaped


@get("/orders", opt={"scope": "orders.read"})
async def list_orders(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    status: Annotated[list[Status] | None, QueryParameter(description="Only these.", max_items=7)] = None,
    since: Annotated[
        str | None, QueryParameter(description="Placed at or after this moment.", schema_extra=DATE_TIME)
    ] = None,
    until: Annotated[
        str | None, QueryParameter(description="Placed before this moment.", schema_extra=DATE_TIME)
    ] = None,
    q: Annotated[
        str,
        QueryParameter(
            max_length=60,
            description="The beginning of a number or a buyer's whole phone; or, among the newest 20,000 orders of that time,"
            " part of a buyer's name or of a product's title.",
        ),
    ] = "",
    cursor: Cursor = None,
    limit: Limit = 20,
) -> OrderPage:
    """The shop's orders, the newest first."""
    place = read_cursor(cursor, tuple[Moment, UUID])
    asked = Filter(since=read_moment("since", since), until=read_moment("until", until), text=q)
    async with db.shop(call.holder.shop_id) as connection:
        asked = await fulfilment.searched(connection, asked)
        found = await orders.list_of(
            connection,
            statuses=status,
            since=asked.since,
            until=asked.until,
            ids=asked.ids,
            before=orders.Cursor(*place) if place else None,
            most=limit + 1,
        )
    page, last = cut(found, limit)
    cursor = cursor_of(last.placed_at, last.order_id) if last else None
    return OrderPage(tuple(shaped(one, OrderItem) for one in page), next_link(request, cursor))


@get("/orders/{order_id:uuid}", opt={"scope": "orders.read"})
async def get_order(
    order_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database]
) -> OwnOrderInfo:
    """An order with all that happened to it."""
    async with db.shop(call.holder.shop_id) as connection:
        return await _order(connection, order_id)


@post("/orders/{order_id:uuid}/shipments", opt={"scope": "orders.write"})
async def ship_order(
    order_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[ShipmentRequest],
    key: Key,
) -> ShipmentInfo:
    """A parcel leaves, with all that is still to be sent or with some of it. A pick-up has the carrier "pickup"."""
    async with db.shop(call.holder.shop_id) as connection:

        async def ship() -> ShipmentInfo:
            pieces: dict[int, int] = {}
            for one in data.lines or ():
                pieces[one.line] = pieces.get(one.line, 0) + one.quantity
            made = await orders.ship(
                connection,
                order_id,
                carrier=data.carrier,
                tracking=data.tracking,
                pieces=pieces or None,
                actor=call.holder.actor,
                now=call.now,
            )
            await call.note(connection, "order.shipped", order_id, carrier=data.carrier, tracking=data.tracking)
            order = await orders.get(connection, order_id)
            return next(shaped(one, ShipmentInfo) for one in order.shipments if one.shipment_id == made)

        return await idempotency.once(
            connection, call.holder.actor, key, ("ship", order_id, data), ShipmentInfo, ship, call.now
        )


@post("/orders/{order_id:uuid}/cancel", opt={"scope": "orders.write"}, status_code=200)
async def cancel_order(
    order_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[CancelRequest],
) -> OwnOrderInfo:
    """Cancel an order that is not paid; a paid one is refunded."""
    async with db.shop(call.holder.shop_id) as connection:
        await orders.cancel(
            connection, order_id, by="merchant", actor=call.holder.actor, now=call.now, reason=data.reason
        )
        await call.note(connection, "order.cancelled", order_id, reason=data.reason)
        return await _order(connection, order_id)


@put("/orders/{order_id:uuid}/note", opt={"scope": "orders.write"})
async def note_order(
    order_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database], data: JSONBody[NoteRequest]
) -> OwnOrderInfo:
    """What the shop's people write about an order; shoppers do not see it."""
    async with db.shop(call.holder.shop_id) as connection:
        await orders.set_merchant_note(connection, order_id, data.note)
        await call.note(connection, "order.note", order_id)
        return await _order(connection, order_id)


@get("/refunds", opt={"scope": "refunds.read"})
async def list_refunds(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    status: Annotated[list[RefundState] | None, QueryParameter(description="Only these.", max_items=9)] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> RefundPage:
    """The shop's refunds, the newest first."""
    place = read_cursor(cursor, tuple[Moment])
    async with db.shop(call.holder.shop_id) as connection:
        found = await aftersales.list_of(
            connection, statuses=status, before=place[0] if place else None, most=limit + 1
        )
    page, last = cut(found, limit)
    cursor = cursor_of(last.created_at) if last else None
    return RefundPage(tuple(shaped(one, RefundInfo) for one in page), next_link(request, cursor))


@get("/refunds/{refund_id:uuid}", opt={"scope": "refunds.read"})
async def get_refund(
    refund_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database]
) -> Response[RefundInfo]:
    """A refund."""
    async with db.shop(call.holder.shop_id) as connection:
        return _refund(await aftersales.get(connection, refund_id))


@post("/refunds/{refund_id:uuid}/approve", opt={"scope": "refunds.write"}, status_code=200)
async def approve_refund(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[RefundAnswer],
) -> Response[RefundInfo]:
    """The shop agrees: the goods come back first, or the money goes back at once. Needs If-Match: the ETag that was read."""

    async def approve(connection: Connection) -> None:
        await aftersales.approve(connection, refund_id, actor=call.holder.actor, now=call.now, answer=data.answer)

    return await _decide(request, call, db, refund_id, "refund.approved", approve)


@post("/refunds/{refund_id:uuid}/refuse", opt={"scope": "refunds.write"}, status_code=200)
async def refuse_refund(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[RefundRefusal],
) -> Response[RefundInfo]:
    """The shop does not agree, and says why. Needs If-Match: the ETag that was read."""

    async def refuse(connection: Connection) -> None:
        await aftersales.refuse(connection, refund_id, actor=call.holder.actor, now=call.now, answer=data.answer)

    return await _decide(request, call, db, refund_id, "refund.refused", refuse)


@post("/refunds/{refund_id:uuid}/goods-back", opt={"scope": "refunds.write"}, status_code=200)
async def goods_are_back(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[GoodsBack],
) -> Response[RefundInfo]:
    """The goods are back in the house. Needs If-Match: the ETag that was read."""

    async def back(connection: Connection) -> None:
        await aftersales.goods_back(connection, refund_id, restock=data.restock, actor=call.holder.actor, now=call.now)

    return await _decide(request, call, db, refund_id, "refund.returned", back)


@post("/refunds/{refund_id:uuid}/pay-back", opt={"scope": "refunds.write"}, status_code=200)
async def pay_refund_back(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
) -> Response[RefundInfo]:
    """The money goes back: after the goods came, or once more after it failed. Needs If-Match: the ETag that was read."""

    async def pay(connection: Connection) -> None:
        await aftersales.pay_back(connection, refund_id, actor=call.holder.actor, now=call.now)

    return await _decide(request, call, db, refund_id, "refund.paid_back", pay)


@get("/customers", opt={"scope": "customers.read"})
async def list_customers(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    login: Annotated[
        str | None, QueryParameter(max_length=254, description="Who has this phone or e-mail address.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> MemberPage:
    """The shop's members, the newest first."""
    place = read_cursor(cursor, tuple[UUID])
    async with db.shop(call.holder.shop_id) as connection:
        found = await members.listed(connection, login=login, before=place[0] if place else None, most=limit + 1)
    page, last = cut(found, limit)
    cursor = cursor_of(last.customer_id) if last else None
    return MemberPage(tuple(shaped(one, MemberInfo) for one in page), next_link(request, cursor))


@get("/customers/{customer_id:uuid}", opt={"scope": "customers.read"})
async def get_customer(
    customer_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database]
) -> MemberInfo:
    """A member."""
    async with db.shop(call.holder.shop_id) as connection:
        return shaped(await members.get(connection, customer_id), MemberInfo)


async def _decide(
    request: Request[Any, Any, Any],
    call: KeyCall,
    db: Database,
    refund_id: UUID,
    action: str,
    deed: Callable[[Connection], Awaitable[None]],
) -> Response[RefundInfo]:
    needs_match(request)
    async with db.shop(call.holder.shop_id) as connection:
        # Reading a refund locks it, and its order before it.
        if_match(request, etag((await aftersales.get(connection, refund_id)).version))
        await deed(connection)
        await call.note(connection, action, refund_id)
        return _refund(await aftersales.get(connection, refund_id))


async def _order(connection: Connection, order_id: UUID) -> OwnOrderInfo:
    return shaped(await orders.get(connection, order_id), OwnOrderInfo)


def _refund(found: aftersales.Refund) -> Response[RefundInfo]:
    return Response(shaped(found, RefundInfo), headers={"ETag": etag(found.version)})


HANDLERS = [
    list_orders,
    get_order,
    ship_order,
    cancel_order,
    note_order,
    list_refunds,
    get_refund,
    approve_refund,
    refuse_refund,
    goods_are_back,
    pay_refund_back,
    list_customers,
    get_customer,
]
