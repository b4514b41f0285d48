"""The storefront: what shoppers see of a shop at ``/s/<slug>/``. Works without scripts; forms answer with a redirect.

`visit` opens a request: which shop, which visitor, its transaction; `frame` puts a page into the shop's frame. The rest is a
file for each part of the shop.
"""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from ballast.mall.rules.refused import Refused
from ballast.mall.web.store import (
    addresses,
    cart,
    checkout,
    coupons,
    home,
    me_account,
    member,
    orders,
    paying,
    products,
)
from ballast.mall.web.store.frame import not_open, refused
from ballast.mall.web.store.visit import NotOpen

__all__ = ["routes"]


def routes() -> list[ControllerRouterHandler]:
    """For `web.app.faces`."""
    handlers: list[ControllerRouterHandler] = [
        handler
        for part in (home, products, cart, checkout, coupons, paying, orders, member, me_account, addresses)
        for handler in part.routes()
    ]
    return [
        Router(
            "/s/{slug:str}",
            route_handlers=handlers,
            exception_handlers={NotOpen: not_open, Refused: refused},
        )
    ]
