"""The form of one block: a new one of a kind, or one that is there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import pages, pick
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant import block_form
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.typed import filled, ids, whole


@get("/pages/{page_id:uuid}/new/{kind:str}", opt=needs(Permission.EDIT_PAGES))
async def new_block(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    kind: FromPath[str],
    db: NamedDependency[Database],
) -> Response[str]:
    """The empty form of a kind."""
    if kind not in block_form.KINDS:
        raise NotFoundException
    async with db.shop(shop_visit.shop.shop_id) as connection:
        page = await pages.draft(connection, page_id)
    empty = {"type": kind, "version": page.version, **block_form.empty(kind)}
    return await _form(request, shop_visit, db, page_id, new_id(), filled(empty))


@get("/pages/{page_id:uuid}/blocks/{block_id:uuid}", opt=needs(Permission.EDIT_PAGES))
async def block_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    block_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """The form of a block that is there."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        page = await pages.draft(connection, page_id)
    block = page.block(block_id)
    shown = {"type": block_form.kind_of(block), "version": page.version, **block_form.typed(block)}
    return await _form(request, shop_visit, db, page_id, block_id, filled(shown))


@post("/pages/{page_id:uuid}/blocks/{block_id:uuid}", opt=needs(Permission.EDIT_PAGES))
async def put_block(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    block_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Into the draft; ``act=find`` looks for products, ``act=more`` shows more rows, and neither changes anything."""
    sent = await form(request)
    kind = sent.text("type")
    if kind not in block_form.KINDS:
        raise NotFoundException
    if sent.text("act") in ("find", "more"):
        return await _form(request, shop_visit, db, page_id, block_id, sent)

    async def work(connection: Connection) -> None:
        block = block_form.block_of(kind, block_id, sent)
        await pages.put_block(
            connection,
            shop_visit.shop.shop_id,
            page_id,
            whole(sent, "version"),
            block,
            shop_visit.by,
            shop_visit.visit.now,
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _form(request, shop_visit, db, page_id, block_id, sent, error),
        f"{root(shop_visit)}/pages/{page_id}?said=saved#block-{block_id}",
    )


async def _form(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    page_id: UUID,
    block_id: UUID,
    sent: Form,
    refused: Refused | None = None,
) -> Response[str]:
    kind, chosen = sent.text("type"), ids(sent, "product")
    async with db.shop(shop_visit.shop.shop_id) as connection:
        page = await pages.draft(connection, page_id)
        pictures = await pick.pictures(connection)
        categories = await pick.categories(connection)
        others = await pages.pages(connection)
        products = await pick.products_of(connection, chosen)
        found = await pick.products(connection, sent.text("q")) if kind == "product_list" else []
    return merchant_page(
        request,
        "pages/block.html",
        shop_visit,
        refused,
        page=page,
        block_id=block_id,
        kind=kind,
        sent=sent,
        rows=block_form.rows(kind, sent, more=sent.text("act") == "more"),
        most_rows=block_form.MOST_ROWS.get(kind, 1),
        pictures=pictures,
        picture_urls=[f"/pictures/{shop_visit.shop.shop_id}/{one.picture}" for one in pictures],
        categories=categories,
        pages=others,
        chosen_products=products,
        found_products=[one for one in found if one.product_id not in chosen],
    )


HANDLERS = [new_block, block_page, put_block]
