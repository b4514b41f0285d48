"""From where, and for which login, tries are counted together."""

from __future__ import annotations

from uuid import UUID

import pytest

from ballast.mall import attempts

SHOP = UUID(int=1)


def test_a_phone_number_is_one_login_however_it_is_typed() -> None:
    typed = ("13800138000", "138 0013 8000", "138-0013-8000", "+8613800138000", "(138)0013-8000")
    assert len({attempts._of_login(SHOP, one, "192.0.2.1") for one in typed}) == 1
    assert attempts._of_login(SHOP, "Lin@Example.com ", "::1") == attempts._of_login(SHOP, "lin@example.com", "::1")
    assert attempts._of_login(SHOP, "nobody", "::1") != attempts._of_login(SHOP, "lin@example.com", "::1")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_caller_has_64_bits_to_choose_from_and_is_one(address: str, network: str) -> None:
    assert attempts.network(address) == network
