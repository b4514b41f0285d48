"""Stopping a promotion, and letting it go on: the same for all kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from ballast.mall import limited_prices, promotions
from ballast.mall.db import Connection, Database
from ballast.mall.promotions import Kind
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import root

Turn = Literal["stop", "resume"]
Again = Callable[[Request[Any, Any, Any], ShopVisit, Database, Refused], Awaitable[Response[Any]]]


def turning(kind: Kind, path: str, again: Again, to: str) -> HTTPRouteHandler:
    """The handler of one kind, ``…/stop`` and ``…/resume``.

    Args:
        path: of its promotions, below the shop's admin.
        again: the page that says why it was refused.
        to: the next page, below the shop's admin.
    """

    @post(f"{path}/{{promotion_id:uuid}}/{{turn:str}}", opt=needs(Permission.EDIT_PROMOTIONS), name=f"turn_{kind}")
    async def turn_promotion(
        request: Request[Any, Any, Any],
        shop_visit: NamedDependency[ShopVisit],
        promotion_id: FromPath[UUID],
        turn: FromPath[Turn],
        db: NamedDependency[Database],
    ) -> Response[Any]:
        async def work(connection: Connection) -> None:
            shop_id, by, now = shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now
            if kind == "limited" and turn == "resume":  # if no other took its place
                await limited_prices.resume(connection, shop_id, promotion_id, by, now)
            else:
                await promotions.stop(connection, shop_id, kind, promotion_id, turn == "resume", by, now)

        return await deed(
            db.shop(shop_visit.shop.shop_id),
            work,
            lambda error: again(request, shop_visit, db, error),
            f"{root(shop_visit)}{to}?said=saved",
        )

    return turn_promotion
