"""A shopper's orders: the list, one of them, and what he may do with it: cancel, confirm receipt, ask for money back."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import aftersales, exceptions, orders, payments, remedies
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.order_life import Unknown
from ballast.mall.payments.gift_card import at_home
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Status
from ballast.mall.web import marks
from ballast.mall.web.forms import Form, form
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.visit import Visit, visiting

_MOST = 10
_TABS: dict[str, tuple[Status, ...] | None] = {
    "all": None,
    "pending_payment": (Status.PENDING_PAYMENT,),
    "paid": (Status.PAID, Status.PARTLY_SHIPPED),
    "shipped": (Status.SHIPPED,),
    "received": (Status.RECEIVED, Status.CLOSED),
}


@get("/orders")
async def order_list(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """His orders, newest first; ``?status=`` chooses, ``?before=`` leads on."""
    chosen = request.query_params.get("status", "all")
    chosen = chosen if chosen in _TABS else "all"
    at = marks.read(request.query_params.get("before", ""), marks.moment)
    async with visiting(db, request, slug) as visit:
        found: tuple[orders.Summary, ...] = ()
        kept: tuple[exceptions.Kept, ...] = ()
        if visit.visitor:
            if chosen == "all" and "before" not in request.query_params:
                kept = await exceptions.of_shopper(visit.connection, visit.visitor.owner)
            found = await orders.list_of(
                visit.connection,
                owner=visit.visitor.owner,
                statuses=_TABS[chosen],
                before=orders.Cursor(*at) if at else None,
                most=_MOST + 1,
            )
        last = found[_MOST - 1] if len(found) > _MOST else None
        more = {"status": chosen, "before": marks.mark(last.placed_at, last.order_id)} if last else None
        return await shown(
            request,
            visit,
            "orders.html",
            tab="me",
            orders=found[:_MOST],
            kept=kept,
            chosen=chosen,
            choices=list(_TABS),
            more=urlencode(more) if more else "",
        )


@get("/orders/{order_id:uuid}")
async def order_page(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[str]:
    """One of them; also one that the shop could not keep as it was accepted, and has to decide about."""
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        try:
            order = await orders.get(visit.connection, order_id, owner=owner)
        except Unknown:
            if not (kept := await exceptions.of_shopper(visit.connection, owner, order_id)):
                raise
            return await shown(request, visit, "excepted.html", tab="me", kept=kept[0], order=kept[0].order)
        possible = order.possible
        return await shown(
            request,
            visit,
            "order.html",
            tab="me",
            order=order,
            refunds=await aftersales.list_of(visit.connection, order_id=order_id),
            paid=await _paid(visit, order),
            takes_cards=at_home(visit.connection),
            may_cancel=Event.CANCEL_BY_SHOPPER in possible,
            may_receive=Event.RECEIVE in possible,
            may_refund=Event.REFUND_FULL in possible and order.paid_fen > 0,
        )


@post("/orders/{order_id:uuid}/cancel")
async def cancel(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """An order that is not paid, or one that the shop could not keep as it was accepted."""
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        if not await remedies.give_up(visit.connection, owner, order_id, now=visit.now):
            await orders.cancel(visit.connection, order_id, by="shopper", actor=owner.actor, now=visit.now, owner=owner)
        return go(request, visit, f"/orders/{order_id}?said=cancelled")


@post("/orders/{order_id:uuid}/receive")
async def receive(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """He has it."""
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        await orders.receive(visit.connection, order_id, actor=owner.actor, now=visit.now, owner=owner)
        return go(request, visit, f"/orders/{order_id}?said=received")


@get("/orders/{order_id:uuid}/refund")
async def refund_page(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[str]:
    """The form that asks for money back."""
    async with visiting(db, request, slug) as visit:
        return await _refund_form(request, visit, order_id)


@post("/orders/{order_id:uuid}/refund")
async def ask_refund(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """Ask for it: of all, or of some pieces."""
    sent = await form(request)
    try:
        async with visiting(db, request, slug) as visit:
            owner = await visit.owner()
            await aftersales.request(
                visit.connection,
                order_id,
                None if sent.text("what") == "all" else _pieces(sent),
                with_return=sent.text("return") == "yes",
                reason=sent.text("reason", 500),
                actor=owner.actor,
                now=visit.now,
                owner=owner,
                refund_id=sent.id("key"),
            )
            return go(request, visit, f"/orders/{order_id}?said=requested")
    except Refused as error:
        if not error.key.startswith("refund."):
            raise
        async with visiting(db, request, slug) as visit:
            return await _refund_form(request, visit, order_id, error)


@post("/refunds/{refund_id:uuid}/withdraw")
async def withdraw(
    request: Request[Any, Any, Any], slug: FromPath[str], refund_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """He does not want it any more."""
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        refund = await aftersales.get(visit.connection, refund_id, owner)
        await aftersales.withdraw(visit.connection, refund_id, actor=owner.actor, now=visit.now, owner=owner)
        return go(request, visit, f"/orders/{refund.order_id}?said=withdrawn")


@post("/refunds/{refund_id:uuid}/goods")
async def goods_sent(
    request: Request[Any, Any, Any], slug: FromPath[str], refund_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """With which parcel the goods come back."""
    sent = await form(request)
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        refund = await aftersales.get(visit.connection, refund_id, owner)
        await aftersales.send_goods_back(
            visit.connection, refund_id, carrier=sent.text("carrier", 60), code=sent.text("code", 80), owner=owner
        )
        return go(request, visit, f"/orders/{refund.order_id}?said=sent_back")


async def _paid(visit: Visit, order: orders.Order) -> payments.Payment | None:
    """The payment by which it was paid."""
    if order.paid_at is None:
        return None
    found = await payments.of_order(visit.connection, order.order_id)
    return next((one for one in found if one.status == "succeeded" and not one.undue), None)


async def _refund_form(
    request: Request[Any, Any, Any], visit: Visit, order_id: UUID, error: Refused | None = None
) -> Response[str]:
    owner = await visit.owner()
    order = await orders.get(visit.connection, order_id, owner=owner)
    left = await aftersales.refundable(visit.connection, order_id, owner)
    return await shown(
        request,
        visit,
        "refund.html",
        tab="me",
        status=409 if error else 200,
        problem=why(visit.language, error) if error else "",
        order=order,
        left={line.sku_id.int: line.left_quantity for line in left.lines},
        left_fen=left.left_fen,
        sent=any(line.shipped_quantity for line in order.lines),
        key=new_id(),
    )


def _pieces(sent: Form) -> list[aftersales.Asked]:
    lines = [int(one) for one in sent.texts("line") if one.isdecimal() and len(one) < 6]
    found = [aftersales.Asked(line, sent.number(f"pieces-{line}")) for line in lines]
    return [one for one in found if one.quantity]


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [order_list, order_page, cancel, receive, refund_page, ask_refund, withdraw, goods_sent]
