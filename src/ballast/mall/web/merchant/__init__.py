"""The merchants' admin: a shop's own staff, in the shop that the path names."""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from ballast.mall.rules.refused import Refused
from ballast.mall.web import guard
from ballast.mall.web.merchant import (
    audit,
    books,
    categories,
    customers,
    exceptions,
    gift_cards,
    home,
    keys,
    order_papers,
    orders,
    pages,
    pictures,
    product,
    product_file,
    product_pictures,
    products,
    promotions,
    refunds,
    settings,
    shipping,
    staff,
    stock,
    webhooks,
)
from ballast.mall.web.merchant.frame import refused_page

__all__ = ["routes"]


def routes() -> list[ControllerRouterHandler]:
    """What this face answers to."""
    return [
        Router(
            "/merchant", route_handlers=[home.my_shops], guards=[guard.signed_in], dependencies=guard.dependencies()
        ),
        Router(
            "/merchant/{slug:str}",
            route_handlers=[
                home.shop_home,
                *orders.HANDLERS,
                *order_papers.HANDLERS,
                *refunds.HANDLERS,
                *exceptions.HANDLERS,
                *customers.HANDLERS,
                *gift_cards.HANDLERS,
                *books.HANDLERS,
                *keys.HANDLERS,
                *products.HANDLERS,
                *product.HANDLERS,
                *product_pictures.HANDLERS,
                *product_file.HANDLERS,
                *categories.HANDLERS,
                *stock.HANDLERS,
                *pictures.HANDLERS,
                *promotions.HANDLERS,
                *pages.HANDLERS,
                *shipping.HANDLERS,
                *settings.HANDLERS,
                *staff.HANDLERS,
                *webhooks.HANDLERS,
                *audit.HANDLERS,
            ],
            exception_handlers={Refused: refused_page},
            guards=[guard.works_there],
            dependencies=guard.dependencies(),
        ),
    ]
