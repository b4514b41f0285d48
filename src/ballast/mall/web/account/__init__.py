"""Signing in and out, links that work once, and what an account sees of itself."""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from ballast.mall.web import guard
from ballast.mall.web.account import entering, links, profile

__all__ = ["routes"]


def routes() -> list[ControllerRouterHandler]:
    """What this face answers to."""
    own = Router(
        "/account", route_handlers=profile.HANDLERS, guards=[guard.signed_in], dependencies=guard.dependencies()
    )
    return [*entering.HANDLERS, *links.HANDLERS, own]
