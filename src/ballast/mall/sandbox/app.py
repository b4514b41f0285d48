"""The sandbox provider's addresses: for merchants `/v1/payments` and `/v1/refunds` (signed), for browsers `/pay/<code>`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import ClientException, NotAuthorizedException, NotFoundException
from litestar.response import Redirect

from ballast.mall.payments import signing
from ballast.mall.sandbox.delivery import Behaviour, Delivery
from ballast.mall.sandbox.ledger import Ledger

_TEXTS = {
    "zh": {
        "title": "沙盒支付",
        "notice": "这是测试支付，不会产生任何真实扣款。",
        "order": "订单",
        "pay": "确认支付",
        "decline": "放弃支付",
        "expired": "支付时间已过。",
        "paid": "已支付。",
        "declined": "支付已放弃。",
        "back": "返回商城",
    },
    "en": {
        "title": "Sandbox payment",
        "notice": "This is a test. No money moves.",
        "order": "Order",
        "pay": "Pay",
        "decline": "Decline",
        "expired": "The time to pay is over.",
        "paid": "Paid.",
        "declined": "Payment declined.",
        "back": "Back to the shop",
    },
}
_templates = Environment(
    loader=PackageLoader("ballast.mall.sandbox", "templates"), autoescape=True, undefined=StrictUndefined
)
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


class PaymentAsked(msgspec.Struct, frozen=True):
    """A merchant begins a payment. `reference` is his own id of it: asking again is the same payment."""

    merchant: UUID
    reference: UUID
    amount_fen: int
    title: str
    expires_at: datetime
    return_url: str
    callback_url: str


class RefundAsked(msgspec.Struct, frozen=True):
    """A merchant pays back, of the payment of his reference. A refund that failed may be asked for again."""

    merchant: UUID
    reference: UUID
    payment: UUID
    amount_fen: int


def create_sandbox(secret: str, base_url: str, path: Path | str, behaviour: Behaviour = Behaviour()) -> Litestar:
    """The application.

    Args:
        secret: the mall's (`Settings.secret`): keys of shops are derived from it.
        base_url: how browsers reach it.
        path: of its SQLite file; ":memory:" forgets all.
    """
    ledger = Ledger(path)
    delivery = Delivery(ledger, secret, behaviour)

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(delivery.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            ledger.close()

    state = {"ledger": ledger, "delivery": delivery, "secret": secret, "base_url": base_url.rstrip("/")}
    return Litestar(
        [open_payment, open_refund, pay_page, decide],
        lifespan=[lifespan],
        state=State(state),
        openapi_config=None,
        request_max_body_size=1 << 16,
    )


@post("/v1/payments", status_code=200)
async def open_payment(request: Request[Any, Any, State], state: State) -> dict[str, str]:
    """Begin a payment, or find the one that was begun."""
    asked = await _signed(request, state, PaymentAsked)
    if asked.amount_fen < 1:
        raise ClientException("A payment is of at least one fen.")
    found = state.ledger.open_payment(
        {
            "merchant": str(asked.merchant),
            "reference": str(asked.reference),
            "amount_fen": asked.amount_fen,
            "title": asked.title,
            "expires_at": asked.expires_at.timestamp(),
            "return_url": asked.return_url,
            "callback_url": asked.callback_url,
        }
    )
    if found["amount_fen"] != asked.amount_fen:
        raise ClientException("This reference was used for another amount.")
    return {"code": found["code"], "pay_url": f"{state.base_url}/pay/{found['code']}"}


@post("/v1/refunds", status_code=200)
async def open_refund(request: Request[Any, Any, State], state: State) -> dict[str, str]:
    """Pay back a part or all of a payment."""
    asked = await _signed(request, state, RefundAsked)
    ledger: Ledger = state.ledger
    delivery: Delivery = state.delivery
    payment = ledger.one(
        "SELECT * FROM payment WHERE merchant = :merchant AND reference = :reference",
        merchant=str(asked.merchant),
        reference=str(asked.payment),
    )
    if payment is None or payment["status"] != "paid":
        raise ClientException("There is no such payment that was paid.")
    begun = ledger.one(
        "SELECT code FROM refund WHERE payment = :code AND reference = :reference AND status = 'succeeded'",
        code=payment["code"],
        reference=str(asked.reference),
    )
    if begun:
        return {"code": begun["code"]}
    back = ledger.one(
        "SELECT COALESCE(sum(amount_fen), 0) AS fen FROM refund WHERE payment = :code AND status = 'succeeded'",
        code=payment["code"],
    )
    if back is None or asked.amount_fen < 1 or back["fen"] + asked.amount_fen > payment["amount_fen"]:
        raise ClientException("More cannot go back than was paid.")
    status = "failed" if delivery.behaviour.refuse_refunds else "succeeded"
    code = secrets.token_urlsafe(12)
    with ledger.whole():
        ledger.run(
            "INSERT INTO refund VALUES (:code, :payment, :reference, :amount_fen, :status)",
            code=code,
            payment=payment["code"],
            reference=str(asked.reference),
            amount_fen=asked.amount_fen,
            status=status,
        )
        delivery.tell(payment, f"refund.{status}", str(asked.reference), code, asked.amount_fen)
    return {"code": code}


@get("/pay/{code:str}", media_type=MediaType.HTML)
async def pay_page(request: Request[Any, Any, State], code: str, state: State) -> Response[str]:
    """What the shopper sees."""
    payment = _payment(state, code)
    language = "en" if _speaks_english(request) else "zh"
    shown = "expired" if payment["status"] == "open" and payment["expires_at"] < time.time() else payment["status"]
    page = _templates.get_template("pay.html").render(
        t=_TEXTS[language], language=language, payment=payment, shown=shown, yuan=f"{payment['amount_fen'] / 100:,.2f}"
    )
    return Response(page, media_type=MediaType.HTML, headers=_HEADERS)


@post("/pay/{code:str}", status_code=303)
async def decide(request: Request[Any, Any, State], code: str, state: State) -> Redirect:
    """The shopper pays or declines; the browser goes back to the shop, the shop is told by a callback."""
    payment = _payment(state, code)
    delivery: Delivery = state.delivery
    form = await request.form()
    paid = form.get("decision") == "pay" and payment["expires_at"] >= time.time()
    told = None
    with state.ledger.whole():  # whoever has paid is told of
        if state.ledger.run(
            "UPDATE payment SET status = :status WHERE code = :code AND status = 'open'",
            status="paid" if paid else "declined",
            code=code,
        ):
            kind = "payment.succeeded" if paid else "payment.failed"
            told = delivery.tell(payment, kind, payment["reference"], code, payment["amount_fen"])
    if told is not None and delivery.behaviour.redirect_wait_s > 0:
        await delivery.heard(told)
    return Redirect(payment["return_url"], status_code=303)


def _payment(state: State, code: str) -> dict[str, Any]:
    ledger: Ledger = state.ledger
    found = ledger.one("SELECT * FROM payment WHERE code = :code", code=code)
    if found is None:
        raise NotFoundException("There is no such payment.")
    return found


async def _signed(request: Request[Any, Any, State], state: State, kind: Any) -> Any:
    body = await request.body()
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ClientException(f"This cannot be read: {error}") from error
    key = signing.key_of(state.secret, asked.merchant)
    if not signing.verify(key, body, request.headers.get(signing.HEADER, ""), int(time.time())):
        raise NotAuthorizedException("The signature does not hold.")
    return asked


def _speaks_english(request: Request[Any, Any, State]) -> bool:
    chosen = request.query_params.get("lang") or request.headers.get("accept-language", "zh")
    return str(chosen).lower().startswith("en")
