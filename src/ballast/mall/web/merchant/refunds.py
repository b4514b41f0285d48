"""``/merchant/<slug>/refunds``: who wants money back, and what the shop decides."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import aftersales, audit, fulfilment, orders, refund_desk
from ballast.mall.aftersales import UnknownRefund
from ballast.mall.db import Connection, Database
from ballast.mall.rules import masking
from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.web import marks
from ballast.mall.web.address import with_query
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_about
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import A_PAGE, sees_people, typed
from ballast.mall.web.merchant.orders import actor_of, names_of

_S = RefundState
_TABS: dict[str, tuple[RefundState, ...]] = {
    "to_decide": (_S.REQUESTED, _S.RETURNED),
    "awaiting_return": (_S.AWAITING_RETURN,),
    "paying": (_S.PROCESSING, _S.FAILED),
    "succeeded": (_S.SUCCEEDED,),
    "refused": (_S.REFUSED, _S.WITHDRAWN),
    "all": (),
}


@get("/refunds", opt=needs(Permission.SEE_ORDERS))
async def refund_list(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """Refunds by state; those to be decided first."""
    state = typed(request, "state")
    state = state if state in _TABS else "to_decide"
    at = marks.read(request.query_params.get("before", ""), marks.moment)
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await refund_desk.page(
            connection, _TABS[state], before=refund_desk.Cursor(*at) if at else None, most=A_PAGE + 1
        )
        counted = await refund_desk.counts(connection)
    shown = found[:A_PAGE]
    if not sees_people(shop_visit):
        shown = tuple(msgspec.structs.replace(one, buyer_name=masking.name(one.buyer_name)) for one in shown)
    return merchant_page(
        request,
        "refunds.html",
        shop_visit,
        refunds=shown,
        state=state,
        tabs=[
            (
                name,
                min(sum(counted[one] for one in (states or _S)), fulfilment.COUNTED),
                with_query(request, state=name, before=None, said=None),
            )
            for name, states in _TABS.items()
        ],
        counted=fulfilment.COUNTED,
        newest=with_query(request, before=None, said=None) if at else "",
        older=with_query(request, before=marks.mark(shown[-1].created_at, shown[-1].refund_id), said=None)
        if len(found) > A_PAGE
        else "",
    )


@get("/refunds/{refund_id:uuid}", opt=needs(Permission.SEE_ORDERS))
async def refund_page(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """One, and what may be decided."""
    return await _page(request, refund_id, shop_visit, db)


@post("/refunds/{refund_id:uuid}/approve", opt=needs(Permission.DECIDE_REFUNDS))
async def approve(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The shop agrees, to all that was asked for or to less."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await aftersales.approve(
            connection,
            refund_id,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            answer=sent.text("answer", 500),
            amount_fen=_amount(sent),
        )
        await _note(connection, shop_visit, "refund.approved", refund_id)

    return await _deed(request, refund_id, shop_visit, db, work, "refund_approved")


@post("/refunds/{refund_id:uuid}/refuse", opt=needs(Permission.DECIDE_REFUNDS))
async def refuse(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The shop does not agree, and says why."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await aftersales.refuse(
            connection,
            refund_id,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            answer=sent.text("answer", 500),
        )
        await _note(connection, shop_visit, "refund.refused", refund_id)

    return await _deed(request, refund_id, shop_visit, db, work, "refund_refused")


@post("/refunds/{refund_id:uuid}/goods", opt=needs(Permission.FULFIL_ORDERS))
async def goods_back(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The goods are back. Who may decide can have the money go back at once; else it waits for somebody who may."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        now, actor = shop_visit.visit.now, actor_of(shop_visit)
        await aftersales.goods_back(connection, refund_id, restock=sent.text("restock") == "yes", actor=actor, now=now)
        await _note(connection, shop_visit, "refund.goods_back", refund_id)
        if sent.text("pay") == "yes" and shop_visit.may(Permission.DECIDE_REFUNDS):
            await aftersales.pay_back(connection, refund_id, actor=actor, now=now)
            await _note(connection, shop_visit, "refund.paid_back", refund_id)

    return await _deed(request, refund_id, shop_visit, db, work, "refund_goods_back")


@post("/refunds/{refund_id:uuid}/pay", opt=needs(Permission.DECIDE_REFUNDS))
async def pay_back(
    request: Request[Any, Any, Any],
    refund_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The provider is to pay back: the goods are there, or it failed before."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await aftersales.pay_back(
            connection,
            refund_id,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            amount_fen=_amount(sent),
        )
        await _note(connection, shop_visit, "refund.paid_back", refund_id)

    return await _deed(request, refund_id, shop_visit, db, work, "refund_approved")


def _amount(sent: Form) -> int | None:
    text = sent.text("amount")
    return parse_yuan(text) if text else None


async def _note(connection: Connection, shop_visit: ShopVisit, action: str, refund_id: UUID) -> None:
    refund = await refund_desk.one(connection, refund_id)
    order = await orders.get(connection, refund.order_id)
    await audit.note_in_shop(
        connection,
        shop_visit.by,
        action,
        shop_visit.visit.now,
        shop_id=shop_visit.shop.shop_id,
        subject=order.number,
        amount_fen=refund.amount_fen,
        answer=refund.answer,
    )


async def _page(
    request: Request[Any, Any, Any],
    refund_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            refund = await refund_desk.one(connection, refund_id)
            order = await orders.get(connection, refund.order_id)
    except UnknownRefund:
        raise NotFoundException from None
    decides, fulfils = shop_visit.may(Permission.DECIDE_REFUNDS), shop_visit.may(Permission.FULFIL_ORDERS)
    return merchant_page(
        request,
        "refund.html",
        shop_visit,
        refused,
        refund=refund,
        order=order,
        lines={line.line: line for line in order.lines},
        buyer_name=order.buyer_name if sees_people(shop_visit) else masking.name(order.buyer_name),
        names=await names_of(db, shop_visit),
        may_decide=decides and refund.status == _S.REQUESTED,
        may_receive=fulfils and refund.status == _S.AWAITING_RETURN,
        may_pay=decides and refund.status in (_S.RETURNED, _S.FAILED),
        may_refuse=decides and refund.status in (_S.REQUESTED, _S.RETURNED),
        decides=decides,
    )


_deed = partial(deed_about, _page, "refunds")
HANDLERS = [refund_list, refund_page, approve, refuse, goods_back, pay_back]
