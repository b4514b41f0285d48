"""``/merchant/<slug>/orders``: the list, an order, and what is done with it."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath

from ballast.mall import aftersales, audit, fulfilment, orders, payments, staff
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.order_life import Unknown
from ballast.mall.quoting import Address
from ballast.mall.rules import carriers, masking
from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Status
from ballast.mall.web import marks
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_about
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import (
    A_PAGE,
    from_day,
    read_day,
    read_id,
    sees_people,
    through_day,
    typed,
)

TABS: dict[str, tuple[Status, ...]] = {
    "all": (),
    "pending_payment": (Status.PENDING_PAYMENT,),
    "to_send": (Status.PAID, Status.PARTLY_SHIPPED),
    "shipped": (Status.SHIPPED,),
    "received": (Status.RECEIVED,),
    "closed": (Status.CLOSED,),
    "cancelled": (Status.CANCELLED,),
}


class Buyer(msgspec.Struct, frozen=True):
    """Who takes an order and where, as far as the reader needs it."""

    name: str
    phone: str
    address: Address | None


def wanted(request: Request[Any, Any, Any]) -> fulfilment.Filter:
    """What the list's form asks for."""
    delivery = typed(request, "delivery")
    customer = typed(request, "customer")
    return fulfilment.Filter(
        statuses=TABS.get(typed(request, "state"), ()),
        delivery="ship" if delivery == "ship" else "pickup" if delivery == "pickup" else None,
        since=from_day(read_day(typed(request, "since"))),
        until=through_day(read_day(typed(request, "until"))),
        customer_id=read_id(customer) if customer else None,
        text=typed(request, "q"),
    )


def buyer_of(order: orders.Order, shop_visit: ShopVisit) -> Buyer:
    """Legible for who sends parcels, else only so far that two buyers can be told apart."""
    if sees_people(shop_visit):
        return Buyer(order.buyer_name, order.buyer_phone, order.address)
    place = order.address
    if place:
        place = Address(
            masking.name(place.name),
            masking.phone(place.phone),
            place.province,
            place.city,
            place.district,
            masking.street(place.street),
        )
    return Buyer(masking.name(order.buyer_name), masking.phone(order.buyer_phone), place)


@get("/orders", opt=needs(Permission.SEE_ORDERS))
async def order_list(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """Orders by state, day, delivery, buyer or product; ``?before=`` leads on."""
    asked = wanted(request)
    at = marks.read(request.query_params.get("before", ""), marks.moment)
    async with db.shop(shop_visit.shop.shop_id) as connection:
        before = orders.Cursor(*at) if at else None
        asked = await fulfilment.searched(connection, asked)
        found = await fulfilment.page(connection, asked, before=before, most=A_PAGE + 1)
        counted = await fulfilment.counts(connection, asked)
    shown = found[:A_PAGE]
    if not sees_people(shop_visit):
        shown = tuple(
            msgspec.structs.replace(
                one,
                buyer_name=masking.name(one.buyer_name),
                buyer_phone=masking.phone(one.buyer_phone),
                note=masking.text(one.note),
            )
            for one in shown
        )
    state = typed(request, "state")
    return merchant_page(
        request,
        "orders.html",
        shop_visit,
        orders=shown,
        state=state if state in TABS else "all",
        tabs=[
            (
                name,
                min(sum(counted[one] for one in (states or Status)), fulfilment.COUNTED),
                with_query(request, state=name, before=None, said=None),
            )
            for name, states in TABS.items()
        ],
        counted=fulfilment.COUNTED,
        searched_newest=fulfilment.NEWEST if asked.partly else 0,
        asked={name: typed(request, name) for name in ("q", "delivery", "since", "until", "customer")},
        newest=with_query(request, before=None, said=None) if at else "",
        older=with_query(request, before=marks.mark(shown[-1].placed_at, shown[-1].order_id), said=None)
        if len(found) > A_PAGE
        else "",
        export=with_query(request, before=None, said=None).replace("/orders", "/orders/export.xlsx", 1),
        may_print=shop_visit.may(Permission.FULFIL_ORDERS),
    )


@get("/orders/{order_id:uuid}", opt=needs(Permission.SEE_ORDERS))
async def order_page(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """One, with all that belongs to it."""
    return await _page(request, order_id, shop_visit, db)


@post("/orders/{order_id:uuid}/ship", opt=needs(Permission.FULFIL_ORDERS))
async def ship(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """A parcel, with all or some of what is left to be sent."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await fulfilment.ship(
            connection,
            order_id,
            carrier=sent.text("carrier"),
            named=sent.text("named"),
            tracking=sent.text("tracking"),
            pieces=_pieces(sent),
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            shipment_id=sent.id("key"),
        )
        await _note(connection, shop_visit, "order.shipped", order_id, tracking=sent.text("tracking"))

    return await _deed(request, order_id, shop_visit, db, work, "order_shipped")


@post("/orders/{order_id:uuid}/hand-over", opt=needs(Permission.FULFIL_ORDERS))
async def hand_over(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The buyer came for it."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await fulfilment.hand_over(
            connection,
            order_id,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            shipment_id=sent.id("key"),
        )
        await _note(connection, shop_visit, "order.handed_over", order_id)

    return await _deed(request, order_id, shop_visit, db, work, "order_handed_over")


@post("/orders/{order_id:uuid}/cancel", opt=needs(Permission.FULFIL_ORDERS))
async def cancel(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """One that is not paid; a paid one is given back (`give_back`)."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        reason = sent.text("reason")
        if not reason:
            raise Refused("order.reason", "An order is not cancelled without a reason.", "Write one.")
        await orders.cancel(
            connection,
            order_id,
            by="merchant",
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            reason=reason,
        )
        await _note(connection, shop_visit, "order.cancelled", order_id, reason=reason)

    return await _deed(request, order_id, shop_visit, db, work, "order_cancelled")


@post("/orders/{order_id:uuid}/note", opt=needs(Permission.FULFIL_ORDERS))
async def note(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """What the shop's people want to remember of it."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await orders.set_merchant_note(connection, order_id, sent.text("note", 2000))
        await _note(connection, shop_visit, "order.noted", order_id)

    return await _deed(request, order_id, shop_visit, db, work, "saved")


@get("/orders/{order_id:uuid}/refund", opt=needs(Permission.DECIDE_REFUNDS))
async def refund_page(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """The form by which the shop gives money back of its own accord."""
    return await _refund_page(request, order_id, shop_visit, db)


@post("/orders/{order_id:uuid}/refund", opt=needs(Permission.DECIDE_REFUNDS))
async def give_back(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """All that is left of it, or some pieces and amounts."""
    sent = await form(request)

    async def work(connection: Connection) -> UUID:
        if sent.text("what") not in ("all", "some"):
            raise Refused("refund.what", "It was not said what goes back.", "Choose all of it, or a part.")
        everything = sent.text("what") == "all"
        refund_id = await fulfilment.give_back(
            connection,
            order_id,
            None if everything else _asked(sent),
            shipping_fen=0 if everything or not sent.text("shipping") else parse_yuan(sent.text("shipping")),
            with_return=sent.text("return") == "yes",
            reason=sent.text("reason", 500),
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            refund_id=sent.id("key"),
        )
        given = await aftersales.get(connection, refund_id)
        await _note(connection, shop_visit, "refund.given", order_id, amount_fen=given.amount_fen, reason=given.reason)
        return refund_id

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _refund_page(request, order_id, shop_visit, db, error),
        lambda refund_id: f"/merchant/{shop_visit.shop.slug}/refunds/{refund_id}?said=refund_given",
    )


def actor_of(shop_visit: ShopVisit) -> str:
    """As events and refunds name who did it."""
    return f"account:{shop_visit.visit.session.account_id}"


async def names_of(db: Database, shop_visit: ShopVisit) -> dict[str, str]:
    """Actor → name, of the shop's people."""
    async with db.identity(shop_visit.shop.shop_id) as connection:
        members = await staff.members(connection, shop_visit.shop.shop_id)
    return {f"account:{one.account_id}": one.name for one in members}


async def _note(
    connection: Connection, shop_visit: ShopVisit, action: str, order_id: UUID, **detail: str | int
) -> None:
    order = await orders.get(connection, order_id)
    await audit.note_in_shop(
        connection,
        shop_visit.by,
        action,
        shop_visit.visit.now,
        shop_id=shop_visit.shop.shop_id,
        subject=order.number,
        **detail,
    )


async def _page(
    request: Request[Any, Any, Any],
    order_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            order = await orders.get(connection, order_id)
            paid = await payments.of_order(connection, order_id)
            refunds = await aftersales.list_of(connection, order_id=order_id)
    except Unknown:
        raise NotFoundException from None
    possible = order.possible
    sendable = Event.SHIP in possible and any(line.to_send for line in order.lines)
    fulfils = shop_visit.may(Permission.FULFIL_ORDERS)
    return merchant_page(
        request,
        "order.html",
        shop_visit,
        refused,
        order=order,
        buyer=buyer_of(order, shop_visit),
        note=order.note if sees_people(shop_visit) else masking.text(order.note),
        payments=paid,
        refunds=refunds,
        names=await names_of(db, shop_visit),
        carriers=carriers.CARRIERS,
        key=new_id(),
        may_ship=fulfils and sendable and order.delivery == "ship",
        may_hand_over=fulfils and sendable and order.delivery == "pickup",
        may_cancel=fulfils and Event.CANCEL_BY_MERCHANT in possible,
        may_note=fulfils,
        may_print=fulfils,
        may_refund=shop_visit.may(Permission.DECIDE_REFUNDS) and Event.REFUND_FULL in possible and order.paid_fen > 0,
        may_see_customer=shop_visit.may(Permission.SEE_CUSTOMERS),
        may_see_cards=shop_visit.may(Permission.SEE_GIFT_CARDS),
    )


async def _refund_page(
    request: Request[Any, Any, Any],
    order_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            order = await orders.get(connection, order_id)
            left = await aftersales.refundable(connection, order_id)
    except Unknown:
        raise NotFoundException from None
    return merchant_page(
        request,
        "order_refund.html",
        shop_visit,
        refused,
        order=order,
        left={line.sku_id.int: line for line in left.lines},
        left_fen=left.left_fen,
        shipping_left_fen=left.shipping_fen - left.shipping_refunded_fen,
        key=new_id(),
    )


def _pieces(sent: Form) -> dict[int, int]:
    lines = [int(one) for one in sent.texts("line") if one.isascii() and one.isdigit() and len(one) < 6]
    found = {line: sent.number(f"pieces-{line}") for line in lines}
    if any(not 0 <= count <= 1_000_000 for count in found.values()):
        raise ClientException("so many pieces are never sent")
    return found


def _asked(sent: Form) -> list[aftersales.Asked]:
    found = []
    for line, pieces in _pieces(sent).items():
        amount = sent.text(f"amount-{line}")
        if pieces or amount:
            found.append(aftersales.Asked(line, pieces, parse_yuan(amount) if amount else None))
    return found


_deed = partial(deed_about, _page, "orders")
HANDLERS = [order_list, order_page, ship, hand_over, cancel, note, refund_page, give_back]
