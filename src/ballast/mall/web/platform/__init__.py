"""The platform's admin: for its operators, over all shops."""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from ballast.mall.web import guard
from ballast.mall.web.platform import opening, overview, people, record, shop, shops, terms

__all__ = ["routes"]


def routes() -> list[ControllerRouterHandler]:
    """What this face answers to."""
    parts = (overview, shops, opening, shop, terms, people, record)
    return [
        Router(
            "/platform",
            route_handlers=[handler for part in parts for handler in part.HANDLERS],
            guards=[guard.operator],
            dependencies=guard.dependencies(),
        )
    ]
