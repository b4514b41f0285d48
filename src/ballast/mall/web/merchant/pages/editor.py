"""``/merchant/<slug>/pages/<id>``: a page's blocks, moved by buttons or dragged; its title; publishing; the preview."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import pages
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.block_form import KINDS, kind_of
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.pages.listing import about
from ballast.mall.web.merchant.typed import filled, ids, whole
from ballast.mall.web.store.frame import shown
from ballast.mall.web.store.home import lists_of
from ballast.mall.web.store.visit import visiting

BlockDeed = Literal["remove", "up", "down"]
PageDeed = Literal["publish", "hide", "remove", "order", "about"]


@get("/pages/{page_id:uuid}", opt=needs(Permission.EDIT_PAGES))
async def page_editor(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """The editor of a page."""
    return await editor(request, shop_visit, db, page_id)


@get("/pages/{page_id:uuid}/preview", opt=needs(Permission.EDIT_PAGES))
async def preview(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """The draft as shoppers would see it. Framed by the editor; nobody but the staff gets it."""
    async with visiting(db, request, shop_visit.shop.slug) as visit:
        page = await pages.draft(visit.connection, page_id)
        lists = await lists_of(visit.connection, page.blocks)
        template = "page.html" if page.slug else "home.html"
        return await shown(request, visit, template, tab="home", page=page, blocks=page.blocks, lists=lists, newest=())


@post("/pages/{page_id:uuid}/{what:str}", opt=needs(Permission.EDIT_PAGES))
async def change_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    what: FromPath[PageDeed],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Publish or hide it, remove it, order its blocks, call it otherwise; each of the version that was seen."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        shop_id, by, now, version = shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now, whole(sent, "version")
        match what:
            case "publish":
                await pages.publish(connection, shop_id, page_id, version, by, now)
            case "hide":
                await pages.hide(connection, shop_id, page_id, version, by, now)
            case "remove":
                await pages.remove(connection, shop_id, page_id, version, by, now)
            case "order":
                await pages.order_blocks(connection, shop_id, page_id, version, ids(sent, "block"), by, now)
            case "about":
                await pages.describe(connection, shop_id, page_id, version, about(sent), by, now)

    to = "" if what == "remove" else f"/{page_id}"
    said = {"publish": "page_published", "remove": "saved"}.get(what, "saved")
    return await _done(request, shop_visit, db, page_id, work, f"{root(shop_visit)}/pages{to}?said={said}", sent)


@post("/pages/{page_id:uuid}/blocks/{block_id:uuid}/{what:str}", opt=needs(Permission.EDIT_PAGES))
async def change_block(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    page_id: FromPath[UUID],
    block_id: FromPath[UUID],
    what: FromPath[BlockDeed],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Remove a block, or move it by one place."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        shop_id, by, now, version = shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now, whole(sent, "version")
        if what == "remove":
            await pages.remove_block(connection, shop_id, page_id, version, block_id, by, now)
        else:
            places = 1 if what == "down" else -1
            await pages.move_block(connection, shop_id, page_id, version, block_id, places, by, now)

    return await _done(
        request, shop_visit, db, page_id, work, f"{root(shop_visit)}/pages/{page_id}#block-{block_id}", sent
    )


async def editor(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    page_id: UUID,
    refused: Refused | None = None,
    sent: Form | None = None,
) -> Response[str]:
    """The editor's page; `sent`: what was typed of its title, where it is shown again."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        page = await pages.draft(connection, page_id)
    typed = {"title": page.title, "title_en": page.title_en, "position": page.position}
    return merchant_page(
        request,
        "pages/editor.html",
        shop_visit,
        refused,
        page=page,
        blocks=[(one, kind_of(one)) for one in page.blocks],
        kinds=list(KINDS),
        sent=sent if sent and sent.text("title") else filled({**typed, "in_menu": "on" if page.in_menu else ""}),
    )


async def _done(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    page_id: UUID,
    work: Callable[[Connection], Awaitable[None]],
    to: str,
    sent: Form,
) -> Response[Any]:
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: editor(request, shop_visit, db, page_id, error, sent),
        to,
    )


HANDLERS = [page_editor, preview, change_page, change_block]
