"""With whom a parcel goes, as a form says it."""

from __future__ import annotations

import pytest

from ballast.mall.rules import carriers
from ballast.mall.rules.refused import Refused


def test_a_carrier_of_the_list_with_its_number() -> None:
    assert carriers.chosen("shunfeng", "", " SF10 0000 0001 ") == ("shunfeng", "SF1000000001")
    assert carriers.carrier_name("shunfeng", "zh") == "顺丰速运"
    assert carriers.carrier_name("shunfeng", "en") == "SF Express"


def test_another_one_is_named_and_the_shops_own_messenger_has_no_number() -> None:
    assert carriers.chosen("other", " 闪送 ", "") == ("闪送", "")
    assert carriers.carrier_name("闪送", "en") == "闪送"
    assert carriers.chosen("self", "", "") == ("self", "")


@pytest.mark.parametrize(
    ("code", "named", "tracking", "key"),
    [
        ("", "", "SF1000000001", "ship.carrier"),
        ("pigeon", "", "SF1000000001", "ship.carrier"),
        ("pickup", "", "", "ship.carrier"),
        ("other", " ", "SF1000000001", "ship.carrier"),
        ("shunfeng", "", "", "ship.tracking"),
        ("shunfeng", "", "SF1", "ship.tracking"),
        ("self", "", "=1+1", "ship.tracking"),
    ],
)
def test_what_is_refused(code: str, named: str, tracking: str, key: str) -> None:
    with pytest.raises(Refused) as refused:
        carriers.chosen(code, named, tracking)
    assert refused.value.key == key
