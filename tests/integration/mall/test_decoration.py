"""Decorating pages: drafts of blocks, what shoppers see of them and when, two editors at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TypeVar
from uuid import UUID

import pytest

from ballast.mall import catalog, pages
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.pages import Draft
from ballast.mall.rules.blocks import Notice, ProductList, Text
from ballast.mall.rules.refused import Refused
from ballast.mall.web.store import visit
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import NewVisitor, Visitor, shop_with_owner
from tests.integration.mall.ordering import in_shop

T = TypeVar("T")
NOW = datetime.now(UTC)
BY = By(None, "tester")


def do(shop: Shop, act: Callable[[Connection], Awaitable[T]]) -> T:
    return in_shop(shop, act)


def home_of(shop: Shop) -> UUID:
    return do(shop, lambda c: pages.add(c, shop.shop_id, "", pages.About("首页", "Home"), BY, NOW))


def draft_of(shop: Shop, page_id: UUID) -> Draft:
    return do(shop, lambda c: pages.draft(c, page_id))


def test_blocks_are_put_moved_ordered_and_removed_and_each_is_a_version(open_shop: OpenShop) -> None:
    shop = open_shop()
    page_id = home_of(shop)
    names = {new_id(): name for name in "abcd"}
    where = shop.shop_id

    def order() -> str:
        return "".join(names[one.id] for one in draft_of(shop, page_id).blocks)

    for version, (block_id, name) in enumerate(names.items(), 1):
        block = Notice(id=block_id, text=name)
        do(shop, lambda c, v=version, b=block: pages.put_block(c, where, page_id, v, b, BY, NOW))  # type: ignore[misc]
    a, _, c_id, d = names
    assert order() == "abcd"
    version = 5
    for block_id, places, expected in (
        (a, -1, "abcd"),
        (a, 1, "bacd"),
        (d, -1, "badc"),
        (a, 9, "bdca"),
        (c_id, 9, "bdac"),
    ):
        do(shop, lambda c, b=block_id, n=places, v=version: pages.move_block(c, where, page_id, v, b, n, BY, NOW))  # type: ignore[misc]
        version += 1
        assert order() == expected
    do(shop, lambda c: pages.order_blocks(c, where, page_id, version, list(names), BY, NOW))
    assert order() == "abcd"
    for wrong in ([a], [*names, new_id()], [a, a, c_id, d]):
        with pytest.raises(Refused, match="others by now"):
            do(shop, lambda c, w=wrong: pages.order_blocks(c, where, page_id, version + 1, w, BY, NOW))  # type: ignore[misc]
    do(shop, lambda c: pages.put_block(c, where, page_id, version + 1, Text(id=a, text="new"), BY, NOW))
    do(shop, lambda c: pages.remove_block(c, where, page_id, version + 2, d, BY, NOW))
    there = draft_of(shop, page_id)
    assert (len(there.blocks), type(there.blocks[0]), there.version) == (3, Text, version + 3)
    assert draft_of(shop, page_id).has_changes


def test_of_two_editors_at_once_one_is_told(open_shop: OpenShop) -> None:
    shop = open_shop()
    page_id = home_of(shop)

    async def both() -> list[str]:
        db = Database(shop.database.settings())
        await db.open()

        async def put(text: str) -> str:
            try:
                async with db.shop(shop.shop_id) as connection:
                    await pages.put_block(connection, shop.shop_id, page_id, 1, Notice(id=new_id(), text=text), BY, NOW)
            except Refused as error:
                return error.key
            return ""

        try:
            return list(await asyncio.gather(*(put(str(n)) for n in range(8))))
        finally:
            await db.close()

    told = asyncio.run(both())
    assert (told.count(""), told.count("page.changed")) == (1, 7)
    assert len(draft_of(shop, page_id).blocks) == 1
    with pytest.raises(Refused, match="Somebody else"):
        do(shop, lambda c: pages.publish(c, shop.shop_id, page_id, 1, BY, NOW))


def test_shoppers_see_what_was_published_and_nothing_of_the_draft(open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    page_id = home_of(shop)

    def seen() -> list[str] | None:
        page = do(shop, lambda c: catalog.page(c, ""))
        return None if page is None else [getattr(one, "text", "") for one in page.blocks]

    do(shop, lambda c: pages.put_block(c, shop.shop_id, page_id, 1, Notice(id=new_id(), text="one"), BY, NOW))
    assert seen() is None
    do(shop, lambda c: pages.publish(c, shop.shop_id, page_id, 2, BY, NOW))
    listed = ProductList(id=new_id(), source="chosen", product_ids=(shop.goods[0].product_id,))
    do(shop, lambda c: pages.put_block(c, shop.shop_id, page_id, 3, listed, BY, NOW))
    assert seen() == ["one"]
    do(shop, lambda c: pages.publish(c, shop.shop_id, page_id, 4, BY, NOW))
    assert seen() == ["one", ""]
    for refused in (pages.hide, pages.remove):
        with pytest.raises(Refused):
            do(shop, lambda c, act=refused: act(c, shop.shop_id, page_id, 5, BY, NOW))  # type: ignore[misc]
    assert seen() == ["one", ""]


@pytest.fixture
def owner(operator: Visitor, visitor: NewVisitor) -> tuple[str, Visitor]:
    slug = f"d{new_id().hex[-10:]}"
    shop_with_owner(operator, visitor, slug)
    return slug, visitor_signed_in(visitor, slug)


def visitor_signed_in(visitor: NewVisitor, slug: str) -> Visitor:
    one = visitor()
    assert one.sign_in(f"owner-{slug}").status_code == 303
    return one


def test_a_free_page_is_made_edited_previewed_published_and_found_in_the_menu(
    owner: tuple[str, Visitor], visitor: NewVisitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slug, editor = owner
    monkeypatch.setattr(visit, "KNOWN_FOR_S", 0.0)
    root = f"/merchant/{slug}/pages"
    made = editor.post(root, {"title": "关于我们", "title_en": "About us", "slug": "about"})
    page = made.headers["location"]
    assert page.startswith(root + "/")
    assert editor.post(root, {"title": "x", "slug": "about"}).status_code == 422
    for wrong in ("", "Über", "a b", "-a", "../x"):
        assert editor.post(root, {"title": "x", "slug": wrong}).status_code == 422, wrong

    def version() -> str:
        found = re.search(r'name="version" value="(\d+)"', editor.get(page).text)
        assert found is not None
        return found[1]

    block = f"{page}/blocks/{new_id()}"
    text = {"type": "text", "text": "Since <1998>\r\nTea", "heading": "Who", "align": "start"}
    assert editor.post(block, {**text, "version": version()}).status_code == 303
    assert editor.post(block, {**text, "version": "1"}).status_code == 422
    for wrong in ({"text": ""}, {"align": "left"}, {"type": "script"}, {"text": "x" * 5500}):
        answer = editor.post(block, {**text, "version": version(), **wrong})
        assert answer.status_code in (404, 422), wrong
    for kind in (
        {"type": "video_link", "url": "javascript:alert(1)"},
        {"type": "notice", "text": "x", "link": "//elsewhere"},
    ):
        assert editor.post(f"{page}/blocks/{new_id()}", {**kind, "version": version()}).status_code == 422
    preview = editor.get(f"{page}/preview")
    assert "Since &lt;1998&gt;" in preview.text
    assert preview.headers["x-frame-options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in preview.headers["content-security-policy"]
    stranger = visitor()
    assert "Since" not in stranger.get(f"{page}/preview").text
    assert stranger.get(f"/s/{slug}/p/about").status_code == 404
    about = {"title": "关于", "title_en": "About us", "in_menu": "on", "position": "3", "version": version()}
    assert editor.post(f"{page}/about", about).status_code == 303
    assert editor.post(f"{page}/publish", {"version": version()}).status_code == 303
    assert "Since &lt;1998&gt;" in stranger.get(f"/s/{slug}/p/about").text
    assert f'href="/s/{slug}/p/about">About us' in stranger.get(f"/s/{slug}/p/about?lang=en").text
    assert editor.post(f"{page}/hide", {"version": version()}).status_code == 303
    assert stranger.get(f"/s/{slug}/p/about").status_code == 404
    assert editor.post(f"{page}/remove", {"version": version()}).status_code == 303
    assert editor.get(page).status_code == 404


def test_rows_of_pictures_and_chosen_products_keep_what_was_typed(
    owner: tuple[str, Visitor], mall_database: MallDatabase
) -> None:
    slug, editor = owner
    listed = editor.get(f"/merchant/{slug}/pages").text
    home = re.search(rf'href="(/merchant/{slug}/pages/[0-9a-f-]+)"', listed)
    assert home is not None
    block = f"{home[1]}/blocks/{new_id()}"
    sent = {"type": "banner", "version": "1", "seconds": "7", "rows": "3", "alt-0": "Tea in spring", "act": "more"}
    more = editor.post(block, sent)
    assert more.status_code == 200
    assert "Tea in spring" in more.text
    assert 'id="picture-5"' in more.text
    found = editor.post(
        block, {"type": "product_list", "version": "1", "source": "chosen", "title": "Best", "q": "x", "act": "find"}
    )
    assert (found.status_code, 'value="Best"' in found.text) == (200, True)
    assert editor.post(block, {**sent, "act": ""}).status_code == 422


def test_every_kind_of_block_comes_back_from_its_form_as_it_was_put(
    owner: tuple[str, Visitor], mall_database: MallDatabase
) -> None:
    slug, editor = owner
    ((shop_id,),) = mall_database.run("SELECT shop_id FROM mall.directory WHERE slug = %s", slug)
    category, product = new_id(), new_id()
    for name in ("a" * 64, "b" * 64):
        mall_database.run(
            "INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes) VALUES (%s, %s, 'image/png', 8, 4, 9)",
            shop_id,
            name,
        )
    mall_database.run(
        "INSERT INTO mall.category (shop_id, category_id, name) VALUES (%s, %s, 'Teas')", shop_id, category
    )
    mall_database.run(
        "INSERT INTO mall.product (shop_id, product_id, status, title) VALUES (%s, %s, 'on_sale', 'Tea')",
        shop_id,
        product,
    )
    one, two = (f"/pictures/{shop_id}/{name * 64}" for name in "ab")
    evil = '"><script>alert(1)</script>'
    rows = {"picture-0": one, "alt-0": evil, "link-0": "/s/x/", "picture-2": two, "alt-2": "two"}
    kinds: list[dict[str, str]] = [
        {"type": "banner", "seconds": "3", **rows},
        {"type": "grid", "columns": "3", "label-0": "Tea", "label-2": "Pots", **rows},
        {
            "type": "product_list",
            "source": "category",
            "category": str(category),
            "title": evil,
            "columns": "2",
            "most": "9",
        },
        {"type": "product_list", "source": "chosen", "product": str(product), "columns": "1", "most": "5"},
        {"type": "text", "text": f"a\n\n{evil}", "heading": "h", "align": "end"},
        {"type": "picture", "picture-0": one, "alt-0": "a", "link-0": "https://example.com/"},
        {"type": "video_link", "url": "https://example.com/v", "picture-0": two, "title": "v"},
        {"type": "notice", "text": evil, "link": "/s/x/coupons"},
    ]
    home = editor.post(f"/merchant/{slug}/pages", {"title": "x", "slug": "all"}).headers["location"]

    def written() -> tuple[str, list[dict[str, object]]]:
        ((version, draft),) = mall_database.run(
            "SELECT version::text, draft->'blocks' FROM mall.page WHERE page_id = %s", home.rpartition("/")[2]
        )
        return version, draft

    for kind in kinds:
        answer = editor.post(f"{home}/blocks/{new_id()}", {**kind, "version": written()[0]})
        assert answer.status_code == 303, (kind, answer.text)
    _, there = written()
    assert [block["type"] for block in there] == [kind["type"] for kind in kinds]
    for block in there:
        path = f"{home}/blocks/{block['id']}"
        shown = _fields(editor.get(path).text)
        assert editor.post(path, shown).status_code == 303, shown
    assert written()[1] == there
    for page in (editor.get(f"{home}/preview").text, editor.get(home).text):
        assert "<script>alert" not in page
        assert "alert(1)" in page


class _Fields(HTMLParser):
    """What a browser would send of the page's block form."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        has = dict(attributes)
        name, value = has.get("name") or "", has.get("value") or ""
        if tag == "input" and name and (has.get("type") not in ("radio", "checkbox") or "checked" in has):
            self.found.setdefault(name, []).append(value)
        elif tag == "textarea":
            self._area = name
            self.found[name] = [""]
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in has:
            self.found[self._select] = [value]

    def handle_endtag(self, tag: str) -> None:
        self._area = "" if tag == "textarea" else self._area

    def handle_data(self, data: str) -> None:
        if self._area:
            self.found[self._area][0] += data


def _fields(page: str) -> dict[str, list[str]]:
    parser = _Fields()
    parser.feed(page)
    return {name: values for name, values in parser.found.items() if name not in ("_csrf_token", "q")}
