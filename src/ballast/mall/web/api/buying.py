"""For a shopper's program: the cart, what it would cost, and the order."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, get, post, put
from litestar.params import FromPath, JSONBody

from ballast.mall import attempts, cart, checkout, exceptions, payments
from ballast.mall.checkout import Address, Quote, Wanted
from ballast.mall.db import Connection, Database
from ballast.mall.deed_kinds import PaymentBegun
from ballast.mall.order_life import Unknown
from ballast.mall.owner import Owner
from ballast.mall.payments.providers import providers
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.placed import Placed
from ballast.mall.round_trips import ending
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.api.calls import VISITOR, VISITOR_OR_NEW, Key, ShopCall, return_url, shopper
from ballast.mall.web.api.shapes import (
    AddressInfo,
    CartInfo,
    CartLineInfo,
    CartQuantity,
    OrderRequest,
    PlacedInfo,
    QuotedLineInfo,
    QuoteInfo,
    QuoteRequest,
    StepInfo,
    WantedLine,
    shaped,
)
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import entry_of


@get("/cart", security=VISITOR)
async def get_cart(request: Request[Any, Any, Any], slug: FromPath[str]) -> CartInfo:
    """What is in the cart."""
    async with shopper(request, slug, only_whose=True) as call:
        return await _shown(call.connection, call.owner)


@put("/cart/lines/{sku_id:uuid}", security=VISITOR_OR_NEW)
async def put_cart_line(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    sku_id: FromPath[UUID],
    data: JSONBody[CartQuantity],
) -> CartInfo:
    """So many pieces of a SKU in the cart, whether or not it was there. Who comes without a token is a new guest, whose token is
    in the answer: nothing need be asked for before the first goods."""
    async with shopper(request, slug, only_whose=True) as call:
        owner, token = await call.owner_or_new()
        return _cart(await cart.put(call.connection, owner, sku_id, data.quantity, call.now), token)


@delete("/cart/lines/{sku_id:uuid}", security=VISITOR, status_code=200)
async def delete_cart_line(request: Request[Any, Any, Any], slug: FromPath[str], sku_id: FromPath[UUID]) -> CartInfo:
    """Take a SKU out of the cart; one that is not there stays away."""
    async with shopper(request, slug, only_whose=True) as call:
        await cart.remove(call.connection, call.owner, [sku_id])
        return await _shown(call.connection, call.owner)


@post("/quotes", security=VISITOR, status_code=200)
async def quote(request: Request[Any, Any, Any], slug: FromPath[str], data: JSONBody[QuoteRequest]) -> QuoteInfo:
    """What these goods would cost now, with all promotions. Nothing is kept."""
    async with shopper(request, slug, only_whose=True) as call:
        ending(call.connection, reads=True)
        found = await checkout.quote(
            call.connection,
            call.owner,
            _wanted(data.lines),
            address=_address(data.address) if data.address else None,
            delivery=data.delivery,
            claim_id=data.claim_id,
            now=call.now,
        )
    return _quote(found)


@post("/orders", security=VISITOR)
async def create_order(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    data: JSONBody[OrderRequest],
    key: Key,
) -> PlacedInfo:
    """Place an order. The goods are kept until `pay_by`; what was ordered leaves the cart. With `pay` its payment is begun as
    well; with a `gift_card` it is paid when this is answered, or not there at all."""
    db: Database = request.app.state.db
    settings: Settings = request.app.state.settings
    provider = providers(settings)[Sandbox.name]
    if data.gift_card is not None:
        shop_id = (await entry_of(db, slug)).shop_id
        async with attempts.shopper_shows_card(db, shop_id, address_of(request), datetime.now(UTC)):
            placed, _ = await _place(request, slug, settings, data, key, None)
        return shaped(placed, PlacedInfo)
    async with payments.Asking(provider) as asking:
        placed, call = await _place(request, slug, settings, data, key, asking if data.pay else None)
        told = shaped(placed, PlacedInfo)
        # The order stands, whatever becomes of this: nothing is to be paid, or it can be later.
        with suppress(payments.ProviderAway, Refused):
            if asking.begun:
                return msgspec.structs.replace(told, pay_url=await asking.pay_url())
            if data.pay and placed.repeated:
                back = return_url(settings, slug, placed.order_id)
                url = await payments.start(
                    db, call.entry.shop_id, placed.order_id, provider, owner=call.owner, return_url=back, now=call.now
                )
                return msgspec.structs.replace(told, pay_url=url)
    return told


async def _place(
    request: Request[Any, Any, Any],
    slug: str,
    settings: Settings,
    data: OrderRequest,
    key: str,
    asking: payments.Asking | None,
) -> tuple[Placed, ShopCall]:
    try:
        async with shopper(request, slug, only_whose=True) as call:

            def begin(placed: Placed) -> PaymentBegun:
                assert asking is not None
                back = return_url(settings, slug, placed.order_id)
                return asking.begin(call.entry.shop_id, call.owner, placed, back, call.now)

            placed = await checkout.place(
                call.connection,
                call.owner,
                _wanted(data.lines),
                key=key,
                address=_address(data.address),
                delivery=data.delivery,
                claim_id=data.claim_id,
                note=data.note,
                shown_fen=data.agreed_fen,
                now=call.now,
                source="api",
                # One that is paid at once keeps nothing from others.
                room=None if data.gift_card else attempts.room_of(settings, call.entry.shop_id, address_of(request)),
                begin=begin if asking else None,
                gift_card=data.gift_card,
                last=True,
            )
    except Unknown as error:  # sent again, and the shop has to decide about the order first
        raise exceptions.Excepted(error.order_id) from None
    return placed, call


async def _shown(connection: Connection, owner: Owner) -> CartInfo:
    ending(connection, reads=True)
    return _cart(await cart.lines(connection, owner))


def _cart(lines: tuple[cart.CartLine, ...], token: str | None = None) -> CartInfo:
    return CartInfo(tuple(shaped(one, CartLineInfo) for one in lines), sum(one.quantity for one in lines), token)


def _wanted(lines: tuple[WantedLine, ...]) -> list[Wanted]:
    return [Wanted(one.sku_id, one.quantity) for one in lines]


def _address(said: AddressInfo) -> Address:
    return Address(said.name, said.phone, said.province, said.city, said.district, said.street)


def _quote(found: Quote) -> QuoteInfo:
    breakdown = found.breakdown
    lines = tuple(
        QuotedLineInfo(
            line.sku_id,
            line.product_id,
            line.title,
            line.title_en,
            line.options,
            line.picture,
            line.quantity,
            line.price_fen,
            price.total_fen,
            line.free,
        )
        for line, price in zip(found.lines, breakdown.lines, strict=True)
    )
    refusal = found.coupon_reason or (breakdown.coupon_refusal.key if breakdown.coupon_refusal else None)
    return QuoteInfo(
        lines,
        tuple(shaped(one, StepInfo) for one in breakdown.steps),
        breakdown.discount_fen,
        breakdown.shipping.fee_fen,
        breakdown.shipping.known,
        found.total_fen,
        breakdown.orderable and not found.short,
        str(refusal) if refusal else None,
    )


HANDLERS = [get_cart, put_cart_line, delete_cart_line, quote, create_order]
