"""Who may do what: the table is written out once more here, as people would say it."""

from __future__ import annotations

import pytest

from ballast.mall.rules.permissions import ROLES, Permission, may
from ballast.mall.rules.standing import Standing


def test_an_owner_may_do_everything_and_nobody_else_touches_staff_and_keys() -> None:
    assert all(may("owner", one) for one in Permission)
    for role in set(ROLES) - {"owner"}:
        assert not may(role, Permission.EDIT_STAFF)
        assert not may(role, Permission.EDIT_KEYS)


@pytest.mark.parametrize(
    ("role", "yes", "no"),
    [
        ("manager", {"settings.edit", "promotions.edit", "refunds.decide", "audit.see"}, {"staff.edit"}),
        ("clerk", {"products.edit", "orders.fulfil"}, {"refunds.decide", "books.see", "settings.edit"}),
        ("finance", {"refunds.decide", "books.see", "orders.see"}, {"products.edit", "orders.fulfil"}),
        ("viewer", {"orders.see", "products.see"}, {"customers.see", "books.see", "products.edit"}),
        ("root", set(), {"dashboard.see"}),
    ],
)
def test_other_roles_do_their_work_and_no_more(role: str, yes: set[str], no: set[str]) -> None:
    assert {one for one in yes | no if may(role, Permission(one))} == yes


@pytest.mark.parametrize("standing", [Standing.LAPSED, Standing.SUSPENDED, Standing.CLOSING])
def test_a_shop_that_is_not_open_is_looked_at_and_only_its_staff_changes(standing: Standing) -> None:
    allowed = {one for one in Permission if may("owner", one, standing)}
    assert {one for one in allowed if not one.endswith(".see")} == {Permission.EDIT_STAFF}
    assert Permission.SEE_BOOKS in allowed


def test_of_a_closed_shop_only_the_owner_sees_anything() -> None:
    assert may("owner", Permission.SEE_BOOKS, Standing.CLOSED)
    assert not may("owner", Permission.EDIT_STAFF, Standing.CLOSED)
    assert not any(may(role, one, Standing.CLOSED) for role in ROLES if role != "owner" for one in Permission)
