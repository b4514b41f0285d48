"""The merchant's admin: every page in every role, another shop's ids, what its forms do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from ballast.mall import limited_prices, pages, promotions, shipping
from ballast.mall.audit import By
from ballast.mall.ids import new_id
from ballast.mall.promotions import Named, NewCoupon, NewReduction
from ballast.mall.rules.blocks import Notice
from ballast.mall.rules.permissions import ROLES, Permission, may
from ballast.mall.terms import StoredTier
from ballast.mall.webhooks import endpoints, signature
from tests.fix_mall import MallDatabase, Shop, shop_opener
from tests.fix_people import NewVisitor, Visitor, token_in
from tests.integration.mall.ordering import in_shop

NOW = datetime.now(UTC).replace(microsecond=0)
BY = By(None, "tester")
WEEK = {"starts_at": NOW - timedelta(hours=1), "ends_at": NOW + timedelta(days=7)}

PAGES = {
    "/promotions": Permission.EDIT_PROMOTIONS,
    "/promotions/coupons/new": Permission.EDIT_PROMOTIONS,
    "/promotions/coupons/{coupon}": Permission.EDIT_PROMOTIONS,
    "/promotions/reductions": Permission.EDIT_PROMOTIONS,
    "/promotions/reductions/new": Permission.EDIT_PROMOTIONS,
    "/promotions/limited": Permission.EDIT_PROMOTIONS,
    "/promotions/limited/new?q=Tea": Permission.EDIT_PROMOTIONS,
    "/pages": Permission.EDIT_PAGES,
    "/pages/{page}": Permission.EDIT_PAGES,
    "/pages/{page}/preview": Permission.EDIT_PAGES,
    "/pages/{page}/new/banner": Permission.EDIT_PAGES,
    "/pages/{page}/new/grid": Permission.EDIT_PAGES,
    "/pages/{page}/new/product_list": Permission.EDIT_PAGES,
    "/pages/{page}/new/text": Permission.EDIT_PAGES,
    "/pages/{page}/new/picture": Permission.EDIT_PAGES,
    "/pages/{page}/new/video_link": Permission.EDIT_PAGES,
    "/pages/{page}/new/notice": Permission.EDIT_PAGES,
    "/pages/{page}/blocks/{block}": Permission.EDIT_PAGES,
    "/shipping": Permission.EDIT_SETTINGS,
    "/shipping/new": Permission.EDIT_SETTINGS,
    "/shipping/{shipping}": Permission.EDIT_SETTINGS,
    "/settings": Permission.EDIT_SETTINGS,
    "/staff": Permission.EDIT_STAFF,
    "/webhooks": Permission.EDIT_KEYS,
    "/webhooks/{webhook}": Permission.EDIT_KEYS,
    "/audit": Permission.SEE_AUDIT,
    "/audit?kind=coupon&actor=tester": Permission.SEE_AUDIT,
}
# What may be done to a thing that is named by its id.
DEEDS = (
    "/promotions/coupons/{coupon}",
    "/promotions/coupons/{coupon}/stop",
    "/promotions/reductions/{reduction}/stop",
    "/promotions/limited/{limited}/stop",
    "/promotions/limited/{limited}/resume",
    "/pages/{page}/publish",
    "/pages/{page}/hide",
    "/pages/{page}/remove",
    "/pages/{page}/order",
    "/pages/{page}/about",
    "/pages/{page}/blocks/{block}",
    "/pages/{page}/blocks/{block}/remove",
    "/pages/{page}/blocks/{block}/up",
    "/shipping/{shipping}",
    "/shipping/{shipping}/default",
    "/shipping/{shipping}/archive",
    "/staff/{account}/role",
    "/staff/{account}/remove",
    "/staff/{account}/sessions",
    "/webhooks/{webhook}/change",
    "/webhooks/{webhook}/off",
    "/webhooks/{webhook}/on",
    "/webhooks/{webhook}/rotate",
    "/webhooks/{webhook}/remove",
    "/webhooks/{webhook}/messages/{coupon}/again",
)


class House:
    """A shop with one of everything, and its staff by role."""

    def __init__(self, shop: Shop, invite: NewVisitor) -> None:
        self.shop, self.ids = shop, _furnish(shop)
        self.staff: dict[str, Visitor] = {}
        owner = invite()
        shop.database.run(
            "INSERT INTO mall.account_link (token_hash, purpose, shop_id, role, expires_at) VALUES (sha256(%s), 'invitation', %s, 'owner', now() + interval '1 day')",
            f"{shop.slug:-<43}".encode(),
            shop.shop_id,
        )
        assert owner.make_account(f"{shop.slug:-<43}", f"owner-{shop.slug}").status_code == 303
        self.staff["owner"] = owner
        for role in ROLES[1:]:
            invited = owner.post(f"/merchant/{shop.slug}/staff/invite", {"role": role})
            self.staff[role] = invite()
            assert self.staff[role].make_account(token_in(invited.text), f"{role}-{shop.slug}").status_code == 303
        ((self.ids["account"],),) = shop.database.run(
            "SELECT account_id FROM mall.account WHERE login = %s", f"viewer-{shop.slug}"
        )

    @property
    def owner(self) -> Visitor:
        return self.staff["owner"]

    def path(self, below: str, ids: dict[str, object] | None = None) -> str:
        return f"/merchant/{self.shop.slug}{below}".format(**(ids or self.ids))

    def state(self) -> list[object]:
        """All that the forms could change."""
        tables = (
            "coupon",
            "full_reduction",
            "limited_price",
            "page",
            "shipping",
            "shop",
            "staff",
            "webhook",
            "webhook_delivery",
        )
        return [
            self.shop.database.run(f"SELECT t::text FROM mall.{one} t WHERE shop_id = %s ORDER BY 1", self.shop.shop_id)
            for one in tables
        ]


def _furnish(shop: Shop) -> dict[str, object]:
    goods = shop.add_product("Tea", price_fen=5000)
    shop.database.run("UPDATE mall.product SET search = 'tea:1A'::tsvector WHERE product_id = %s", goods.product_id)
    where = shop.shop_id
    block = Notice(id=new_id(), text="Hello")

    async def make(connection):  # type: ignore[no-untyped-def]
        coupon = NewCoupon(name="Ten off", amount_fen=1000, stock=10, **WEEK)  # type: ignore[arg-type]
        reduction = NewReduction(name="Full", tiers=(StoredTier(10000, 1000),), **WEEK)  # type: ignore[arg-type]
        price = limited_prices.Price(goods.sku_ids[0], 4000)
        limited = await limited_prices.add(connection, where, Named(name="Flash", **WEEK), [price], BY, NOW)  # type: ignore[arg-type]
        page = await pages.add(connection, where, "about", pages.About("About"), BY, NOW)
        await pages.put_block(connection, where, page, 1, block, BY, NOW)
        await pages.add(connection, where, "", pages.About("Home"), BY, NOW)
        return {
            "coupon": await promotions.add_coupon(connection, where, coupon, BY, NOW),
            "reduction": await promotions.add_reduction(connection, where, reduction, BY, NOW),
            "limited": limited[0],
            "page": page,
            "block": block.id,
            "shipping": await shipping.save(connection, where, None, "By weight", "weight", [], BY, NOW),
            "webhook": (
                await endpoints.register(
                    connection,
                    where,
                    "https://example.com/hook",
                    ["order.paid"],
                    BY,
                    NOW,
                    safe=signature.safe("x" * 32),
                )
            ).webhook_id,
        }

    return in_shop(shop, make)


@pytest.fixture(scope="module")
def houses(mall_database: MallDatabase, visitor: NewVisitor) -> tuple[House, House]:
    open_shop = shop_opener(mall_database)
    return House(open_shop("mine"), visitor), House(open_shop("other"), visitor)


@pytest.mark.parametrize("role", ROLES)
def test_every_page_is_open_to_those_who_may_and_to_nobody_else(houses: tuple[House, House], role: str) -> None:
    mine, _ = houses
    menu = mine.staff[role].get(mine.path("")).text
    for below, permission in PAGES.items():
        answer = mine.staff[role].get(mine.path(below), headers={"Accept-Language": "zh"})
        allowed = may(role, permission)
        assert answer.status_code == (200 if allowed else 403), (below, answer.text[-600:])
        if below in ("/promotions", "/pages", "/shipping", "/settings", "/staff", "/webhooks", "/audit"):
            assert (f'href="{mine.path(below)}"' in menu) == allowed, below


def test_who_only_looks_changes_nothing_by_any_form(houses: tuple[House, House]) -> None:
    mine, _ = houses
    before = mine.state()
    for deed in (
        *DEEDS,
        "/promotions/coupons/new",
        "/pages",
        "/shipping/new",
        "/settings",
        "/webhooks",
        "/staff/invite",
    ):
        assert mine.staff["viewer"].post(mine.path(deed), {"version": "2"}).status_code == 403, deed
    assert mine.state() == before


def test_another_shops_ids_lead_nowhere_and_change_nothing(houses: tuple[House, House]) -> None:
    mine, other = houses
    before = mine.state(), other.state()
    for below in PAGES:
        if "{" in below and "/new/" not in below:
            assert mine.owner.get(mine.path(below, other.ids)).status_code == 404, below
    fields = {
        "version": "2",
        "type": "notice",
        "text": "x",
        "name": "x",
        "title": "x",
        "per_customer": "1",
        "ends_at": "2030-01-01T00:00",
        "free": "on",
        "role": "owner",
        "url": "https://example.com/x",
        "kind": "order.paid",
    }
    for deed in DEEDS:
        assert mine.owner.post(mine.path(deed, other.ids), fields).status_code in (404, 422), deed
    strange = other.path("/promotions", mine.ids)
    assert mine.owner.get(strange).status_code == 404
    assert mine.owner.post(strange + "/coupons/new", fields).status_code == 404
    assert (mine.state(), other.state()) == before
    # Nor can goods and pictures of another shop be named in what is one's own.
    goods = other.shop.goods[0]
    coupon = _coupon_fields() | {"scope": "products", "product": str(goods.product_id)}
    assert mine.owner.post(mine.path("/promotions/coupons/new"), coupon).status_code == 422
    price = _limited_fields(str(goods.sku_ids[0]))
    assert mine.owner.post(mine.path("/promotions/limited/new"), price).status_code == 422
    picture = f"/pictures/{other.shop.shop_id}/{'a' * 64}"
    for url in (
        picture,
        picture.replace(str(other.shop.shop_id), str(mine.shop.shop_id)),
        "https://elsewhere.example/x.png",
    ):
        banner = {"version": "2", "type": "banner", "seconds": "5", "picture-0": url}
        answer = mine.owner.post(mine.path("/pages/{page}/blocks/") + str(new_id()), banner)
        assert answer.status_code == 422, url
    assert (mine.state(), other.state()) == before


def _coupon_fields() -> dict[str, str]:
    return {
        "name": "九折",
        "name_en": "Ten percent",
        "kind": "percent",
        "percent": "10",
        "cap": "50",
        "threshold": "100.50",
        "per_customer": "2",
        "stock": "7",
        "scope": "all",
        "starts_at": "2026-11-01T00:00",
        "ends_at": "2030-11-11T08:00",
    }


def _limited_fields(sku: str) -> dict[str, str]:
    return {
        "name": "Flash",
        "starts_at": "2030-11-01T00:00",
        "ends_at": "2030-11-02T00:00",
        "sku": sku,
        f"price-{sku}": "19.99",
        f"quota-{sku}": "5",
    }


def test_a_coupon_is_made_changed_stopped_and_its_worth_stays(houses: tuple[House, House]) -> None:
    mine, _ = houses
    found = mine.owner.post(mine.path("/promotions/coupons/new"), _coupon_fields() | {"act": "find", "q": "Tea"})
    assert found.status_code == 200
    assert str(mine.shop.goods[0].product_id) in found.text
    made = mine.owner.post(mine.path("/promotions/coupons/new"), _coupon_fields())
    assert made.status_code == 303, made.text
    row = mine.shop.database.run(
        "SELECT coupon_id, percent_bp, cap_fen, threshold_fen, per_customer, stock, ends_at FROM mall.coupon WHERE name = '九折' AND shop_id = %s",
        mine.shop.shop_id,
    )
    coupon_id, *terms = row[0]
    assert terms == [1000, 5000, 10050, 2, 7, datetime(2030, 11, 11, tzinfo=UTC)]
    change = {
        "name": "九折",
        "name_en": "Ten percent",
        "per_customer": "3",
        "stock": "",
        "ends_at": "2031-01-01T00:00",
        "percent": "99",
    }
    assert mine.owner.post(mine.path(f"/promotions/coupons/{coupon_id}"), change).status_code == 303
    assert mine.owner.post(mine.path(f"/promotions/coupons/{coupon_id}/stop")).status_code == 303
    for kind in ("coupons", "reductions", "limited"):
        assert mine.owner.post(mine.path(f"/promotions/{kind}/{coupon_id}/halt")).status_code == 400
    assert mine.shop.database.run(
        "SELECT percent_bp, per_customer, stock, stopped_at IS NOT NULL FROM mall.coupon WHERE coupon_id = %s",
        coupon_id,
    ) == [(1000, 3, None, True)]
    for field, wrong in (
        ("percent", "0"),
        ("percent", "101"),
        ("percent", "ten"),
        ("per_customer", "0"),
        ("stock", "-1"),
        ("ends_at", "2020-01-01T00:00"),
        ("ends_at", "soon"),
        ("name", " "),
        ("scope", "categories"),
    ):
        refused = mine.owner.post(mine.path("/promotions/coupons/new"), _coupon_fields() | {field: wrong})
        assert refused.status_code == 422, (field, wrong)
        assert 'role="alert"' in refused.text
    assert "Ten percent" in mine.owner.get(mine.path("/promotions")).text


def test_limited_time_prices_that_overlap_are_told_also_when_one_is_resumed(houses: tuple[House, House]) -> None:
    mine, _ = houses
    sku = str(mine.shop.add_product("Pot", price_fen=9900).sku_ids[0])
    path, fields = mine.path("/promotions/limited/new"), _limited_fields(sku)
    assert mine.owner.post(path, fields | {f"price-{sku}": "99.00"}).status_code == 422
    assert mine.owner.post(path, fields).status_code == 303
    again = mine.owner.post(
        path, fields | {"name": "Other", "starts_at": "2030-11-01T12:00", "ends_at": "2030-11-03T00:00"}
    )
    assert again.status_code == 422
    assert "Pot: Flash, 2030-11-01 00:00" in again.text
    after = fields | {"name": "After", "starts_at": "2030-11-02T00:00", "ends_at": "2030-11-03T00:00"}
    assert mine.owner.post(path, after).status_code == 303
    ((first,),) = mine.shop.database.run(
        "SELECT promotion_id FROM mall.limited_price WHERE sku_id = %s AND name = 'Flash'", sku
    )
    assert mine.owner.post(mine.path(f"/promotions/limited/{first}/stop")).status_code == 303
    assert mine.owner.post(path, fields | {"name": "Instead"}).status_code == 303
    back = mine.owner.post(mine.path(f"/promotions/limited/{first}/resume"))
    assert back.status_code == 422
    assert "Instead" in back.text


def test_tiers_of_a_full_reduction_take_more_off_for_more(houses: tuple[House, House]) -> None:
    mine, _ = houses
    path = mine.path("/promotions/reductions/new")
    fields = {
        "name": "Full",
        "starts_at": "2026-11-01T00:00",
        "ends_at": "2030-01-01T00:00",
        "from-0": "200",
        "off-0": "30",
        "from-1": "100",
        "off-1": "10",
    }
    assert mine.owner.post(path, fields | {"off-0": "9"}).status_code == 422
    assert mine.owner.post(path, fields | {"off-1": "101"}).status_code == 422
    assert mine.owner.post(path, {**fields, "from-0": "", "off-0": "", "from-1": "", "off-1": ""}).status_code == 422
    assert mine.owner.post(path, fields).status_code == 303
    assert "¥30.00 off from ¥200.00" in mine.owner.get(mine.path("/promotions/reductions")).text


def test_shipping_is_edited_region_by_region_and_what_is_used_stays(houses: tuple[House, House]) -> None:
    mine, _ = houses
    fields: dict[str, object] = {
        "name": "Parcel",
        "unit": "weight",
        "rows": "2",
        "province-0": ["广东省", "海南省"],
        "first-0": "1000",
        "first_fen-0": "8",
        "extra-0": "500",
        "extra_fen-0": "2.50",
        "free_from-0": "99",
        "rest": "on",
        "first-rest": "1000",
        "first_fen-rest": "12",
        "extra-rest": "1000",
        "extra_fen-rest": "5",
    }
    path = mine.path("/shipping/new")
    twice = mine.owner.post(
        path,
        {
            **fields,
            "province-1": ["海南省"],
            **{f"{one}-1": "1" for one in ("first", "first_fen", "extra", "extra_fen")},
        },
    )
    assert twice.status_code == 422
    assert "A province is named once" in twice.text
    assert mine.owner.post(path, {**fields, "first-0": "0"}).status_code == 422
    assert mine.owner.post(path, {"name": "Nowhere", "unit": "piece"}).status_code == 422
    assert mine.owner.post(path, fields).status_code == 303
    ((made, rules),) = mine.shop.database.run(
        "SELECT shipping_id, rules FROM mall.shipping WHERE name = 'Parcel' AND shop_id = %s", mine.shop.shop_id
    )
    assert [(rate["provinces"], rate["first_fen"], rate["free_from_fen"]) for rate in rules["rates"]] == [
        (["广东省", "海南省"], 800, 9900),
        ([], 1200, None),
    ]
    page = mine.owner.get(mine.path(f"/shipping/{made}")).text
    assert page.count("checked") == 4  # two provinces, the rest, the unit
    mine.shop.database.run(
        "UPDATE mall.product SET shipping_id = %s WHERE product_id = %s", made, mine.shop.goods[0].product_id
    )
    assert mine.owner.post(mine.path(f"/shipping/{made}/archive")).status_code == 422
    assert mine.owner.post(mine.path(f"/shipping/{made}/default")).status_code == 303
    assert mine.shop.database.run(
        "SELECT name FROM mall.shipping WHERE is_default AND shop_id = %s", mine.shop.shop_id
    ) == [("Parcel",)]


def test_settings_are_changed_by_whoever_saw_them_last_and_rename_the_shop_everywhere(
    houses: tuple[House, House], mall_database: MallDatabase
) -> None:
    _, shop = houses
    page = shop.owner.get(shop.path("/settings")).text
    version = re.search(r'name="version" value="(\d+)"', page)
    assert version is not None
    fields = {
        "name": "新店",
        "name_en": "New Shop",
        "notice": "国庆休息",
        "notice_en": "Closed on <Friday>",
        "theme_colour": "#aa3300",
        "language": "en",
        "pay_minutes": "45",
        "receive_days": "7",
        "pickup_address": "1 Road",
        "return_address": "2 Road",
        "version": version[1],
    }
    assert shop.owner.post(shop.path("/settings"), fields | {"pay_minutes": "0"}).status_code == 422
    assert shop.owner.post(shop.path("/settings"), fields | {"theme_colour": "red; x"}).status_code == 422
    assert shop.owner.post(shop.path("/settings"), fields | {"logo_picture": "a" * 64}).status_code == 422
    assert shop.owner.post(shop.path("/settings"), fields).status_code == 303
    stale = shop.owner.post(shop.path("/settings"), fields | {"name": "Late"})
    assert stale.status_code == 422
    assert "Somebody else" in stale.text
    assert mall_database.run(
        "SELECT d.name, s.name, pay_within_s, return_address FROM mall.directory d JOIN mall.shop s USING (shop_id) WHERE shop_id = %s",
        shop.shop.shop_id,
    ) == [("新店", "新店", 2700, "2 Road")]
    assert "Closed on &lt;Friday&gt;" in shop.owner.get(f"/s/{shop.shop.slug}/coupons?lang=en").text
    assert mall_database.run("SELECT name FROM mall.directory WHERE slug = 'mine'") == [("小店 Shop",)]


def test_staff_get_roles_are_signed_out_and_removed_and_the_last_owner_stays(houses: tuple[House, House]) -> None:
    mine, _ = houses
    accounts = {
        login.partition("-")[0]: account
        for login, account in mine.shop.database.run(
            "SELECT login, account_id FROM mall.account JOIN mall.staff USING (account_id) WHERE shop_id = %s",
            mine.shop.shop_id,
        )
    }
    clerk, owner = accounts["clerk"], accounts["owner"]
    assert mine.owner.post(mine.path(f"/staff/{owner}/remove")).status_code == 422
    assert mine.owner.post(mine.path(f"/staff/{owner}/role"), {"role": "clerk"}).status_code == 422
    assert mine.owner.post(mine.path(f"/staff/{clerk}/role"), {"role": "emperor"}).status_code == 422
    assert mine.owner.post(mine.path(f"/staff/{clerk}/role"), {"role": "manager"}).status_code == 303
    assert mine.staff["clerk"].get(mine.path("/settings")).status_code == 200
    assert mine.owner.post(mine.path(f"/staff/{clerk}/sessions")).status_code == 303
    assert "Sign in" in mine.staff["clerk"].get(mine.path("/settings")).text
    assert mine.staff["clerk"].sign_in(f"clerk-{mine.shop.slug}").status_code == 303
    assert mine.owner.post(mine.path(f"/staff/{clerk}/remove")).status_code == 303
    assert mine.staff["clerk"].get(mine.path("/settings")).status_code == 404
    mine.shop.database.run("UPDATE mall.directory SET plan = 'basic' WHERE shop_id = %s", mine.shop.shop_id)
    tokens = [token_in(mine.owner.post(mine.path("/staff/invite"), {"role": "clerk"}).text) for _ in range(2)]
    listed = mine.owner.get(mine.path("/staff")).text
    links = re.findall(r'name="link" value="([0-9a-f]+)"', listed)
    assert len(links) == 2
    assert mine.owner.post(mine.path("/staff/withdraw"), {"link": links[0]}).status_code == 303
    assert mine.owner.post(mine.path("/staff/withdraw"), {"link": links[0]}).status_code == 422
    # The plan allows five: the fifth comes by the other link, and nobody more is invited.
    joined = [mine.staff["clerk"].post(f"/link/{token}/join").status_code for token in tokens]
    assert joined.count(303) == 1
    full = mine.owner.post(mine.path("/staff/invite"), {"role": "clerk"})
    assert full.status_code == 422
    assert "The plan allows 5 staff" in full.text


def test_the_record_is_filtered_by_kind_and_person_and_paged(houses: tuple[House, House]) -> None:
    mine, other = houses
    mine.shop.database.run(
        "INSERT INTO mall.audit (shop_id, audit_id, actor, action, subject, at) SELECT %s, ('019b0000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,"
        " 'robot', 'coupon.made', 'no ' || n, now() FROM generate_series(1, 60) n",
        mine.shop.shop_id,
    )
    page = mine.owner.get(mine.path("/audit?kind=coupon&actor=robot")).text
    assert "no 60" in page
    assert "no 10 " not in page
    assert "tester" not in page.split("<table")[1]
    older = re.search(r'href="([^"]+before=[^"]+)"', page)
    assert older is not None
    rest = mine.owner.get(older[1].replace("&amp;", "&")).text
    assert "no 10" in rest
    assert "no 11" not in rest
    assert "no 60" not in other.owner.get(other.path("/audit")).text
