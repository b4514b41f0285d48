"""The sandbox provider's addresses: for merchants `/v1/payments` and `/v1/refunds` (signed), for browsers `/pay/<code>`.

Four addresses need no framework, whose part of an order's time would be a third of this program's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar.types import ASGIApp, LifeSpanReceive, LifeSpanSend, Receive, Scope, Send

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
_HTML = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
_JSON = ((b"content-type", b"application/json"),)
_LONGEST = 1 << 16
_Headers = tuple[tuple[bytes, bytes], ...]


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


class Said(Exception):
    """What is answered instead: a status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Answer(msgspec.Struct, frozen=True):
    """An answer."""

    body: bytes = b""
    status: int = 200
    headers: _Headers = _JSON


def create_sandbox(secret: str, base_url: str, path: Path | str, behaviour: Behaviour = Behaviour()) -> ASGIApp:
    """The application.

    Args:
        secret: the mall's (`Settings.secret`): keys of shops are derived from it.
        base_url: how browsers reach it.
        path: of its SQLite file; ":memory:" forgets all.
    """
    return _Application(secret, base_url.rstrip("/"), Ledger(path), behaviour)


class _Application:
    def __init__(self, secret: str, base_url: str, ledger: Ledger, behaviour: Behaviour) -> None:
        self._secret, self._base_url, self._ledger = secret, base_url, ledger
        self._delivery = Delivery(ledger, secret, behaviour)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if str(scope["type"]) == "lifespan":
            await self._live(cast(LifeSpanReceive, receive), cast(LifeSpanSend, send))
        elif str(scope["type"]) == "http":
            try:
                answer = await self._answer(scope, receive)
            except Said as error:
                answer = Answer(msgspec.json.encode({"detail": error.why}), error.status)
            length = (b"content-length", b"%d" % len(answer.body))
            headers = [*answer.headers, length]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body, "more_body": False})

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        """As long as the process: it delivers."""
        await receive()
        task = asyncio.create_task(self._delivery.run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._ledger.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Any, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        headers = dict(scope["headers"])
        if path.startswith("/pay/"):
            payment = self._payment(path.removeprefix("/pay/"))
            if method == "GET":
                return _page(payment, english=_speaks_english(scope["query_string"], headers))
            if method == "POST":
                return await self._decide(payment, await _body(receive))
        elif path in ("/v1/payments", "/v1/refunds"):
            if method == "POST":
                body = await _body(receive)
                done = self._open_payment if path == "/v1/payments" else self._open_refund
                return Answer(msgspec.json.encode(done(body, headers)))
        else:
            raise Said(404, "There is nothing here.")
        raise Said(405, f"{method} is not for here.")

    def _open_payment(self, body: bytes, headers: dict[bytes, bytes]) -> dict[str, str]:
        """Begin a payment, or find the one that was begun."""
        asked = self._signed(body, headers, PaymentAsked)
        if asked.amount_fen < 1:
            raise Said(400, "A payment is of at least one fen.")
        found = self._ledger.open_payment(
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
            raise Said(400, "This reference was used for another amount.")
        return {"code": found["code"], "pay_url": f"{self._base_url}/pay/{found['code']}"}

    def _open_refund(self, body: bytes, headers: dict[bytes, bytes]) -> dict[str, str]:
        """Pay back a part or all of a payment."""
        asked = self._signed(body, headers, RefundAsked)
        ledger = self._ledger
        payment = ledger.one(
            "SELECT * FROM payment WHERE merchant = :merchant AND reference = :reference",
            merchant=str(asked.merchant),
            reference=str(asked.payment),
        )
        if payment is None or payment["status"] != "paid":
            raise Said(400, "There is no such payment that was paid.")
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
            raise Said(400, "More cannot go back than was paid.")
        status = "failed" if self._delivery.behaviour.refuse_refunds else "succeeded"
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
            self._delivery.tell(payment, f"refund.{status}", str(asked.reference), code, asked.amount_fen)
        return {"code": code}

    async def _decide(self, payment: dict[str, Any], body: bytes) -> Answer:
        """The shopper pays or declines; the browser goes back to the shop, the shop is told by a callback."""
        said = parse_qs(body.decode("latin-1")).get("decision", [""])[-1]
        paid = said == "pay" and payment["expires_at"] >= time.time()
        told = None
        with self._ledger.whole():  # whoever has paid is told of
            if self._ledger.run(
                "UPDATE payment SET status = :status WHERE code = :code AND status = 'open'",
                status="paid" if paid else "declined",
                code=payment["code"],
            ):
                kind = "payment.succeeded" if paid else "payment.failed"
                told = self._delivery.tell(payment, kind, payment["reference"], payment["code"], payment["amount_fen"])
        if told is not None and self._delivery.behaviour.redirect_wait_s > 0:
            await self._delivery.heard(told)
        return Answer(status=303, headers=((b"location", payment["return_url"].encode()),))

    def _payment(self, code: str) -> dict[str, Any]:
        found = self._ledger.one("SELECT * FROM payment WHERE code = :code", code=code)
        if found is None:
            raise Said(404, "There is no such payment.")
        return found

    def _signed(self, body: bytes, headers: dict[bytes, bytes], kind: Any) -> Any:
        try:
            asked = msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise Said(400, f"This cannot be read: {error}") from error
        key = signing.key_of(self._secret, asked.merchant)
        header = headers.get(signing.HEADER.encode(), b"").decode("latin-1")
        if not signing.verify(key, body, header, int(time.time())):
            raise Said(401, "The signature does not hold.")
        return asked


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Said(400, "The request broke off.")
        body += message.get("body", b"")
        if len(body) > _LONGEST:
            raise Said(413, "That is too much.")
        if not message.get("more_body"):
            return body


def _page(payment: dict[str, Any], *, english: bool) -> Answer:
    """What the shopper sees."""
    language = "en" if english else "zh"
    shown = "expired" if payment["status"] == "open" and payment["expires_at"] < time.time() else payment["status"]
    page = _templates.get_template("pay.html").render(
        t=_TEXTS[language], language=language, payment=payment, shown=shown, yuan=f"{payment['amount_fen'] / 100:,.2f}"
    )
    return Answer(page.encode(), headers=_HTML)


def _speaks_english(query: bytes, headers: dict[bytes, bytes]) -> bool:
    asked = parse_qs(query.decode("latin-1")).get("lang", [""])[-1]
    return (asked or headers.get(b"accept-language", b"zh").decode("latin-1")).lower().startswith("en")
