"""How much of an order may go back, and the life of one refund.

Pieces: of a line that was paid with `paid_fen` for n pieces, the first k are worth floor(k · paid_fen / n) together. So every
further piece has its share to the fen, and all of them are worth exactly what was paid, in whatever steps they come back.
An amount of its own (a good-will refund, a fee kept back) may be asked for instead, up to what is left of the line.

Life of a refund (`REFUND` has every transition):

    requested ──approve────► approved ──────────────────────────send─► processing ──succeed─► succeeded
       └──────ask_return───► awaiting_return ─goods_back─► returned ─send─┘  ▲ fail    ▲
                                                                             ▼ │ send  │ succeed
                                                                             failed ───┘

Refused from requested and returned, withdrawn from requested and awaiting_return. A provider that said no may still say
yes afterwards (callbacks overtake each other): a failed refund can succeed, one that succeeded can never fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import msgspec

from ballast.mall.rules.machine import Machine
from ballast.mall.rules.refused import Refused


class RefundState(StrEnum):
    """Where a refund stands. Money moves only from `processing` on."""

    REQUESTED = "requested"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    AWAITING_RETURN = "awaiting_return"
    RETURNED = "returned"
    APPROVED = "approved"
    PROCESSING = "processing"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


class RefundEvent(StrEnum):
    """What happens to a refund."""

    APPROVE = "approve"
    """The merchant pays back without getting anything back."""
    ASK_RETURN = "ask_return"
    """The merchant approves; the goods have to come back first."""
    REFUSE = "refuse"
    """With a reason; also of goods that came back and are not as they must be."""
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    """The goods did not come back in time."""
    GOODS_BACK = "goods_back"
    SEND = "send"
    """The provider is asked to pay back, for the first time or again."""
    SUCCEED = "succeed"
    FAIL = "fail"


_S, _E = RefundState, RefundEvent
REFUND: Machine[RefundState, RefundEvent, RefundState] = Machine(
    "refund",
    {
        (_S.REQUESTED, _E.APPROVE): _S.APPROVED,
        (_S.REQUESTED, _E.ASK_RETURN): _S.AWAITING_RETURN,
        (_S.REQUESTED, _E.REFUSE): _S.REFUSED,
        (_S.REQUESTED, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.AWAITING_RETURN, _E.GOODS_BACK): _S.RETURNED,
        (_S.AWAITING_RETURN, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.AWAITING_RETURN, _E.EXPIRE): _S.WITHDRAWN,
        (_S.RETURNED, _E.SEND): _S.PROCESSING,
        (_S.RETURNED, _E.REFUSE): _S.REFUSED,
        (_S.APPROVED, _E.SEND): _S.PROCESSING,
        (_S.PROCESSING, _E.SUCCEED): _S.SUCCEEDED,
        (_S.PROCESSING, _E.FAIL): _S.FAILED,
        (_S.FAILED, _E.SEND): _S.PROCESSING,
        (_S.FAILED, _E.SUCCEED): _S.SUCCEEDED,
    },
)
OPEN = frozenset(_S) - {_S.REFUSED, _S.WITHDRAWN, _S.SUCCEEDED}
"""In these states a refund may still pay back: what it asks for cannot be asked for once more."""


class PaidLine(msgspec.Struct, frozen=True):
    """A line of a paid order. `refunded_*`: what succeeded and what is open (`OPEN`) together."""

    sku_id: UUID
    quantity: int
    paid_fen: int
    refunded_quantity: int = 0
    refunded_fen: int = 0

    @property
    def left_fen(self) -> int:
        """At most so much may still go back."""
        return self.paid_fen - self.refunded_fen

    @property
    def left_quantity(self) -> int:
        """So many pieces may still go back."""
        return self.quantity - self.refunded_quantity


class PaidOrder(msgspec.Struct, frozen=True):
    """What of an order may be refunded."""

    lines: tuple[PaidLine, ...]
    shipping_fen: int = 0
    shipping_refunded_fen: int = 0

    @property
    def left_fen(self) -> int:
        """At most so much may still go back, with shipping."""
        return sum(line.left_fen for line in self.lines) + self.shipping_fen - self.shipping_refunded_fen


class RefundItem(msgspec.Struct, frozen=True):
    """What is asked for of one line: pieces, and/or an amount (None: what these pieces are worth)."""

    sku_id: UUID
    quantity: int
    amount_fen: int | None = None


class PlannedItem(msgspec.Struct, frozen=True):
    """What of one line goes back."""

    sku_id: UUID
    quantity: int
    amount_fen: int


class Plan(msgspec.Struct, frozen=True):
    """A refund that is possible. `full`: with it (and all that is open) everything that was paid is back."""

    items: tuple[PlannedItem, ...]
    shipping_fen: int
    total_fen: int
    full: bool


def worth_fen(line: PaidLine, quantity: int) -> int:
    """What the next `quantity` pieces of the line are worth, never more than what is left of it."""
    done = line.refunded_quantity
    share = (done + quantity) * line.paid_fen // line.quantity - done * line.paid_fen // line.quantity
    return min(share, line.left_fen)


def everything(order: PaidOrder) -> Plan:
    """All that is left of the order."""
    items = tuple(
        PlannedItem(x.sku_id, x.left_quantity, x.left_fen) for x in order.lines if x.left_quantity or x.left_fen
    )
    return Plan(items, order.shipping_fen - order.shipping_refunded_fen, order.left_fen, full=True)


def plan(order: PaidOrder, items: Sequence[RefundItem], shipping_fen: int = 0) -> Plan:
    """The refund of these items and so much of the shipping. Refused where it is more than what is left, or nothing."""
    lines = {line.sku_id: line for line in order.lines}
    if len({item.sku_id for item in items}) < len(items):
        raise Refused("refund.line_twice", "A refund names a line twice.", "Put them together.")
    planned = tuple(_planned(lines.get(item.sku_id), item) for item in items)
    left = order.shipping_fen - order.shipping_refunded_fen
    if not 0 <= shipping_fen <= left:
        raise Refused(
            "refund.too_much_shipping",
            f"{shipping_fen} fen of shipping cannot go back: {left} fen of it are left.",
            left_fen=left,
        )
    total = sum(item.amount_fen for item in planned) + shipping_fen
    if not total and not any(item.quantity for item in planned):
        raise Refused("refund.nothing", "A refund of nothing was asked for.", "Name pieces, an amount or shipping.")
    return Plan(planned, shipping_fen, total, full=total == order.left_fen)


def _planned(line: PaidLine | None, item: RefundItem) -> PlannedItem:
    if line is None:
        raise Refused("refund.unknown_line", f"The order has no line of SKU {item.sku_id}.", "Name one of its lines.")
    if not 0 <= item.quantity <= line.left_quantity:
        raise Refused(
            "refund.too_many_pieces",
            f"{item.quantity} pieces of SKU {item.sku_id} cannot go back: {line.left_quantity} are left.",
            left=line.left_quantity,
        )
    amount = worth_fen(line, item.quantity) if item.amount_fen is None else item.amount_fen
    if not 0 <= amount <= line.left_fen:
        raise Refused(
            "refund.too_much",
            f"{amount} fen of SKU {item.sku_id} cannot go back: {line.left_fen} fen are left.",
            left_fen=line.left_fen,
        )
    return PlannedItem(item.sku_id, item.quantity, amount)
