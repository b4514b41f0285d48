"""``/merchant/<slug>/stock``: pieces by SKU; a SKU's movements, goods received and counted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, QueryParameter

from ballast.mall import stock, stock_list
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.product_list import LOW
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, optional_id, root, whole
from ballast.mall.web.merchant.frame import merchant_page

_Text = Annotated[str, QueryParameter(max_length=100)]
_MOVEMENTS = 50


@get("/stock", opt=needs(Permission.SEE_PRODUCTS))
async def list_stock(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    q: _Text = "",
    low: FromQuery[bool] = False,
    before: _Text = "",
) -> Response[str]:
    """The SKUs that are offered."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        shelves, later = await stock_list.listed(
            connection, text=q, low=LOW if low else None, before=optional_id(before)
        )
    return merchant_page(
        request,
        "stock.html",
        shop_visit,
        q=q,
        few=low,
        low=LOW,
        shelves=shelves,
        first=with_query(request, before=None, said=None) if before else "",
        later=with_query(request, before=str(later), said=None) if later else "",
    )


@get("/stock/{sku_id:uuid}", opt=needs(Permission.SEE_PRODUCTS))
async def sku_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    sku_id: FromPath[UUID],
    db: NamedDependency[Database],
    before: _Text = "",
) -> Response[str]:
    """A SKU and its movements."""
    return await _sku(request, shop_visit, db, sku_id, before)


@post("/stock/{sku_id:uuid}", opt=needs(Permission.EDIT_PRODUCTS))
async def change(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    sku_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """``act=receive``: so many more; ``act=count``: so many there are."""
    sent = await form(request)
    take = stock_list.receive if sent.text("act") == "receive" else stock_list.count

    async def work(connection: Connection) -> None:
        pieces = sent.text("pieces")
        if not pieces:
            raise Refused("number.unreadable", "No number of pieces is given.", "Write one.", text="")
        await take(
            connection, sku_id, whole(pieces, "pieces"), sent.text("reason"), sent.text("key"), deed_of(shop_visit)
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _sku(request, shop_visit, db, sku_id, "", error),
        f"{root(shop_visit)}/stock/{sku_id}?said=saved",
    )


async def _sku(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    sku_id: UUID,
    before: str,
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        shelf = await stock_list.one(connection, sku_id)
        if shelf is None:
            raise NotFoundException
        moved = await stock.movements(connection, sku_id, before=_moment(before), most=_MOVEMENTS + 1)
    more = len(moved) > _MOVEMENTS
    return merchant_page(
        request,
        "stock_sku.html",
        shop_visit,
        refused,
        shelf=shelf,
        movements=moved[:_MOVEMENTS],
        later=with_query(request, before=moved[_MOVEMENTS - 1].at.isoformat(), said=None) if more else "",
        key=str(new_id()),
        may_edit=shop_visit.may(Permission.EDIT_PRODUCTS),
    )


def _moment(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else None


HANDLERS = [list_stock, sku_page, change]
