"""Categories, lists of products, search, and a product's own page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import catalog
from ballast.mall.db import Database
from ballast.mall.web.store.frame import shown
from ballast.mall.web.store.visit import visiting

_LONGEST_SEARCH = 100


@get("/categories")
async def categories(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """All categories, each with those below it."""
    async with visiting(db, request, slug) as visit:
        found = await catalog.categories(visit.connection)
        known = {one.category_id for one in found}
        tops = [one for one in found if one.parent_id not in known]
        below = {top.category_id: [one for one in found if one.parent_id == top.category_id] for top in tops}
        return await shown(request, visit, "categories.html", tab="categories", tops=tops, below=below)


@get("/products")
async def products(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """All products, those of ``?category=``, or what ``?q=`` finds; ``?after=`` leads on."""
    typed = request.query_params.get("q", "").strip()[:_LONGEST_SEARCH]
    async with visiting(db, request, slug) as visit:
        category = None
        if asked := request.query_params.get("category"):
            category = await catalog.category(visit.connection, _uuid(asked))
            if category is None:
                raise NotFoundException
        found = await catalog.products(
            visit.connection,
            category_id=category.category_id if category else None,
            search=typed,
            after=request.query_params.get("after", ""),
        )
        more = {"q": typed, "category": str(category.category_id) if category else "", "after": found.after or ""}
        return await shown(
            request,
            visit,
            "products.html",
            tab="categories",
            items=found.items,
            category=category,
            typed=typed,
            more=urlencode({name: value for name, value in more.items() if value}) if found.after else "",
        )


@get("/products/{product_id:uuid}")
async def product(
    request: Request[Any, Any, Any], slug: FromPath[str], product_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[str]:
    """A product, its choices, and the form that puts it into the cart."""
    async with visiting(db, request, slug) as visit:
        found = await catalog.product(visit.connection, product_id, visit.now)
        if found is None:
            raise NotFoundException
        first = next((one.sku_id for one in found.choices if one.free > 0), None)
        names = {value.value: value.value_en for spec in found.specs for value in spec.values if value.value_en}
        return await shown(
            request,
            visit,
            "product.html",
            tab="categories",
            product=found,
            first=first,
            names=names,
            free=sum(one.free for one in found.choices),
            shown_fen=min((one.now_fen for one in found.choices), default=found.min_price_fen),
        )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundException from None


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [categories, products, product]
