"""The page of API keys: made once, shown once, revoked; for the owner alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.fix_mall import MallDatabase
from tests.fix_people import NewVisitor, Visitor, shop_with_owner


@pytest.fixture(scope="module")
def owner(operator: Visitor, visitor: NewVisitor) -> Visitor:
    return shop_with_owner(operator, visitor, "tea")[1]


def _ask(visitor: Visitor, key: str, path: str = "key") -> Any:
    return visitor.client.get(f"/api/v1/merchant/{path}", headers={"Authorization": f"Bearer {key}"})


def test_a_key_is_shown_once_and_opens_what_was_chosen_until_it_is_revoked(
    owner: Visitor, mall_database: MallDatabase
) -> None:
    form = {"name": "<b>till</b>", "days": "90", "scope": ["orders.read", "stock.write"]}
    made = owner.post("/merchant/tea/keys", form)
    assert made.status_code == 200
    key = re.search(r'value="(bk_[\w-]+)"', made.text)
    assert key is not None
    assert "<b>till" not in made.text
    assert made.headers["cache-control"] == "no-store"
    page = owner.get("/merchant/tea/keys").text
    assert key[1] not in page
    assert key[1][:11] in page
    assert "Never" in page
    opened = _ask(owner, key[1])
    assert opened.json() == {
        "shop": "tea",
        "name": "<b>till</b>",
        "scopes": ["orders.read", "stock.write"],
        "standing": "open",
    }
    assert _ask(owner, key[1], "orders").status_code == 200
    assert _ask(owner, key[1], "products").status_code == 403
    revoke = re.search(r'action="(/merchant/tea/keys/[0-9a-f-]{36}/revoke)"', page)
    assert revoke is not None
    assert owner.post(revoke[1]).headers["location"] == "/merchant/tea/keys?said=key_revoked"
    assert _ask(owner, key[1]).status_code == 401
    assert owner.post(revoke[1]).status_code == 422
    actions = mall_database.run("SELECT action, detail::text FROM mall.audit WHERE action LIKE 'key.%%' ORDER BY at")
    assert [action for action, _ in actions] == ["key.made", "key.revoked"]
    assert key[1] not in repr(actions)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "", "days": "90", "scope": "orders.read"}, "Say what the key is for"),
        ({"name": "x", "days": "90"}, "Choose what the key is good for"),
        ({"name": "x", "days": "90", "scope": "everything"}, "Choose what the key is good for"),
        ({"name": "x", "days": "-5", "scope": "orders.read"}, "A key holds 1 to 3660 days"),
    ],
)
def test_a_form_that_cannot_be_right_says_so(owner: Visitor, fields: dict[str, str], said: str) -> None:
    answer = owner.post("/merchant/tea/keys", fields)
    assert answer.status_code == 422
    assert said in answer.text


def test_nobody_but_an_owner_makes_keys(
    operator: Visitor, owner: Visitor, visitor: NewVisitor, mall_database: MallDatabase
) -> None:
    shop_id = mall_database.run("SELECT shop_id FROM mall.directory WHERE slug = 'tea'")[0][0]
    manager = shop_with_owner(operator, visitor, "other")[1]
    account = mall_database.run("SELECT account_id FROM mall.account WHERE login = 'owner-other'")[0][0]
    mall_database.run("INSERT INTO mall.staff (shop_id, account_id, role) VALUES (%s, %s, 'manager')", shop_id, account)
    assert manager.get("/merchant/tea").status_code == 200
    assert "/keys" not in manager.get("/merchant/tea").text
    assert manager.get("/merchant/tea/keys").status_code == 403
    assert manager.post("/merchant/tea/keys", {"name": "x", "days": "0", "scope": "orders.read"}).status_code == 403


def test_a_shop_has_so_many_keys_at_most(owner: Visitor, mall_database: MallDatabase) -> None:
    mall_database.run(
        "INSERT INTO mall.api_key (shop_id, key_id, name, secret_hash, scopes) SELECT shop_id, gen_random_uuid(), 'k', sha256('x'), '{orders.read}'"
        " FROM mall.directory, generate_series(1, 20) WHERE slug = 'tea'"
    )
    answer = owner.post("/merchant/tea/keys", {"name": "x", "days": "0", "scope": "orders.read"})
    assert (answer.status_code, "20 keys at most" in answer.text) == (422, True)
