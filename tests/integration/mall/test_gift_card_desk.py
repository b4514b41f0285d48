"""Gift cards as the shop's people have them: issued with codes that are told once, found, looked at, made void."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

import pytest

from ballast.mall.ids import new_id
from tests.fix_mall import MallDatabase, OpenShop
from tests.fix_people import NewVisitor
from tests.integration.mall.cards import balance, card_order, gift_card
from tests.integration.mall.trading import staff

_CODE = re.compile(r"[2-9A-HJ-NP-Z]{4}(?:-[2-9A-HJ-NP-Z]{4}){3}")


def test_cards_are_issued_on_a_page_or_as_a_file_and_found_by_their_ends(
    mall_database: MallDatabase, visitor: NewVisitor, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    owner = staff(mall_database, visitor, shop, "finance")
    root = f"/merchant/{shop.slug}/gift-cards"
    form = {
        "key": str(new_id()),
        "cards": "2",
        "amount": "88.80",
        "until": "2099-12-31",
        "note": "New year",
        "as": "page",
    }
    page = owner.post(f"{root}/new", form)
    codes = sorted(set(_CODE.findall(page.text)))
    assert (page.status_code, len(codes)) == (200, 2)
    assert "no-store" in page.headers["cache-control"]
    # Loaded again it issues nothing and tells nothing.
    again = owner.post(f"{root}/new", form)
    assert (again.status_code, _CODE.findall(again.text)) == (422, [])
    answer = owner.post(f"{root}/new", {**form, "key": str(new_id()), "cards": "3", "until": "", "as": "csv"})
    assert 'filename="gift-cards-' in answer.headers["content-disposition"]
    header, *rows = csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))
    assert len(header) == 3
    assert [(bool(_CODE.fullmatch(code)), amount) for code, amount, _ in rows] == [(True, "88.80")] * 3
    listed = owner.get(f"{root}?lang=en").text
    assert listed.count("Ending in") == 5
    assert "¥444.00" in listed
    found = owner.get(f"{root}?q={codes[0][-4:].lower()}&lang=en").text
    [card] = re.findall(rf'href="({root}/[0-9a-f-]{{36}})"', found)
    order_id = card_order(shop, codes[0])
    one = owner.get(f"{card}?lang=en").text
    assert "¥78.80" in one
    assert f"/merchant/{shop.slug}/orders/{order_id}" in one
    assert "2100-01-01 00:00" in one
    assert card.rpartition("/")[2] in owner.get(f"/merchant/{shop.slug}/orders/{order_id}").text
    assert not any(code in text for code in codes for text in (listed, found, one))

    assert owner.post(f"{card}/void", {"reason": " "}).status_code == 422
    done = owner.post(f"{card}/void", {"reason": "stolen"})
    assert done.headers["location"].endswith("said=gift_card_void")
    assert "stolen" in owner.get(f"{card}?lang=en").text
    noted = "SELECT action, detail->>'amount_fen' FROM mall.audit WHERE shop_id = %s AND action LIKE 'gift_card.%%' ORDER BY audit_id"
    assert mall_database.run(noted, shop.shop_id) == [
        ("gift_card.issued", "8880"),
        ("gift_card.issued", "8880"),
        ("gift_card.voided", "7880"),
    ]


@pytest.mark.parametrize(
    ("role", "sees", "issues"),
    [("manager", True, True), ("finance", True, True), ("clerk", False, False), ("viewer", False, False)],
)
def test_who_works_with_money_has_cards_and_nobody_else(
    mall_database: MallDatabase,
    visitor: NewVisitor,
    open_shop: OpenShop,
    role: str,
    sees: bool,
    issues: bool,
) -> None:
    shop = open_shop()
    card = gift_card(shop, now=datetime.now(UTC))
    browser = staff(mall_database, visitor, shop, role)
    root = f"/merchant/{shop.slug}/gift-cards"
    assert [browser.get(path).status_code for path in (root, f"{root}/{card.card_id}")] == [200 if sees else 403] * 2
    assert browser.get(f"{root}/new").status_code == (200 if issues else 403)
    voided = browser.post(f"{root}/{card.card_id}/void", {"reason": "x"}).status_code
    assert (voided, balance(shop, card.card_id)) == ((303, 0) if issues else (403, 10_000))
