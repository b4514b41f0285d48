"""Which orders came about by what was wrong for a while: by the very price, terms or address, and no others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ballast.mall.rules.breakdown import Breakdown, LimitedUse, LinePrice
from ballast.mall.rules.reviewing import Cause, Changed, Line, Placed, orders_named, questioned
from ballast.mall.rules.shipping import Fee

SKU, OTHER, PROMOTION, COUPON, MEMBER, ORDER = (UUID(int=n) for n in range(1, 7))
NOW = datetime(2026, 11, 27, 5, tzinfo=UTC)
HOME = {"name": "Lin", "phone": "1", "province": "浙江省", "city": "杭州市", "district": "", "street": "1 Road"}
AWAY = {**HOME, "name": "Mallory", "street": "Back door"}


def sku(before: int | None, wrong: int | None, sku_id: UUID = SKU) -> Changed:
    rows = [None if fen is None else {"sku_id": str(sku_id), "price_fen": str(fen)} for fen in (before, wrong)]
    return Changed("sku", *rows)


def order(
    *prices: int, breakdown: Breakdown | None = None, sent: bool = False, then: bool = True, **more: Any
) -> Placed:
    """One line a price, all of the same SKU."""
    lines = tuple(Line(number, SKU, "茶", "Tea", 2, fen) for number, fen in enumerate(prices, 1))
    found = Placed(ORDER, "1", MEMBER, MEMBER, "ship", HOME, breakdown, lines, NOW, NOW if sent else None, then)
    return msgspec.structs.replace(found, **more)


def priced(**more: Any) -> Breakdown:
    """A breakdown of one line."""
    line = LinePrice(SKU, 1, 9, 0, 0, 0, 0, 9, **{k: v for k, v in more.items() if k in ("limited", "reduction_id")})
    return Breakdown((line,), 9, 9, Fee(0), 9, (), coupon_id=more.get("coupon_id"))


def causes(changed: list[Changed], placed: Placed) -> tuple[Cause, ...]:
    found = questioned(changed, [placed])
    return found[0].causes if found else ()


def test_a_line_at_the_wrong_price_is_questioned_and_one_at_another_is_not() -> None:
    (found,) = questioned([sku(8900, 1)], [order(1, 8900, 700)])
    assert [(line.line, line.charged_fen, line.right_fen) for line in found.lines] == [(1, 1, 8900)]
    assert found.short_fen == 2 * 8899
    assert questioned([sku(8900, 1)], [order(8900), order(700)]) == ()
    assert questioned([sku(8900, 1, OTHER)], [order(1)]) == ()
    assert questioned([sku(8900, 1)], [order(1, then=False)]) == (), "it was placed at another time"


def test_set_wrong_twice_it_was_right_before_the_first_time() -> None:
    (found,) = questioned([sku(8900, 1), sku(1, 2)], [order(1, 2)])
    assert [line.right_fen for line in found.lines] == [8900, 8900]
    # Between them the shop had made it another price itself.
    (found,) = questioned([sku(8900, 1), sku(5000, 2)], [order(1, 2)])
    assert [line.right_fen for line in found.lines] == [8900, 5000]
    (found,) = questioned([sku(None, 1)], [order(1)])
    assert (found.lines[0].right_fen, found.short_fen) == (None, 0), "it was not for sale"
    assert questioned([sku(8900, None)], [order(8900)]) == ()


@pytest.mark.parametrize(("table", "used"), [("limited_price", {"limited": (LimitedUse(PROMOTION, 1, 1),)}), ("full_reduction", {"reduction_id": PROMOTION}), ("coupon", {"coupon_id": PROMOTION})])  # fmt: skip
def test_terms_of_a_promotion_count_and_its_counters_do_not(table: str, used: dict[str, Any]) -> None:
    name = "coupon_id" if table == "coupon" else "promotion_id"
    before: dict[str, str | None] = {name: str(PROMOTION), "scope": "{}", "price_fen": "9", "tiers": "[]", "used": "1", "sold": "1", "threshold_fen": "0"}  # fmt: skip
    terms = {"limited_price": "price_fen", "full_reduction": "tiers", "coupon": "threshold_fen"}[table]
    wrong = Changed(table, before, {**before, terms: "1"})
    counted = Changed(table, before, {**before, "used": "2", "sold": "2"})
    placed = order(9, breakdown=priced(**used))
    assert causes([wrong], placed) == ("promotion",)
    assert causes([Changed(table, None, before)], placed) == ("promotion",), "it was made up"
    assert causes([counted], placed) == ()
    assert causes([wrong], order(9, breakdown=priced())) == ()


def test_levels_and_shipping() -> None:
    level = Changed("customer", {"customer_id": str(MEMBER), "level": "0"}, {"customer_id": str(MEMBER), "level": "3"})
    points = Changed(
        "customer", {"customer_id": str(MEMBER), "points": "0"}, {"customer_id": str(MEMBER), "points": "9"}
    )
    placed = order(9, breakdown=priced())
    assert causes([level], placed) == ("level",)
    assert causes([points], placed) == ()
    assert causes([Changed("shop", {"levels": "[]"}, {"levels": "[1]"})], placed) == ("level",)
    assert causes([level], order(9, breakdown=priced(), customer_id=None)) == ()
    fee = Changed("shipping", {"rules": "{}", "is_default": "t"}, {"rules": "{1}", "is_default": "t"})
    assert causes([fee], placed) == ("shipping",)
    assert causes([fee], order(9, breakdown=priced(), delivery="pickup")) == ()


def test_an_order_to_a_swapped_address() -> None:
    rows = [{"customer_id": str(MEMBER), **one} for one in (HOME, AWAY, {**AWAY, "street": "Another"})]
    saved = Changed("address", rows[0], rows[1])
    (found,) = questioned([saved], [order(9, address=AWAY)])
    assert (found.causes, found.right_address, found.wrong_address) == (("address",), HOME, AWAY)
    assert causes([saved], order(9, address=AWAY, sent=True)) == ("sent",)
    assert causes([saved], order(9)) == (), "he has written another one"
    assert causes([saved], order(9, address=AWAY, customer_id=OTHER)) == ()
    (found,) = questioned(
        [saved, Changed("address", rows[1], rows[2])], [order(9, address={**AWAY, "street": "Another"})]
    )
    assert found.right_address == HOME


def test_an_order_whose_own_address_was_swapped() -> None:
    told = [{"order_id": str(ORDER), "address": msgspec.json.encode(one).decode()} for one in (HOME, AWAY)]
    swapped = Changed("orders", told[0], told[1])
    assert orders_named([swapped, sku(1, 2)]) == (ORDER,)
    assert causes([swapped], order(9, then=False)) == (), "it was put back in time"
    (found,) = questioned([swapped], [order(9, then=False, sent=True)])
    assert (found.causes, found.right_address) == (("sent",), HOME)
    assert causes([swapped], order(9, then=False, address=AWAY)) == ("address",), "it is not put back"
    both = order(1, address=AWAY)
    assert causes([swapped, sku(8900, 1)], both) == ("address", "price"), "the most urgent first"
