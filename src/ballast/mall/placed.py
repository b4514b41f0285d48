"""What became of an order that somebody placed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall.rules.states import Status


class Placed(msgspec.Struct, frozen=True):
    """An order that was placed, now or (`repeated`) by an earlier request with the same key."""

    order_id: UUID
    number: str
    total_fen: int
    pay_by: datetime
    status: Status = Status.PENDING_PAYMENT
    repeated: bool = False
