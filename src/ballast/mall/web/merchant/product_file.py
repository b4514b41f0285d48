"""Products from a CSV file and into one."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from ballast.mall import product_file
from ballast.mall.db import Database
from ballast.mall.product_file import MOST_LINES, Outcome
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.product_lines import COLUMNS
from ballast.mall.rules.refused import Refused
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, files
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.product_pictures import MOST_BODY
from ballast.mall.web.merchant.products import wanted_of
from ballast.mall.web.shell import refused_text, spoken

_Text = Annotated[str, QueryParameter(max_length=100)]


@get("/products/file", opt=needs(Permission.EDIT_PRODUCTS))
async def file_page(request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit]) -> Response[str]:
    """The form that takes a file."""
    return _page(request, shop_visit)


@post("/products/file", opt=needs(Permission.EDIT_PRODUCTS), request_max_body_size=MOST_BODY, status_code=200)
async def take(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """A file is looked at, or its products come into the shop; what became of it, line by line where it is wrong."""
    sent = await request.form()
    only_look = sent.get("act") != "import"
    try:
        chosen = files(sent.getall("file", []))
        if not chosen:
            raise Refused("csv.none", "No file was chosen.", "Choose one.")
        outcome = await product_file.take(db, deed_of(shop_visit), chosen[0].file, only_look=only_look)
    except Refused as error:
        return _page(request, shop_visit, refused=error)
    return _page(request, shop_visit, outcome, only_look)


@get("/products/export.csv", opt=needs(Permission.SEE_PRODUCTS))
async def export(
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    q: _Text = "",
    status: _Text = "",
    category: _Text = "",
    low: FromQuery[bool] = False,
    sort: _Text = "",
) -> Stream:
    """The products that the list shows, all pages of it."""
    wanted = wanted_of(q, status, category, low, sort)
    return Stream(
        product_file.written(db, shop_visit.shop.shop_id, wanted),
        media_type="text/csv; charset=utf-8",
        headers=_attached(f"products-{shop_visit.shop.slug}-{shop_visit.visit.now:%Y%m%d}.csv"),
    )


@get("/products/template.csv", opt=needs(Permission.SEE_PRODUCTS))
async def template() -> Response[bytes]:
    """An empty file, with two lines that show how."""
    return Response(
        product_file.template(), media_type="text/csv; charset=utf-8", headers=_attached("products-template.csv")
    )


def _page(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    outcome: Outcome | None = None,
    only_look: bool = True,
    refused: Refused | None = None,
) -> Response[str]:
    language, swapped = spoken(request, shop_visit.visit.session), "HX-Request" in request.headers
    return merchant_page(
        request,
        "product_file.html",
        shop_visit,
        refused,
        # htmx puts the outcome into the page; what is not 200 it would leave out.
        status=200 if swapped else None,
        swapped=swapped,
        outcome=outcome,
        only_look=only_look,
        bad=[(one.line, refused_text(one.refused, language)) for one in outcome.bad] if outcome else [],
        columns=COLUMNS,
        most_lines=MOST_LINES,
        most_megabytes=MOST_BODY >> 20,
    )


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


HANDLERS = [file_page, take, export, template]
