"""Promises beside what is there: each way in which one can be broken is seen, and only then."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ballast.demo.ledger import Asked, Edited, Fate, Ledger, Numbered, Ordered, Paid, compare, read
from tests.unit.demo.replayed import an_id, found, ordered

ONE, TWO = ordered(1, 10.0), ordered(2, 11.0)
PAID = Paid(shop="tea", at=12.0, sent_at=11.0, order_id=ONE.order_id)


def _broken(promises: list[object], there: list[object], *excepted: str) -> list[Fate]:
    compared = compare(promises, there, excepted, {})  # type: ignore[arg-type]
    return [one.fate for one in compared.broken]


def test_what_is_there_as_it_was_promised_is_kept() -> None:
    compared = compare([ONE, TWO, PAID], [found(ONE), found(TWO)], (), {})
    assert (compared.acknowledged, compared.paid, compared.kept, compared.broken) == (2, 1, 2, ())


def test_an_order_that_is_not_there_is_lost() -> None:
    assert _broken([ONE, TWO], [found(ONE)]) == ["lost"]


def test_an_order_that_is_before_the_merchant_is_not_lost_and_not_kept() -> None:
    compared = compare([ONE, TWO], [found(ONE)], [TWO.order_id], {})
    assert (compared.kept, compared.excepted, compared.broken) == (1, 1, ())


def test_an_order_whose_shopper_heard_nothing_is_no_promise() -> None:
    compared = compare([ONE], [found(ONE), found(TWO)], (), {})
    assert (compared.unheard, compared.broken) == (1, ())


def test_one_attempt_that_became_two_orders_is_doubled() -> None:
    again = found(TWO, mark=ONE.mark)
    assert _broken([ONE, TWO], [found(ONE), again]) == ["doubled"]


def test_two_orders_of_a_shop_with_one_number_are_doubled_and_of_two_shops_not() -> None:
    same = found(TWO, number=found(ONE).number)
    assert _broken([ONE, TWO], [found(ONE), same]) == ["doubled"]
    other = ordered(2, 11.0, "wear")
    assert _broken([ONE, other], [found(ONE), found(other, number=found(ONE).number)]) == []


@pytest.mark.parametrize("change", [{"shop": "wear"}, {"total_fen": 1, "paid_fen": 1}, {"lines": ((an_id(1), 2),)}])
def test_an_order_that_became_another_is_seen(change: dict[str, object]) -> None:
    assert _broken([ONE], [found(ONE, **change)]) == ["changed"]


def test_lines_may_come_in_another_order() -> None:
    lines = ((an_id(1), 1), (an_id(2), 3))
    assert _broken([msgspec.structs.replace(ONE, lines=lines)], [found(ONE, lines=lines[::-1])]) == []


def test_a_number_that_the_shopper_saw_stays() -> None:
    number = Numbered(shop="tea", at=10.0, sent_at=10.0, order_id=ONE.order_id, number="9" * 18)
    assert _broken([ONE, number], [found(ONE)]) == ["changed"]


def test_what_was_shown_as_paid_is_paid() -> None:
    assert _broken([ONE, PAID], [found(ONE, paid_fen=0, status="pending_payment")]) == ["unpaid"]
    assert _broken([ONE], [found(ONE, paid_fen=0, status="pending_payment")]) == []


def test_a_second_payment_is_seen() -> None:
    assert _broken([ONE], [found(ONE, payments=2)]) == ["paid_twice"]


def test_of_a_merchants_changes_the_last_one_stands() -> None:
    edits = [Edited(shop="tea", at=at, sent_at=at, sku_id="a", code=code) for at, code in ((1.0, "R-1"), (2.0, "R-2"))]
    assert compare(edits, [], (), {"a": "R-2"}).broken == ()
    assert [one.fate for one in compare(edits, [], (), {"a": "R-1"}).broken] == ["edit_lost"]
    assert [one.fate for one in compare(edits, [], (), {}).broken] == ["edit_lost"]


def test_a_later_change_whose_answer_was_not_heard_may_be_there() -> None:
    edit = Edited(shop="tea", at=2.0, sent_at=1.5, sku_id="a", code="R-2")
    earlier, later = (Asked(shop="tea", at=at, sent_at=at, sku_id="a", code=f"R-{at:.0f}") for at in (1.0, 3.0))
    assert compare([earlier, edit, later], [], (), {"a": "R-3"}).broken == ()
    assert [one.fate for one in compare([earlier, edit, later], [], (), {"a": "R-1"}).broken] == ["edit_lost"]


def test_the_file_has_each_promise_as_it_was_made(tmp_path: Path) -> None:
    with Ledger(tmp_path / "promises") as ledger:
        ledger.note(ONE)
        assert read(tmp_path / "promises") == [ONE]
        ledger.note(PAID)
    with (tmp_path / "promises").open("ab") as file:
        file.write(b'{"promise":"ordered","shop"')  # the process was killed while it wrote
    assert read(tmp_path / "promises") == [ONE, PAID]
    assert isinstance(read(tmp_path / "promises")[0], Ordered)
