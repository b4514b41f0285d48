"""The shop's home page and its free pages, as they were decorated."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import catalog
from ballast.mall.db import Connection, Database
from ballast.mall.rules.blocks import AnyBlock, ProductList
from ballast.mall.web.store.frame import shown
from ballast.mall.web.store.visit import visiting

_NEWEST = 20


@get("/")
async def home(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[str]:
    """The decorated home page, else the newest products."""
    async with visiting(db, request, slug) as visit:
        page = await catalog.page(visit.connection, "")
        blocks = page.blocks if page else ()
        return await shown(
            request,
            visit,
            "home.html",
            tab="home",
            blocks=blocks,
            lists=await lists_of(visit.connection, blocks),
            newest=() if blocks else await catalog.newest(visit.connection, _NEWEST),
        )


@get("/p/{page:str}")
async def free_page(
    request: Request[Any, Any, Any], slug: FromPath[str], page: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """A free page."""
    async with visiting(db, request, slug) as visit:
        found = await catalog.page(visit.connection, page) if page and "\x00" not in page else None
        if found is None:
            raise NotFoundException
        lists = await lists_of(visit.connection, found.blocks)
        return await shown(request, visit, "page.html", tab="home", page=found, blocks=found.blocks, lists=lists)


async def lists_of(connection: Connection, blocks: tuple[AnyBlock, ...]) -> dict[UUID, tuple[catalog.Item, ...]]:
    """What the product lists among these blocks show, by block."""
    return {block.id: await catalog.of_block(connection, block) for block in blocks if isinstance(block, ProductList)}


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [home, free_page]
