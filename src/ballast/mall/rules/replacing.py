"""Other goods in the place of those that a shop accepted and cannot send.

They cost the same or less than what was ordered, so that nobody pays for what he did not choose. What they are worth less than
was paid goes back, which it can only where something was paid.
"""

from __future__ import annotations

import msgspec

from ballast.mall.rules.refused import Refused


class Replaced(msgspec.Struct, frozen=True):
    """A line of an order that gets other goods. Amounts in fen."""

    quantity: int
    list_fen: int
    """Of one piece, when it was ordered, before all discounts."""
    total_fen: int
    """What the line costs."""


def goes_back_fen(line: Replaced, price_fen: int, *, paid: bool) -> int:
    """What goes back where the goods in its place cost `price_fen` a piece today.

    Raises:
        Refused: `replace.dearer`, `replace.unpaid` (they are cheaper than what has not been paid yet: that order can only be
            accepted as it is, or given up).
    """
    if price_fen > line.list_fen:
        raise Refused("replace.dearer", "These goods cost more than those that were ordered.", "Choose others.")
    less = max(0, line.total_fen - price_fen * line.quantity)
    if less and not paid:
        raise Refused(
            "replace.unpaid",
            "These goods cost less, and the order is not paid yet.",
            "Choose goods of the same price.",
        )
    return less
