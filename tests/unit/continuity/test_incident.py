"""What is written down of a loss while some shops are being put back, and all are lost then."""

from __future__ import annotations

from datetime import UTC, datetime

from ballast.continuity.incident import Incident, before_all
from ballast.continuity.signs import Sign
from ballast.recovery import Span

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def test_all_go_back_to_before_those_who_were_being_put_back_just_then_and_everything_is_brought_in_once() -> None:
    over, open_one = Span("2/0/100", "2/0/200", "a"), Span("2/0/900", tenant="b")
    before, put_back = Span("2/0/500", "2/0/A00", "c"), Span("2/0/B00", "2/0/C00", "d")
    former = Span("1/0/FF00")
    spans = (former, over, open_one, before, put_back)
    assert before_all("2/0/A80", spans) == ("2/0/500", (former, over))
    assert before_all("2/0/400", spans) == ("2/0/400", (former, over))
    assert before_all("2/1/0", (over, before, put_back)) == ("2/1/0", (over, before, put_back))
    chain = (Span("2/0/100", "2/0/300", "a"), Span("2/0/200", "2/0/400", "b"))
    assert before_all("2/0/350", chain) == ("2/0/100", ())


def test_where_no_moment_is_told_nobody_is_brought_in_who_was_not_put_back() -> None:
    open_one, done = Span("2/0/900", tenant="b"), Span("2/0/500", "2/0/A00", "c")
    some = Incident(
        NOON, Sign.EMPTY, only=("b", "c"), moments={"b": "2/0/900", "c": "2/0/500"}, beyond=(open_one, done)
    )
    assert some.not_put_back == ()
    everybody = some.with_(only=None, moments={})
    assert everybody.not_put_back == (open_one,)
    assert everybody.going_back("2/0/F00", "").beyond == (open_one, done)
    gone_back = everybody.going_back("2/0/F00", "all rows were taken")
    assert (gone_back.at, gone_back.beyond) == ("2/0/500", (Span("2/0/500"),))
    assert gone_back.not_put_back == ()


def test_a_shop_that_comes_back_makes_no_emptied_home_whole() -> None:
    emptied = Incident(NOON, Sign.EMPTY).going_back("2/0/F00", "all rows were taken")
    assert emptied.is_emptied
    assert not Incident(NOON, Sign.EMPTY).is_emptied
    assert not emptied.with_(why=Sign.REFUSED).is_emptied, "it may have been somebody's right to delete them"
    chosen = Incident(NOON, Sign.EMPTY, at="2/0/F00", why_at="a person has chosen it")
    assert not chosen.is_emptied
