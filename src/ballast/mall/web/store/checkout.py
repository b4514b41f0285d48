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

from ballast.mall import addresses, attempts, cart, checkout, payments, shopper
from ballast.mall.addresses import Saved
from ballast.mall.checkout import Address, Delivery, Quote, Wanted
from ballast.mall.db import Database
from ballast.mall.deed_kinds import AddressSaved
from ballast.mall.ids import new_id
from ballast.mall.order_life import Unknown
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.forms import Form, form, read_id
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.addresses import read_address
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
    saved_id: UUID | None = None
    """The address of the member's book that was chosen; None: `address`."""
    remember: bool = False
    """Put `address` into the book."""


@get("/checkout")
async def checkout_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The form for what is in the cart."""
    async with visiting(db, request, slug) as visit:
        lines = await cart.lines(visit.connection, visit.visitor.owner) if visit.visitor else ()
        if not lines or not all(line.buyable for line in lines):
            return go(request, visit, "/cart")
        wanted = tuple(Wanted(line.sku_id, line.quantity) for line in lines)
        seen(request, visit, "checkouts")
        book = await _book(visit)
        address = Address() if book else await shopper.last_address(visit.connection, await visit.owner())
        chosen = book[0].address_id if book else None
        asked = Asked(str(new_id()), wanted, address, saved_id=chosen, remember=visit.member is not None)
        return await _page(request, visit, asked)


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
            address = _address(asked, await _book(visit) if asked.saved_id else ())
            if asked.remember and owner.customer_id:
                # Before the order, which holds what others wait for.
                deed = AddressSaved(owner.customer_id, new_id(), address, False, visit.now)
                await addresses.remember(visit.connection, deed)
            placed = await checkout.place(
                visit.connection,
                owner,
                asked.lines,
                key=asked.key,
                address=address,
                delivery=asked.delivery,
                claim_id=asked.claim_id,
                note=asked.note,
                shown_fen=asked.shown_fen,
                now=visit.now,
                room=attempts.room_of(settings, visit.entry.shop_id, address_of(request)),
            )
    except Unknown as error:
        # Sent again, and the shop has to decide about the order first: its page says so.
        return go(request, visit, f"/orders/{error.order_id}")
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
    book = await _book(visit)
    if asked.saved_id and all(one.address_id != asked.saved_id for one in book):
        asked = msgspec.structs.replace(asked, saved_id=None)
    try:
        quote = error.quote if isinstance(error, checkout.PriceChanged) else await _quote(visit, asked, book)
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
        book=book,
    )


def _shipping_added(error: checkout.PriceChanged) -> Refused | None:
    """Nothing but the shipping came to what was shown: it was not known before the address was."""
    fee_fen = error.quote.breakdown.shipping.fee_fen
    if not fee_fen or error.params["shown_fen"] != error.quote.total_fen - fee_fen:
        return None
    return Refused("checkout.shipping_added", "Shipping is added.", fee=plain_yuan(fee_fen))


async def _book(visit: Visit) -> tuple[Saved, ...]:
    """The member's addresses, the usual one first; a guest has none."""
    if visit.member is None or visit.member.customer_id is None:
        return ()
    return await addresses.all_of(visit.connection, visit.member.customer_id)


def _address(asked: Asked, book: tuple[Saved, ...]) -> Address:
    """Where it goes: what was chosen, else what was typed. Refused (`address.gone`): it was deleted meanwhile."""
    if asked.saved_id is None:
        return asked.address
    chosen = next((one.plain for one in book if one.address_id == asked.saved_id), None)
    if chosen is None:
        raise Refused("address.gone", "The chosen address was deleted.", "Choose another.")
    return chosen


async def _quote(visit: Visit, asked: Asked, book: tuple[Saved, ...]) -> Quote:
    return await checkout.quote(
        visit.connection,
        await visit.owner(),
        asked.lines,
        address=_address(asked, book),
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
    return Asked(
        key,
        tuple(lines),
        read_address(sent),
        "pickup" if sent.text("delivery") == "pickup" else "ship",
        sent.id("coupon") if sent.text("coupon") else None,
        sent.text("note", 500),
        sent.number("shown_fen") if sent.text("shown_fen") else None,
        "place" if sent.text("act") == "place" else "quote",
        sent.id("address") if sent.text("address") not in ("", "new") else None,
        bool(sent.text("remember")),
    )


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [checkout_page, send]
