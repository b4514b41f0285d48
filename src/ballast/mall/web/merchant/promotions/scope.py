"""The part of a form that says which goods a promotion is for: all, some categories, or products that are looked for."""

from __future__ import annotations

from typing import Any

from ballast.mall import pick
from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredScope
from ballast.mall.web.forms import Form
from ballast.mall.web.merchant.typed import ids


def read(sent: Form) -> StoredScope:
    """What was chosen. Refused where nothing was, though it should be."""
    match sent.text("scope"):
        case "categories":
            scope = StoredScope(categories=ids(sent, "category"))
        case "products":
            scope = StoredScope(products=ids(sent, "product"))
        case _:
            return StoredScope()
    if scope == StoredScope():
        raise Refused("promotion.scope", "No category or product is chosen.", "Choose one at least, or all goods.")
    return scope


async def choices(connection: Connection, sent: Form) -> dict[str, Any]:
    """For the template: categories, the products that are chosen, and others that were looked for."""
    chosen = ids(sent, "product")
    found = await pick.products(connection, sent.text("q"))
    return {
        "categories": await pick.categories(connection),
        "chosen_products": await pick.products_of(connection, chosen),
        "found_products": [one for one in found if one.product_id not in chosen],
        "chosen_categories": ids(sent, "category"),
    }
