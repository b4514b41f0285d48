"""Guests and members: a token, a login, and what a guest had becomes the member's."""

from __future__ import annotations

from datetime import timedelta

import pytest
from litestar.testing import TestClient

from ballast.mall import cart, orders, passwords, visitors
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.rules.refused import Refused
from ballast.mall.visitors import Login
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop
from tests.integration.mall.calling import shopper_of
from tests.integration.mall.ordering import NOW, buy, in_shop


def test_what_a_guest_had_is_the_members_after_the_login(open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    one, two = (goods.sku_ids[0] for goods in shop.goods)

    async def story(c: Connection) -> tuple[Login, Login]:
        first = await visitors.open_guest(c, NOW)
        await cart.add(c, first.visitor.owner, one, 998, NOW)
        member = await _join(c, first.visitor, "138 0000 0000", "correct horse", "Lin")
        assert await visitors.find(c, first.token, NOW) is None
        guest = await visitors.open_guest(c, NOW)
        await cart.add(c, guest.visitor.owner, one, 3, NOW)
        await cart.add(c, guest.visitor.owner, two, 1, NOW)
        order = await buy(c, guest.visitor.owner, two)
        await cart.add(c, guest.visitor.owner, two, 1, NOW)
        again = await _enter(c, guest.visitor, "+8613800000000", "correct horse")
        assert again.visitor.customer_id == member.visitor.customer_id
        assert [(line.sku_id, line.quantity) for line in await cart.lines(c, again.visitor.owner)] == [
            (one, 999),
            (two, 1),
        ]
        assert await cart.lines(c, guest.visitor.owner) == ()
        assert (
            await orders.get(c, order.order_id, owner=again.visitor.owner)
        ).customer_id == member.visitor.customer_id
        return member, again

    member, again = in_shop(shop, story)

    async def leave(c: Connection) -> None:
        await visitors.logout_elsewhere(c, again.visitor, NOW)
        assert await visitors.find(c, member.token, NOW) is None
        out = await visitors.logout(c, again.visitor, NOW)
        assert (await visitors.find(c, again.token, NOW), out.visitor.customer_id) == (None, None)

    in_shop(shop, leave)


def test_a_wrong_password_and_an_unknown_login_look_the_same(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(c: Connection) -> None:
        guest = (await visitors.open_guest(c, NOW)).visitor
        await _join(c, guest, "Lin@Example.com", "correct horse", "Lin")
        said = set()
        for login, password in (("lin@example.com", "wrong horse"), ("nobody@example.com", "correct horse")):
            with pytest.raises(Refused) as refused:
                await _enter(c, guest, login, password)
            said.add((refused.value.key, refused.value.what))
        assert said == {("login.wrong", "The login or the password is wrong.")}
        with pytest.raises(Refused, match="Somebody is registered"):
            await _join(c, guest, "lin@example.COM", "other horse", "")
        with pytest.raises(Refused, match="neither a phone"):
            await _join(c, guest, "12345", "other horse", "")
        with pytest.raises(Refused, match="8 to 200"):
            await _join(c, guest, "a@b.cn", "short", "")

    in_shop(shop, story)


def test_a_token_is_good_in_its_shop_and_for_its_time(open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop()
    guest = in_shop(shop, lambda c: visitors.open_guest(c, NOW))
    assert in_shop(other, lambda c: visitors.find(c, guest.token, NOW)) is None
    assert in_shop(shop, lambda c: visitors.find(c, guest.token, NOW + timedelta(days=80))) == guest.visitor
    assert in_shop(shop, lambda c: visitors.find(c, guest.token, NOW + timedelta(days=160))) == guest.visitor
    assert in_shop(shop, lambda c: visitors.find(c, guest.token, NOW + timedelta(days=251))) is None


def test_a_cart_takes_what_is_on_sale_in_this_shop(open_shop: OpenShop) -> None:
    shop, other = open_shop(products=1), open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]

    async def story(c: Connection) -> None:
        owner = (await visitors.open_guest(c, NOW)).visitor.owner
        for unknown in (other.goods[0].sku_ids[0], new_id()):
            with pytest.raises(Refused, match="not on sale"):
                await cart.add(c, owner, unknown, 1, NOW)
        with pytest.raises(Refused, match="cannot be in a cart"):
            await cart.add(c, owner, sku, 0, NOW)
        assert (await cart.add(c, owner, sku, 2, NOW), await cart.add(c, owner, sku, 3, NOW)) == (2, 5)
        await cart.set_quantity(c, owner, sku, 101, NOW)
        [line] = await cart.lines(c, owner)
        assert (line.quantity, line.free, line.buyable, await cart.count(c, owner)) == (101, 100, False, 101)
        await cart.set_quantity(c, owner, sku, 0, NOW)
        assert await cart.lines(c, owner) == ()

    in_shop(shop, story)


async def _join(c: Connection, visitor: visitors.Visitor, login: str, password: str, name: str) -> Login:
    hashed = await visitors.hashed(login, password)
    return await visitors.register(c, visitor, login=login, password_hash=hashed, name=name, now=NOW)


async def _enter(c: Connection, visitor: visitors.Visitor, login: str, password: str) -> Login:
    customer_id = await visitors.proven(await visitors.secret_of(c, login), password)
    return await visitors.login(c, visitor, customer_id, NOW)


def test_no_connection_is_held_while_passwords_are_worked_on(
    mall_database: MallDatabase, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop()
    app = create_app(mall_database.settings())
    held: list[int] = []
    real = (passwords.matches, passwords.hashed)

    def free() -> int:
        return int(app.state.db._home.app.pool.get_stats()["pool_available"]) - int(
            app.state.db._home.app.pool.get_stats()["pool_size"]
        )

    async def matches(stored: str | None, password: str) -> bool:
        held.append(free())
        return await real[0](stored, password)

    async def hashed(password: str) -> str:
        held.append(free())
        return await real[1](password)

    monkeypatch.setattr(passwords, "matches", matches)
    monkeypatch.setattr(passwords, "hashed", hashed)
    with TestClient(app) as client, client.portal() as portal:
        portal.call(app.state.db._home.app.pool.wait)  # connections that are still being opened are none that are held
        program = shopper_of(client, shop)
        member = {"login": "lin@example.com", "password": "four words in one"}
        program.call("POST", "/sign-up", member, status=201)
        shopper = shopper_of(client, shop)
        shopper.token = shopper.call("POST", "/sign-in", member)["token"]
        shopper.call("PUT", "/me/password", {"present": member["password"], "password": member["password"]})
        shopper.call("POST", "/reset-password", {**member, "code": "1"}, status=403)
        client.get(f"/s/{shop.slug}/login")
        form = {"_csrf_token": client.cookies["csrftoken"], **member}
        assert client.post(f"/s/{shop.slug}/login", data=form, follow_redirects=False).status_code == 303
    assert held == [0] * 6
