"""The checkout: one form with goods, address, delivery, coupon and note, and the price that it comes to.

The form carries its goods and its key, so that sending it twice is one order. A price that changed since it was shown is
shown anew, and nothing is ordered.
"""

from __future__ import annotations

import logging
from typing import Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import ClientException
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from ballast.mall import attempts, cart, checkout, payments, shopper
from ballast.mall.checkout import Address, Delivery, Quote, Wanted
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.forms import Form, form, read_id
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.frame import go, seen, shown, why
from ballast.mall.web.store.paying import begin
from ballast.mall.web.store.provinces import PROVINCES
from ballast.mall.web.store.visit import Visit, visiting

_log = logging.getLogger(__name__)


class Asked(msgspec.Struct, frozen=True):
    """What the form says."""

    key: str
    lines: tuple[Wanted, ...]
    address: Address
    delivery: Delivery = "ship"
    claim_id: UUID | None = None
    note: str = ""
    shown_fen: int | None = None
    act: Literal["quote", "place"] = "quote"


@get("/checkout")
async def checkout_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The form for what is in the cart."""
    async with visiting(db, request, slug) as visit:
        lines = await cart.lines(visit.connection, visit.visitor.owner) if visit.visitor else ()
        if not lines or not all(line.buyable for line in lines):
            return go(request, visit, "/cart")
        address = await shopper.last_address(visit.connection, await visit.owner())
        wanted = tuple(Wanted(line.sku_id, line.quantity) for line in lines)
        seen(request, visit, "checkouts")
        return await _page(request, visit, Asked(str(new_id()), wanted, address))


@post("/checkout")
async def send(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """``act=quote``: the same form with its price; ``act=place``: the order."""
    asked = _read(await form(request))
    if asked.act == "quote":
        async with visiting(db, request, slug) as visit:
            return await _page(request, visit, asked)
    try:
        async with visiting(db, request, slug) as visit:
            owner = await visit.owner()
            placed = await checkout.place(
                visit.connection,
                owner,
                asked.lines,
                key=asked.key,
                address=asked.address,
                delivery=asked.delivery,
                claim_id=asked.claim_id,
                note=asked.note,
                shown_fen=asked.shown_fen,
                now=visit.now,
                room=attempts.room_of(settings, visit.entry.shop_id, address_of(request)),
            )
    except Refused as error:
        # What was done before it is rolled back; the form is shown in a transaction of its own.
        async with visiting(db, request, slug) as visit:
            return await _page(request, visit, asked, error)
    try:
        await begin(db, settings, visit, placed.order_id)
    except payments.ProviderAway:
        _log.warning("order %s: the payment provider is away; the shopper can pay later", placed.number)
        return go(request, visit, f"/orders/{placed.order_id}?said=no_provider")
    except Refused:
        # Nothing to pay, or paid by an earlier sending of the form.
        return go(request, visit, f"/orders/{placed.order_id}?said=placed")
    return go(request, visit, f"/orders/{placed.order_id}/pay")


async def _page(
    request: Request[Any, Any, Any], visit: Visit, asked: Asked, error: Refused | None = None
) -> Response[Any]:
    owner = await visit.owner()
    try:
        quote = error.quote if isinstance(error, checkout.PriceChanged) else await _quote(visit, asked)
    except Refused as cannot:
        return _to_cart_or_raise(request, visit, cannot)
    refusal = quote.coupon_reason or (quote.breakdown.coupon_refusal and quote.breakdown.coupon_refusal.key)
    problem = why(visit.language, error) if error else ""
    if isinstance(error, checkout.PriceChanged) and (added := _shipping_added(error)):
        problem = why(visit.language, added)
    if not problem and refusal:
        problem = why(visit.language, Refused("checkout.coupon", str(refusal)))
    # A key that was used for something else is worth nothing any more.
    fresh = error is not None and error.key == "idempotency.differs"
    return await shown(
        request,
        visit,
        "checkout.html",
        tab="cart",
        status=409 if error else 200,
        problem=problem,
        asked=msgspec.structs.replace(asked, key=str(new_id())) if fresh else asked,
        quote=quote,
        coupons=await shopper.coupons(visit.connection, owner, visit.now),
        provinces=PROVINCES,
    )


def _shipping_added(error: checkout.PriceChanged) -> Refused | None:
    """Nothing but the shipping came to what was shown: it was not known before the address was."""
    fee_fen = error.quote.breakdown.shipping.fee_fen
    if not fee_fen or error.params["shown_fen"] != error.quote.total_fen - fee_fen:
        return None
    return Refused("checkout.shipping_added", "Shipping is added.", fee=plain_yuan(fee_fen))


async def _quote(visit: Visit, asked: Asked) -> Quote:
    return await checkout.quote(
        visit.connection,
        await visit.owner(),
        asked.lines,
        address=asked.address,
        delivery=asked.delivery,
        claim_id=asked.claim_id,
        now=visit.now,
    )


def _to_cart_or_raise(request: Request[Any, Any, Any], visit: Visit, cannot: Refused) -> Redirect:
    if cannot.key == "checkout.not_on_sale":
        return go(request, visit, "/cart")
    raise cannot


def _read(sent: Form) -> Asked:
    key = sent.text("key")
    lines = []
    for one in sent.texts("line"):
        sku, _, quantity = one.partition(":")
        if not quantity.isdecimal() or len(quantity) > 4:
            raise ClientException("a line of the order cannot be read")
        lines.append(Wanted(read_id(sku), int(quantity)))
    if not key or not lines:
        raise ClientException("the form has no key or no goods")
    address = Address(
        sent.text("name", 60),
        sent.text("phone", 30),
        sent.text("province", 30),
        sent.text("city", 60),
        sent.text("district", 60),
        sent.text("street", 200),
    )
    return Asked(
        key,
        tuple(lines),
        address,
        "pickup" if sent.text("delivery") == "pickup" else "ship",
        sent.id("coupon") if sent.text("coupon") else None,
        sent.text("note", 500),
        sent.number("shown_fen") if sent.text("shown_fen") else None,
        "place" if sent.text("act") == "place" else "quote",
    )


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [checkout_page, send]
