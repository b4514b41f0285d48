"""What sending costs, by region, weight, piece and amount."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.shipping import Destination, Fee, Parcel, Rate, Tariff, Template, rate_fen

NEAR = Rate(("31", "32", "33"), first=1000, first_fen=600, extra=500, extra_fen=200, free_from_fen=9900)
FAR = Rate((), first=1000, first_fen=1200, extra=1000, extra_fen=800)
BY_WEIGHT = Template(UUID(int=1), "by weight", "weight", (NEAR, FAR))
BY_PIECE = Template(UUID(int=2), "by piece", "piece", (Rate(("31",), 2, 500, 1, 100),))


def parcel(number: int, template: Template | None, quantity: int, weight_g: int) -> Parcel:
    return Parcel(UUID(int=number), template, quantity, weight_g)


@pytest.mark.parametrize(
    ("grams", "fen"), [(0, 600), (1000, 600), (1001, 800), (1500, 800), (1501, 1000), (10_000, 4200)]
)
def test_every_begun_step_costs(grams: int, fen: int) -> None:
    assert rate_fen(NEAR, grams) == fen


def test_the_region_decides_and_the_rest_has_its_own_rate() -> None:
    goods = [parcel(1, BY_WEIGHT, 1, 900), parcel(2, BY_WEIGHT, 2, 600)]
    assert Tariff(goods, Destination(province="31")).fee(5000) == Fee(800)
    assert Tariff(goods, Destination(province="65")).fee(5000) == Fee(2000)


def test_several_templates_add_up_and_free_from_counts_for_its_own() -> None:
    goods = [parcel(1, BY_WEIGHT, 1, 900), parcel(2, BY_PIECE, 5, 0), parcel(3, None, 9, 99_999)]
    tariff = Tariff(goods, Destination(province="31"))
    assert tariff.fee(9899) == Fee(600 + 800)
    assert tariff.fee(9900) == Fee(800)


def test_where_it_is_not_sent_is_said_by_sku() -> None:
    goods = [parcel(4, BY_PIECE, 1, 0), parcel(1, BY_WEIGHT, 1, 10), parcel(3, BY_PIECE, 1, 0)]
    assert Tariff(goods, Destination(province="65")).fee(0) == Fee(1200, unserved=(UUID(int=3), UUID(int=4)))


def test_picking_up_costs_nothing_and_no_address_is_no_answer() -> None:
    goods = [parcel(4, BY_PIECE, 1, 0)]
    assert Tariff(goods, Destination("pickup")).fee(0) == Fee(0)
    assert Tariff(goods, Destination()).fee(0) == Fee(0, known=False)
    assert Tariff([parcel(1, None, 1, 1)], Destination()).fee(0) == Fee(0)


def test_a_template_that_contradicts_itself_is_not_made() -> None:
    with pytest.raises(ValueError, match="twice"):
        Template(UUID(int=1), "x", "piece", (FAR, FAR))
    with pytest.raises(ValueError, match="twice"):
        Template(UUID(int=1), "x", "piece", (NEAR, Rate(("33",), 1, 1, 1, 1)))
    with pytest.raises(ValueError, match="at least one"):
        Rate((), 1, 0, 0, 0)
    with pytest.raises(ValueError, match="negative"):
        Rate((), 1, -1, 1, 0)


@given(st.integers(0, 50_000), st.integers(0, 5_000), st.integers(0, 20_000), st.integers(0, 20_000))
def test_more_weight_never_costs_less_and_more_goods_never_more(grams: int, more: int, goods: int, dearer: int) -> None:
    assert rate_fen(NEAR, grams + more) >= rate_fen(NEAR, grams)
    tariff = Tariff([parcel(1, BY_WEIGHT, 1, grams)], Destination(province="32"))
    assert tariff.fee(goods + dearer).fee_fen <= tariff.fee(goods).fee_fen
