"""Beginning a payment: our row first, then the provider, then where to pay. Broken off in between, it is taken up again.

With its order (`Asking`) both are done at the same time (`docs/decisions/0025-begun-with-its-order.md`)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

import msgspec

from ballast.mall import deeds, queries
from ballast.mall.db import Connection, Database
from ballast.mall.deed_kinds import PaymentBegun, PaymentOpened
from ballast.mall.ids import new_id
from ballast.mall.order_life import Locked, lock
from ballast.mall.owner import Owner
from ballast.mall.payments.provider import Opened, Provider
from ballast.mall.placed import Placed
from ballast.mall.round_trips import later
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status


class Payment(msgspec.Struct, frozen=True):
    """A payment of an order."""

    payment_id: UUID
    provider: str
    provider_code: str | None
    amount_fen: int
    status: Literal["created", "succeeded", "failed", "closed"]
    undue: bool
    """It came when nothing was due, and goes back."""
    created_at: datetime
    succeeded_at: datetime | None
    card_id: UUID | None = None
    """The gift card that paid, and how its code ends."""
    last4: str | None = None


class Begun(msgspec.Struct, frozen=True):
    """A payment of an order that has its row; where it is paid, once the provider has said so."""

    payment_id: UUID
    order_id: UUID
    number: str
    """The order's."""
    amount_fen: int
    pay_by: datetime
    pay_url: str = ""


async def start(
    db: Database,
    shop_id: UUID,
    order_id: UUID,
    provider: Provider,
    *,
    owner: Owner | None,
    return_url: str,
    now: datetime,
) -> str:
    """Begin to pay an order, or go on where it was begun.

    Args:
        owner: whose order it must be; None for the API of the shop's own software.
        return_url: where the provider sends the shopper's browser afterwards.

    Returns:
        The address at the provider to which the browser goes.

    Raises:
        Refused: `payment.not_due` (paid, cancelled, or its time is over); order_life.Unknown; ProviderAway; ProviderRefused.
    """
    async with db.shop(shop_id) as connection:
        begun = await begin(connection, order_id, provider, owner=owner, now=now)
    return await ask(db, shop_id, begun, provider, return_url=return_url)


async def begin(
    connection: Connection, order_id: UUID, provider: Provider, *, owner: Owner | None, now: datetime
) -> Begun:
    """The first half of `start`, in a transaction of its caller: our row.

    Raises:
        Refused: `payment.not_due`; order_life.Unknown.
    """
    text = queries.load("payments")
    order = await lock(connection, order_id, owner)
    if order.status != Status.PENDING_PAYMENT or order.pay_by <= now:
        raise Refused("payment.not_due", f"Order {order.number} does not wait for a payment.", "Look at the order.")
    made = PaymentBegun(order_id, order.owner_id, new_id(), provider.name, order.total_fen, now)
    new = await connection.execute(text.begin, _row(made))
    if await new.fetchone() is not None:
        deeds.note(connection, "payment_begun", made, key=str(made.payment_id))
        return _begun(made.payment_id, order)
    deeds.of_no_weight(connection)
    cursor = await connection.execute(text.reusable, {"order_id": order_id, "provider": provider.name})
    there = await cursor.fetchone()
    assert there is not None
    return _begun(there["payment_id"], order, there["pay_url"] or "")


class Asking:
    """A payment that begins with its order. The provider is asked while the order is written; where it is paid is told when both
    are done, and to nobody where the order is not: nothing can be paid then, and what the provider has taken up is over with
    its time. It is not kept either: the provider says the same again to whoever asks later (`start`).
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._asked: asyncio.Task[Opened] | None = None

    def begin(self, shop_id: UUID, owner: Owner, placed: Placed, return_url: str, now: datetime) -> PaymentBegun:
        """Its row, for `checkout.place`."""
        made = PaymentBegun(placed.order_id, owner.id, new_id(), self._provider.name, placed.total_fen, now)
        begun = Begun(made.payment_id, placed.order_id, placed.number, placed.total_fen, placed.pay_by)
        self._asked = asyncio.create_task(_open(self._provider, shop_id, begun, return_url))
        return made

    @property
    def begun(self) -> bool:
        """Whether it was."""
        return self._asked is not None

    async def pay_url(self) -> str:
        """Where it is paid, once the order is committed. Raises ProviderAway, ProviderRefused."""
        assert self._asked is not None
        return (await self._asked).pay_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nobody wants to know any more what was asked."""
        if self._asked is not None and not self._asked.done():
            self._asked.cancel()
            await asyncio.wait([self._asked])
        if self._asked is not None and not self._asked.cancelled():
            self._asked.exception()  # heard of, or of no interest


async def ask(db: Database, shop_id: UUID, begun: Begun, provider: Provider, *, return_url: str) -> str:
    """The second half of `start`, after the commit of the first. Returns and raises as it does."""
    if begun.pay_url:
        return begun.pay_url
    opened = await _open(provider, shop_id, begun, return_url)
    async with db.shop(shop_id) as connection:
        await open_made(connection, PaymentOpened(begun.order_id, begun.payment_id, opened.code, opened.pay_url))
    return opened.pay_url


async def _open(provider: Provider, shop_id: UUID, begun: Begun, return_url: str) -> Opened:
    return await provider.create(
        shop_id,
        begun.payment_id,
        amount_fen=begun.amount_fen,
        title=begun.number,
        expires_at=begun.pay_by,
        return_url=return_url,
    )


async def begin_again(connection: Connection, deed: PaymentBegun) -> None:
    """A payment that was begun elsewhere is there, whatever became of its order: money may come by it. Unknown: no such
    order."""
    await lock(connection, deed.order_id)
    await connection.execute(*beginning(deed))


def beginning(deed: PaymentBegun) -> tuple[str, dict[str, Any]]:
    """The statement that writes its row, where it is not there."""
    return queries.load("payments").begin_again, _row(deed)


async def open_made(connection: Connection, deed: PaymentOpened) -> None:
    """The provider has taken it up."""
    given = {"payment_id": deed.payment_id, "code": deed.code, "pay_url": deed.pay_url}
    await later(connection, queries.load("payments").opened, given)
    deeds.note(connection, "payment_opened", deed, key=str(deed.payment_id))


def _begun(payment_id: UUID, order: Locked, pay_url: str = "") -> Begun:
    return Begun(payment_id, order.order_id, order.number, order.total_fen, order.pay_by, pay_url)


def _row(deed: PaymentBegun) -> dict[str, Any]:
    return {
        "payment_id": deed.payment_id,
        "order_id": deed.order_id,
        "provider": deed.provider,
        "amount_fen": deed.amount_fen,
        "now": deed.at,
    }


async def where_to_pay(connection: Connection, order_id: UUID, provider: str) -> str | None:
    """Where a payment that was begun is paid; None: none was begun, or its outcome is known."""
    cursor = await connection.execute(queries.load("payments").reusable, {"order_id": order_id, "provider": provider})
    row = await cursor.fetchone()
    return row["pay_url"] if row else None


async def of_order(connection: Connection, order_id: UUID) -> tuple[Payment, ...]:
    """The payments of an order, the first one first."""
    cursor = await connection.execute(queries.load("payments").of_order, {"order_id": order_id})
    return tuple(msgspec.convert(row, Payment) for row in await cursor.fetchall())
