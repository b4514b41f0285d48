"""Paying an order: begun by a form, paid at the provider, and the page to which the provider sends the browser back; or paid
by a form with a gift card's code.

The way to the provider is a link on a page of ours: browsers do not follow a form to another site under `form-action 'self'`.
What became of the payment tells the provider's callback, never the browser that comes back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import attempts, exceptions, orders, payments
from ballast.mall.db import Database
from ballast.mall.order_life import Unknown
from ballast.mall.payments import gift_card
from ballast.mall.payments.providers import providers
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status
from ballast.mall.settings import Settings
from ballast.mall.web.forms import form
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.visit import Visit, entry_of, visiting

_AGAIN_S = 2


async def begin(db: Database, settings: Settings, visit: Visit, order_id: UUID) -> str:
    """Begin a payment of the visitor's order, outside of his visit's transaction; where it is paid.

    Raises:
        As `payments.start`.
    """
    assert visit.visitor is not None
    return await payments.start(
        db,
        visit.entry.shop_id,
        order_id,
        providers(settings)[Sandbox.name],
        owner=visit.visitor.owner,
        return_url=visit.address(settings, f"/orders/{order_id}/paid"),
        now=datetime.now(UTC),
    )


@post("/orders/{order_id:uuid}/pay")
async def pay(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    order_id: FromPath[UUID],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """Begin (or go on with) a payment."""
    async with visiting(db, request, slug) as visit:
        if visit.visitor is None:  # whoever is nobody here has no order to pay
            raise NotFoundException
        if await exceptions.of_shopper(visit.connection, visit.visitor.owner, order_id):
            return go(request, visit, f"/orders/{order_id}")
    try:
        await begin(db, settings, visit, order_id)
    except payments.ProviderAway:
        return go(request, visit, f"/orders/{order_id}?said=no_provider")
    return go(request, visit, f"/orders/{order_id}/pay")


@get("/orders/{order_id:uuid}/pay")
async def pay_page(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """How much, until when, the way to the provider, and a form for a gift card where one can be used now."""
    return await _pay_page(request, slug, order_id, db)


@post("/orders/{order_id:uuid}/pay/card")
async def pay_by_card(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """Pay with a gift card: the order is paid when this is answered. Sent again it is paid once."""
    typed = (await form(request)).text("gift_card", 60)
    try:
        shop_id = (await entry_of(db, slug)).shop_id
        async with (
            attempts.shopper_shows_card(db, shop_id, address_of(request), datetime.now(UTC)),
            visiting(db, request, slug) as visit,
        ):
            if visit.visitor is None:
                raise NotFoundException
            if not await exceptions.of_shopper(visit.connection, visit.visitor.owner, order_id):
                await gift_card.pay(visit.connection, order_id, typed, owner=visit.visitor.owner, now=visit.now)
    except Unknown:
        raise
    except Refused as error:
        return await _pay_page(request, slug, order_id, db, typed, error)
    return go(request, visit, f"/orders/{order_id}?said=by_card")


@get("/orders/{order_id:uuid}/paid")
async def paid(
    request: Request[Any, Any, Any], slug: FromPath[str], order_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """The browser comes back; while the callback is not there, the page asks again by itself."""
    async with visiting(db, request, slug) as visit:
        order = await _order(visit, order_id)
        if order is None:
            return go(request, visit, f"/orders/{order_id}")
        tried = await payments.of_order(visit.connection, order_id)
        failed = bool(tried) and tried[-1].status == "failed"
        waiting = order.status == Status.PENDING_PAYMENT and not failed
        state = "cancelled" if order.status == Status.CANCELLED else "waiting" if waiting else "paid"
        if order.status == Status.PENDING_PAYMENT and failed:
            state = "failed"
        return await shown(
            request,
            visit,
            "paid.html",
            tab="me",
            order=order,
            state=state,
            headers={"Refresh": str(_AGAIN_S)} if waiting else None,
        )


async def _pay_page(
    request: Request[Any, Any, Any],
    slug: str,
    order_id: UUID,
    db: Database,
    typed: str = "",
    error: Refused | None = None,
) -> Response[Any]:
    async with visiting(db, request, slug) as visit:
        order = await _order(visit, order_id)
        if order is None or order.status != Status.PENDING_PAYMENT:
            return go(request, visit, f"/orders/{order_id}")
        url = await payments.where_to_pay(visit.connection, order_id, Sandbox.name)
        takes_cards = gift_card.at_home(visit.connection)
        if url is None and not takes_cards and error is None:
            return go(request, visit, f"/orders/{order_id}")
        return await shown(
            request,
            visit,
            "pay.html",
            tab="me",
            status=409 if error else 200,
            problem=why(visit.language, error) if error else "",
            order=order,
            url=url,
            takes_cards=takes_cards,
            card_code=typed,
        )


async def _order(visit: Visit, order_id: UUID) -> orders.Order | None:
    """The visitor's; None for one that the shop has to decide about first. Unknown."""
    owner = await visit.owner()
    try:
        return await orders.get(visit.connection, order_id, owner=owner)
    except Unknown:
        if await exceptions.of_shopper(visit.connection, owner, order_id):
            return None
        raise


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [pay, pay_page, pay_by_card, paid]
