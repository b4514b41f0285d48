"""What members change about themselves: password, also a forgotten one, and the address book; on pages and through the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import membership, passwords
from ballast.mall.addresses import MOST
from ballast.mall.audit import By
from ballast.mall.ids import new_id
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import ADDRESS, Caller, shopper_of
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.shopping import Shopper, checkout_form, storefront

PHONE, PASSWORD, OTHER = "13900000000", "four words in one", "four other words now"


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


@pytest.fixture(autouse=True)
def _forget(client: TestClient[Litestar], mall_database: MallDatabase) -> None:
    client.cookies.clear()
    mall_database.run("DELETE FROM mall.signin_attempts")


def _registered(client: TestClient[Litestar], shop: Shop) -> Shopper:
    somebody = Shopper(client, shop)
    somebody.send("/register", login=PHONE, password=PASSWORD, name="Lin")
    return somebody


def _member(client: TestClient[Litestar], shop: Shop, phone: str = PHONE) -> Caller:
    caller = shopper_of(client, shop)
    caller.token = caller.call("POST", "/sign-up", {"login": phone, "password": PASSWORD}, status=201)["token"]
    return caller


def _customer(shop: Shop, phone: str = PHONE) -> UUID:
    found = shop.database.run(
        "SELECT customer_id FROM mall.customer WHERE shop_id = %s AND phone = %s", shop.shop_id, phone
    )
    return UUID(str(found[0][0]))


def _code(shop: Shop, at: datetime | None = None, phone: str = PHONE) -> str:
    """What the shop's staff is shown."""
    code, now = membership.new_code(), at or datetime.now(UTC)

    async def give(connection: Any) -> None:
        hashed = await passwords.hashed(code)
        customer = _customer(shop, phone)
        await membership.give_code(connection, shop.shop_id, customer, hashed, By(None, "owner"), now)

    in_shop(shop, give)
    return code


def _reset(caller: Caller, code: str, password: str = OTHER, *, status: int = 200) -> Any:
    return caller.call("POST", "/reset-password", {"login": PHONE, "code": code, "password": password}, status=status)


def test_a_new_password_ends_all_other_sessions(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    phone = _member(client, shop)
    somebody = Shopper(client, shop)
    somebody.send("/login", login=PHONE, password=PASSWORD)
    wrong = somebody.send("/me/password", 409, present="something else", password=OTHER, again=OTHER)
    assert "当前密码不正确" in wrong.text
    assert "不一致" in somebody.send("/me/password", 409, present=PASSWORD, password=OTHER, again="x" * 9).text
    assert "至少 8 个字符" in somebody.send("/me/password", 409, present=PASSWORD, password="short", again="short").text
    phone.call("GET", "/me")
    somebody.send("/me/password", present=PASSWORD, password=OTHER, again=OTHER)
    assert "密码已修改" in somebody.see("/me/account?said=password")
    phone.ask("GET", "/me", status=401)
    somebody.send("/me/name", name="林小雨")
    assert "林小雨" in somebody.see("/me")
    somebody.send("/logout")
    assert somebody.send("/login", 409, login=PHONE, password=PASSWORD).status_code == 409
    somebody.send("/login", login=PHONE, password=OTHER)
    assert PASSWORD not in str(shop.database.run("SELECT * FROM mall.customer"))


def test_whoever_has_a_session_cannot_guess_the_password_for_ever(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    member = _member(client, shop)
    for _ in range(5):
        guess = member.call("PUT", "/me/password", {"present": "guess guess", "password": OTHER}, status=403)
        assert guess["code"] == "password.wrong"
    often = member.ask("PUT", "/me/password", {"present": PASSWORD, "password": OTHER}, status=429)
    assert int(often.headers["retry-after"]) > 0
    assert "Retry-After" not in member.ask("GET", "/me").headers


def test_two_who_change_a_password_at_once_are_not_both_right(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    member = _member(client, shop)
    customer = _customer(shop)

    async def both(connection: Any) -> str:
        secret = await membership.secret(connection, customer)
        stored = await membership.proven(secret, PASSWORD, OTHER)
        visitor = await membership.visitors.find(connection, member.token, datetime.now(UTC))
        assert visitor is not None
        await membership.change_password(connection, visitor, secret, stored, datetime.now(UTC))
        try:
            await membership.change_password(connection, visitor, secret, stored, datetime.now(UTC))
        except membership.Refused as refused:
            return refused.key
        return ""

    assert in_shop(shop, both) == "password.meanwhile"


def test_a_forgotten_password_is_set_by_a_code_that_works_once(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    member, guest = _member(client, shop), shopper_of(client, shop)
    code = _code(shop)
    stored = shop.database.run("SELECT code_hash FROM mall.reset_code WHERE shop_id = %s", shop.shop_id)
    assert code not in stored[0][0]
    assert stored[0][0].startswith("$argon2id$")
    assert _reset(guest, "00000000" if code != "00000000" else "11111111", status=403)["code"] == "reset.wrong"
    entered = _reset(guest, f"{code[:4]} {code[4:]}")
    assert entered["visitor"]["phone"] == PHONE
    guest.token = entered["token"]
    assert guest.call("GET", "/me")["phone"] == PHONE
    member.ask("GET", "/me", status=401)
    other = shopper_of(client, shop)
    assert _reset(other, code, "yet another one", status=403)["code"] == "reset.wrong"
    other.call("POST", "/sign-in", {"login": PHONE, "password": PASSWORD}, status=401)
    other.call("POST", "/sign-in", {"login": PHONE, "password": OTHER})
    said = shop.database.run("SELECT action, actor FROM mall.audit WHERE shop_id = %s ORDER BY audit_id", shop.shop_id)
    assert said == [("customer.reset_code", "owner"), ("customer.password_reset", f"customer:{_customer(shop)}")]


def test_a_code_ends_with_its_time_the_next_one_and_too_many_tries(
    client: TestClient[Litestar], open_shop: OpenShop, mall_database: MallDatabase
) -> None:
    shop, elsewhere = open_shop(), open_shop()
    _member(client, shop)
    _member(client, elsewhere)
    guest = shopper_of(client, shop)
    old = _code(shop, datetime.now(UTC) - timedelta(minutes=16))
    assert _reset(guest, old, status=403)["code"] == "reset.wrong"
    first, second = _code(shop), _code(shop)
    assert _reset(guest, first, status=403)["code"] == "reset.wrong"
    assert _reset(shopper_of(client, elsewhere), second, status=403)["code"] == "reset.wrong"
    # Others tried it too, from many addresses.
    mall_database.run("UPDATE mall.reset_code SET tries = %s", membership.MOST_TRIES - 1)
    _reset(guest, "12345678" if second != "12345678" else "1", status=403)
    assert _reset(guest, second, status=403)["code"] == "reset.wrong"
    _reset(guest, second, status=403)
    assert _reset(guest, _code(shop), status=429)["code"] == "signin.often"


def test_a_code_on_the_page_logs_in(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    somebody = _registered(client, shop)
    somebody.send("/logout")
    assert f'href="{somebody.base}/reset"' in somebody.see("/login")
    assert "8 位" in somebody.see("/reset")
    assert "重设码不正确" in somebody.send("/reset", 409, login=PHONE, code="1", password=OTHER, again=OTHER).text
    # Nobody learns who is a customer.
    assert (
        "重设码不正确" in somebody.send("/reset", 409, login="13911111111", code="1", password=OTHER, again=OTHER).text
    )
    somebody.send("/reset", login=PHONE, code=_code(shop), password=OTHER, again=OTHER)
    assert "Lin" in somebody.see("/me?said=password")


def test_an_address_book_has_one_usual_address_as_long_as_it_has_any(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    member = _member(client, shop)
    first = member.call("POST", "/me/addresses", ADDRESS, status=201, key="one")
    assert member.call("POST", "/me/addresses", ADDRESS, status=201, key="one") == first
    assert first["is_default"]
    second = member.call(
        "POST", "/me/addresses", {**ADDRESS, "street": "2 Road", "is_default": True}, status=201, key="two"
    )
    third = member.call("POST", "/me/addresses", {**ADDRESS, "street": "3 Road"}, status=201, key="three")

    def usual() -> list[str]:
        found = member.call("GET", "/me/addresses")["items"]
        assert found[0]["is_default"] or not found
        return [one["address_id"] for one in found if one["is_default"]]

    assert usual() == [second["address_id"]]
    changed = member.call("PUT", f"/me/addresses/{first['address_id']}", {**ADDRESS, "street": "9 Road"})
    assert (changed["street"], changed["is_default"]) == ("9 Road", False)
    # The usual one does not stop being so by a change of its text.
    member.call("PUT", f"/me/addresses/{second['address_id']}", {**ADDRESS, "street": "8 Road"})
    assert usual() == [second["address_id"]]
    left = member.call("DELETE", f"/me/addresses/{second['address_id']}")
    assert {one["address_id"] for one in left["items"]} == {first["address_id"], third["address_id"]}
    assert len(usual()) == 1
    member.call("DELETE", f"/me/addresses/{second['address_id']}", status=404)
    member.call("POST", "/me/addresses", {**ADDRESS, "street": " "}, status=422, key="four")
    for n in range(MOST - 2):
        member.call("POST", "/me/addresses", {**ADDRESS, "street": f"{n}"}, status=201, key=f"more {n}")
    assert member.call("POST", "/me/addresses", ADDRESS, status=409, key="most")["code"] == "address.most"


def test_an_address_book_is_its_members_alone(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    member, other, guest = _member(client, shop), _member(client, shop, "13911111111"), shopper_of(client, shop)
    kept = member.call("POST", "/me/addresses", ADDRESS, status=201, key="one")
    path = f"/me/addresses/{kept['address_id']}"
    assert other.call("GET", "/me/addresses")["items"] == []
    assert other.call("PUT", path, {**ADDRESS, "name": "Mallory"}, status=404)["code"] == "address.unknown"
    other.call("DELETE", path, status=404)
    assert guest.call("GET", "/me/addresses", status=403)["code"] == "member.needed"
    assert guest.call("PATCH", "/me", {"name": "x"}, status=403)["code"] == "member.needed"
    # The page of a new address takes an id from the browser: another member's is not written over.
    page = Shopper(client, shop)
    page.send("/login", login="13911111111", password=PASSWORD)
    page.send(path, 404, **ADDRESS)
    page.see(path, 404)
    page.send(f"{path}/delete", 404)
    assert member.call("GET", "/me/addresses")["items"] == [kept]


def test_the_checkout_offers_the_book_and_adds_to_it(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    somebody = _registered(client, shop)
    somebody.order(shop, street="7 Road", remember="1")
    somebody.order(shop, address="new", street="7 Road", remember="1")  # is there already
    somebody.order(shop, address="new", street="8 Road")  # not to be kept
    assert re.findall(r"\d Road", somebody.see("/me/addresses")) == ["7 Road", "7 Road"]  # text and a button's label
    somebody.send(f"/me/addresses/{new_id()}", name="王", phone="1", province="浙江省", street="9 Road", usual="1")
    somebody.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    page = somebody.see("/checkout")
    chosen = re.findall(r'name="address" value="([^"]+)"[^>]*checked', page)
    assert len(chosen) == 1
    form = {**checkout_form(page), "address": chosen[0], "name": "", "phone": "", "province": "", "street": ""}
    quoted = somebody.send("/checkout", 200, **{**form, "act": "quote"})
    assert re.findall(r'name="address" value="([^"]+)"[^>]*checked', quoted.text) == chosen
    somebody.send("/checkout", **form)
    went = shop.database.run(
        "SELECT address->>'street', buyer_name FROM mall.orders WHERE shop_id = %s ORDER BY placed_at DESC LIMIT 1",
        shop.shop_id,
    )
    assert went == [("9 Road", "王")]
    # One that was deleted in another window is said to be gone, and nothing is ordered.
    somebody.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    form = {**checkout_form(somebody.see("/checkout")), "address": chosen[0]}
    somebody.send(f"/me/addresses/{chosen[0]}/delete")
    assert "所选地址已删除" in somebody.send("/checkout", 409, **form).text
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(4,)]


def test_an_order_does_not_fail_of_a_full_book(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    somebody = _registered(client, shop)
    for n in range(MOST):
        somebody.send(f"/me/addresses/{new_id()}", name="王", phone="1", province="浙江省", street=f"{n} Road")
    full = somebody.send(f"/me/addresses/{new_id()}", 409, name="王", phone="1", province="浙江省", street="x", new="1")
    assert "最多保存 20 个地址" in full.text
    somebody.order(shop, address="new", street="other", remember="1")
    assert shop.database.run("SELECT count(*) FROM mall.address WHERE shop_id = %s", shop.shop_id) == [(MOST,)]
    assert "/me/addresses/new" not in somebody.see("/me/addresses")


def test_guests_are_sent_to_the_login(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    guest = Shopper(client, shop)
    for path in ("/me/account", "/me/addresses", "/me/addresses/new", f"/me/addresses/{new_id()}"):
        guest.see(path, 303)
    for path in ("/me/name", "/me/password", f"/me/addresses/{new_id()}"):
        assert guest.send(path, name="x").headers["location"].endswith("/login")


def test_a_program_takes_coupons_once(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    open_one, coded, later = new_id(), new_id(), new_id()
    for coupon, code, starts in ((open_one, None, "2020-01-01"), (coded, "TEA", "2020-01-01"), (later, None, None)):
        shop.database.run(
            "INSERT INTO mall.coupon (shop_id, coupon_id, name, kind, amount_fen, code, stock, starts_at, ends_at)"
            " VALUES (%s, %s, 'off', 'fixed', 100, %s, 5, COALESCE(%s, now() + interval '1 day'), '2040-01-01')",
            shop.shop_id, coupon, code, starts,
        )  # fmt: skip
    guest = shopper_of(client, shop)
    offered = guest.call("GET", "/coupons")["items"]
    assert [(one["coupon_id"], one["left"], one["why_not"]) for one in offered] == [
        (str(open_one), 5, None),
        (str(later), 5, "coupon.not_yet"),
    ]
    claim = guest.call("POST", "/me/coupons", {"coupon_id": str(open_one)}, status=201, key="one")
    assert guest.call("POST", "/me/coupons", {"coupon_id": str(open_one)}, status=201, key="one") == claim
    differs = guest.call("POST", "/me/coupons", {"code": "tea"}, status=422, key="one")
    assert differs["code"] == "idempotency.differs"
    again = guest.call("POST", "/me/coupons", {"coupon_id": str(open_one)}, status=409, key="two")
    assert again["code"] == "coupon.has_enough"
    guest.call("POST", "/me/coupons", {"code": "tea"}, status=201, key="three")
    guest.call("POST", "/me/coupons", {"coupon_id": str(coded)}, status=409, key="four")
    assert guest.call("POST", "/me/coupons", {}, status=422, key="five")["code"] == "coupon.which"
    assert [one["state"] for one in guest.call("GET", "/me/coupons")["items"]] == ["good", "good"]
    placed = guest.order(shop.goods[0].sku_ids[0], claim_id=claim["claim_id"], agreed_fen=900)
    assert placed["total_fen"] == 900
    assert [one["state"] for one in guest.call("GET", "/me/coupons?used=true")["items"]] == ["good", "used"]
    assert shop.database.run("SELECT claimed FROM mall.coupon WHERE coupon_id = %s", open_one) == [(1,)]
