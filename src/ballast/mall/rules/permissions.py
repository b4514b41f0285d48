"""Who may do what in a shop: one table, role by role. What is not in it, nobody may."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from ballast.mall.rules.standing import Standing

Role = Literal["owner", "manager", "clerk", "finance", "viewer"]
ROLES: tuple[Role, ...] = ("owner", "manager", "clerk", "finance", "viewer")


class Permission(StrEnum):
    """What a page or an action of a shop asks for."""

    SEE_DASHBOARD = "dashboard.see"
    SEE_PRODUCTS = "products.see"
    EDIT_PRODUCTS = "products.edit"
    """products, categories, pictures, stock"""
    SEE_ORDERS = "orders.see"
    FULFIL_ORDERS = "orders.fulfil"
    """ship, note, cancel"""
    DECIDE_REFUNDS = "refunds.decide"
    SEE_CUSTOMERS = "customers.see"
    RESET_CUSTOMERS = "customers.reset"
    """give a customer a code for another password: who has it is that customer"""
    EDIT_PROMOTIONS = "promotions.edit"
    EDIT_PAGES = "pages.edit"
    SEE_GIFT_CARDS = "gift_cards.see"
    EDIT_GIFT_CARDS = "gift_cards.edit"
    """issue them, make them void"""
    SEE_BOOKS = "books.see"
    """postings, statements, what the shop pays to the platform"""
    EDIT_SETTINGS = "settings.edit"
    """the shop's data, shipping"""
    EDIT_STAFF = "staff.edit"
    EDIT_KEYS = "keys.edit"
    """API keys and webhooks"""
    SEE_AUDIT = "audit.see"


_SEEING = frozenset(one for one in Permission if one.endswith(".see"))
_EVERYDAY = frozenset(
    {Permission.SEE_DASHBOARD, Permission.SEE_PRODUCTS, Permission.SEE_ORDERS, Permission.SEE_CUSTOMERS}
)
_TABLE: dict[str, frozenset[Permission]] = {
    "owner": frozenset(Permission),
    "manager": frozenset(Permission) - {Permission.EDIT_STAFF, Permission.EDIT_KEYS},
    "clerk": _EVERYDAY | {Permission.EDIT_PRODUCTS, Permission.FULFIL_ORDERS},
    "finance": _EVERYDAY
    | {Permission.DECIDE_REFUNDS, Permission.SEE_BOOKS, Permission.SEE_GIFT_CARDS, Permission.EDIT_GIFT_CARDS},
    "viewer": frozenset({Permission.SEE_DASHBOARD, Permission.SEE_PRODUCTS, Permission.SEE_ORDERS}),
}


def may(role: str, permission: Permission, standing: Standing = Standing.OPEN) -> bool:
    """Whether a member of staff may do it, in a shop that stands so.

    A shop that is suspended, being closed or not paid for is looked at and not changed, but for its staff: who left must be
    removable at any time. Of a closed shop only the owner sees anything.
    """
    if role not in _TABLE or permission not in _TABLE[role]:
        return False
    match standing:
        case Standing.OPEN:
            return True
        case Standing.CLOSED:
            return role == "owner" and permission in _SEEING
        case _:
            return permission in _SEEING or permission is Permission.EDIT_STAFF
