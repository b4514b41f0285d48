"""Orders on paper and in a spreadsheet: packing slips to print, and an XLSX of what the list shows."""

from __future__ import annotations

import tempfile
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.response import Stream

from ballast.mall import audit, fulfilment, order_export
from ballast.mall.db import Database
from ballast.mall.order_life import Unknown
from ballast.mall.rules.permissions import Permission
from ballast.mall.web.attachment import attachment
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import read_id, sees_people
from ballast.mall.web.merchant.orders import wanted
from ballast.mall.web.render import when
from ballast.mall.web.shell import spoken
from ballast.mall.web.texts import translator

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@get("/orders/print", opt=needs(Permission.FULFIL_ORDERS))
async def packing_slips(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """A slip for each ``?order=<id>``, each on a page of its own."""
    chosen = [read_id(one) for one in request.query_params.getall("order", [])]
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            found = await fulfilment.several(connection, chosen)
    except Unknown:
        raise NotFoundException from None
    return merchant_page(
        request, "slips.html", shop_visit, orders=found, left_out=max(0, len(set(chosen)) - len(found))
    )


@get("/orders/export.xlsx", opt=needs(Permission.SEE_ORDERS))
async def export(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Stream:
    """What the list's form asks for, as a spreadsheet. It stands in the shop's record that somebody took it."""
    language = spoken(request, shop_visit.visit.session)
    t = translator(language)
    asked = order_export.Wanted(
        orders=wanted(request),
        language=language,
        masked=not sees_people(shop_visit),
        say=lambda name: t(f"trade.{name}"),
    )
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is sent
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            rows = await order_export.write(connection, asked, file)
            await audit.note_in_shop(
                connection,
                shop_visit.by,
                "orders.exported",
                shop_visit.visit.now,
                shop_id=shop_visit.shop.shop_id,
                rows=rows,
                legible=not asked.masked,
            )
    except BaseException:
        file.close()
        raise
    name = f"orders-{shop_visit.shop.slug}-{when(shop_visit.visit.now, '%Y%m%d-%H%M')}.xlsx"
    return attachment(file, name, _XLSX)


HANDLERS = [packing_slips, export]
