"""The cart's page and its forms, for guests and members."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import cart
from ballast.mall.db import Database
from ballast.mall.web import again
from ballast.mall.web.forms import form
from ballast.mall.web.store.frame import go, seen, shown
from ballast.mall.web.store.visit import visiting


@get("/cart")
async def cart_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """What is in the cart, and what of it can be bought."""
    async with visiting(db, request, slug) as visit:
        lines = await cart.lines(visit.connection, visit.visitor.owner) if visit.visitor else ()
        return await shown(
            request,
            visit,
            "cart.html",
            tab="cart",
            lines=lines,
            sum_fen=sum(line.price_fen * line.quantity for line in lines if line.on_sale),
            buyable=bool(lines) and all(line.buyable for line in lines),
        )


@post("/cart/add")
async def add(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """Pieces of a SKU into the cart; ``then=buy`` goes on to the checkout."""
    sent = await form(request)
    async with visiting(db, request, slug) as visit:
        owner, key = await visit.owner(), again.key_of(request.scope)
        await cart.add(visit.connection, owner, sent.id("sku"), sent.number("quantity", 1), visit.now, key)
        seen(request, visit, "carts")
        return go(request, visit, "/checkout" if sent.text("then") == "buy" else "/cart?said=added")


@post("/cart/set")
async def set_quantity(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """Another number of pieces; 0 takes the SKU out."""
    sent = await form(request)
    async with visiting(db, request, slug) as visit:
        owner = await visit.owner()
        await cart.set_quantity(visit.connection, owner, sent.id("sku"), sent.number("quantity"), visit.now)
        return go(request, visit, "/cart")


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [cart_page, add, set_quantity]
