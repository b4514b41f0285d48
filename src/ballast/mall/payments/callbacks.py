"""What providers tell us: verified, each once, in any order; and asking them to pay back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import aftersales, deeds, exceptions, outbox, queries
from ballast.mall.db import Connection, Database
from ballast.mall.deed_kinds import Callback
from ballast.mall.order_life import Locked, locking
from ballast.mall.payments import received
from ballast.mall.payments.provider import Notice, Provider, ProviderRefused
from ballast.mall.payments.providers import SETTLING
from ballast.mall.round_trips import gather, later
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused

_log = logging.getLogger(__name__)


class UnknownReference(Refused):
    """A callback names a payment or a refund that this shop does not have."""

    def __init__(self, notice: Notice) -> None:
        super().__init__(
            "callback.unknown", f"This shop has asked for no {notice.kind.split('.')[0]} {notice.reference}."
        )


async def take(
    db: Database, shop_id: UUID, provider: Provider, headers: Mapping[str, str], body: bytes, now: datetime
) -> str:
    """Hear a callback. Whatever is returned, the provider is to be told that it was heard.

    Returns:
        What was made of it: `paid`, `sent_back` (a payment that was not due), `failed`, `refunded`, `known` (told before, by
        another callback), `repeated` (this callback once more), `overtaken` (an older truth), `amount_differs` (nothing was
        done; somebody has to look), `kept` (with an order that the shop has to decide about).

    Raises:
        Forged: it is not the provider's. UnknownReference. Busy, psycopg.Error: it is to be sent again.
    """
    notice = provider.read(shop_id, headers, body, now)
    async with db.shop(shop_id) as connection:
        outcome = await hear(connection, notice, provider.name, body.decode(errors="replace"), now)
    if outcome == "amount_differs":
        _log.error("shop %s: %s %s came with an amount that differs", shop_id, notice.kind, notice.reference)
    return outcome


async def hear(connection: Connection, notice: Notice, provider: str, body: str, now: datetime) -> str:
    """What was verified, in a transaction of the shop. Returns and raises as `take`."""
    text = queries.load("payments")
    this = {"provider": provider, "callback_id": notice.callback_id}
    # All callbacks of an order wait for each other here: what was heard is seen then. (A refund's id is that of no payment.)
    held, told = await gather(
        connection,
        locking(notice.reference, provider, of_refund=notice.kind.startswith("refund.")),
        (text.heard, {**this, "reference": notice.reference}),
    )
    row, there = await held.fetchone(), await told.fetchone()
    if row is None:
        return await _kept_apart(connection, notice, provider, body, now)
    assert there is not None  # it is one row at any rate
    order = msgspec.convert(row, Locked)
    if there["outcome"] is not None:
        deeds.of_no_weight(connection)
        return "repeated"
    outcome = await _apply(connection, order, there if there["payment_id"] else None, notice, provider, now)
    await later(
        connection,
        text.note_callback,
        {**this, "kind": notice.kind, "body": body, "outcome": outcome, "now": now},
    )
    deed = _deed(order.order_id, notice, provider, body, now)
    deeds.note(connection, "callback", deed, key=f"{provider}:{notice.callback_id}", urgent=True)
    return outcome


async def _kept_apart(connection: Connection, notice: Notice, provider: str, body: str, now: datetime) -> str:
    """Money for an order that the shop has to decide about waits with it."""
    order_id = await exceptions.order_of_payment(connection, notice.reference, provider)
    if order_id is None:
        raise UnknownReference(notice)
    deed = _deed(order_id, notice, provider, body, now)
    key = f"{provider}:{notice.callback_id}"
    await exceptions.follow(connection, f"callback:{key}", "callback", deed, now)
    deeds.note(connection, "callback", deed, key=key, urgent=True)
    return "kept"


def _deed(order_id: UUID, notice: Notice, provider: str, body: str, now: datetime) -> Callback:
    return Callback(
        order_id,
        provider,
        notice.callback_id,
        notice.kind,
        notice.reference,
        notice.code,
        notice.amount_fen,
        body,
        now,
    )


async def hear_again(connection: Connection, deed: Callback) -> str:
    """What was heard elsewhere."""
    notice = Notice(deed.callback_id, deed.kind, deed.reference, deed.code, deed.amount_fen)
    return await hear(connection, notice, deed.provider, deed.body, deed.at)


async def _apply(
    connection: Connection,
    order: Locked,
    payment: dict[str, Any] | None,
    notice: Notice,
    provider: str,
    now: datetime,
) -> str:
    if notice.kind.startswith("refund."):
        refund = await aftersales.get(connection, notice.reference)
        if notice.kind == "refund.failed":
            # A failure of an earlier attempt says nothing of the one that is under way.
            if refund.provider_code not in (None, notice.code):
                return "overtaken"
            return await aftersales.failed(connection, notice.reference, now=now)
        if refund.amount_fen != notice.amount_fen:
            return await _differs(connection, notice, refund.amount_fen, now)
        return await aftersales.succeeded(connection, notice.reference, actor=f"provider:{provider}", now=now)
    text = queries.load("payments")
    if payment is None:
        raise UnknownReference(notice)
    if notice.kind == "payment.failed":
        if payment["status"] != "created":
            return "overtaken"
        await connection.execute(text.failed, {"payment_id": notice.reference})
        return "failed"
    if payment["amount_fen"] != notice.amount_fen:
        return await _differs(connection, notice, payment["amount_fen"], now)
    return await received.succeeded(connection, order, payment, code=notice.code, now=now)


async def _differs(connection: Connection, notice: Notice, expected_fen: int, now: datetime) -> str:
    body = {
        "kind": notice.kind,
        "reference": notice.reference,
        "told_fen": notice.amount_fen,
        "expected_fen": expected_fen,
    }
    await outbox.write(connection, "payment.amount_differs", body, now)
    return "amount_differs"


async def send_refund(
    db: Database, shop_id: UUID, refund_id: UUID, providers: Mapping[str, Provider], now: datetime
) -> bool:
    """Ask the provider to pay a refund back: one that is to be sent, or that failed. Doing it twice pays once. One that settles
    by itself has paid it then.

    Returns:
        Whether the provider has taken it up now. Of a shop that is afloat nothing is sent: what it was to pay back is known for
        certain when it is home.

    Raises:
        ProviderAway: ask again later.
    """
    if db.afloat(shop_id):
        return False
    try:
        async with db.shop(shop_id) as connection:
            refund = await aftersales.get(connection, refund_id)
            if refund.status == RefundState.FAILED:
                await aftersales.pay_back(connection, refund_id, actor="job", now=now)
            elif refund.status != RefundState.PROCESSING or refund.provider_code:
                return False
            if here := SETTLING.get(refund.provider):
                given = (connection, refund_id, refund.payment_id, refund.order_id, refund.amount_fen, now)
                actor, pay = f"provider:{here.name}", partial(here.give_back, *given)
                await aftersales.succeeded(connection, refund_id, actor=actor, now=now, pay=pay)
                return True
    except ProviderRefused as error:
        async with db.shop(shop_id) as connection:
            await aftersales.failed(connection, refund_id, now=now, answer=error.what)
        return False
    if db.afloat(shop_id):  # by now
        return False
    provider = providers.get(refund.provider)
    if provider is None:
        _log.error("refund %s: no provider %s is set up here", refund_id, refund.provider)
        return False
    try:
        code = await provider.refund(shop_id, refund_id, refund.payment_id, amount_fen=refund.amount_fen)
    except ProviderRefused as error:
        async with db.shop(shop_id) as connection:
            await aftersales.failed(connection, refund_id, now=now, answer=error.what)
        return False
    async with db.shop(shop_id) as connection:
        await connection.execute(queries.load("aftersales").asked, {"refund_id": refund_id, "code": code})
    return True
