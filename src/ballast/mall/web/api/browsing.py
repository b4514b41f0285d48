"""For a shopper's program: the shop, its categories, its products. No token is needed."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter

from ballast.mall import catalog
from ballast.mall.web.api.answers import cursor_of, next_link, read_cursor
from ballast.mall.web.api.calls import Cursor, Limit, shopper
from ballast.mall.web.api.shapes import (
    CategoryInfo,
    CategoryList,
    ProductInfo,
    ProductItem,
    ProductPage,
    ShopInfo,
    shaped,
)

_Position = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


@get("/")
async def get_shop(request: Request[Any, Any, Any], slug: FromPath[str]) -> ShopInfo:
    """How the shop presents itself."""
    async with shopper(request, slug) as call:
        look = await catalog.look(call.connection)
    return msgspec.convert({**msgspec.structs.asdict(look), "slug": slug}, ShopInfo)


@get("/categories")
async def list_categories(request: Request[Any, Any, Any], slug: FromPath[str]) -> CategoryList:
    """All visible categories."""
    async with shopper(request, slug) as call:
        found = await catalog.categories(call.connection)
    return CategoryList(tuple(shaped(one, CategoryInfo) for one in found))


@get("/products")
async def list_products(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    q: Annotated[str, QueryParameter(max_length=100, description="What to search for; goes before `category`.")] = "",
    category: Annotated[UUID | None, QueryParameter(description="Of this category and no other.")] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> ProductPage:
    """Products on sale: of the whole shop, of a category, or what a search finds."""
    place = read_cursor(cursor, tuple[_Position, UUID])
    async with shopper(request, slug) as call:
        if category is not None and await catalog.category(call.connection, category) is None:
            raise NotFoundException
        found = await catalog.products(
            call.connection,
            category_id=category,
            search=q.strip(),
            after=f"{place[0]}.{place[1]}" if place else "",
            most=limit,
        )
    last = found.items[-1] if found.after else None
    cursor = cursor_of(last.position, last.product_id) if last else None
    return ProductPage(tuple(shaped(one, ProductItem) for one in found.items), next_link(request, cursor))


@get("/products/{product_id:uuid}")
async def get_product(request: Request[Any, Any, Any], slug: FromPath[str], product_id: FromPath[UUID]) -> ProductInfo:
    """A product on sale, with what can be chosen of it."""
    async with shopper(request, slug) as call:
        found = await catalog.product(call.connection, product_id, call.now)
    if found is None:
        raise NotFoundException
    return shaped(found, ProductInfo)


HANDLERS = [get_shop, list_categories, list_products, get_product]
