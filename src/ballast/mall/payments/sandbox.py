"""The client of the sandbox provider (`ballast.mall.sandbox`): a provider for trying everything out, without money."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

import msgspec

from ballast.mall.payments import signing
from ballast.mall.payments.post import Failed, Post
from ballast.mall.payments.provider import Forged, Notice, Opened, ProviderAway, ProviderRefused
from ballast.mall.settings import Settings

_TIMEOUT_S = 10.0
T = TypeVar("T")


class _Told(msgspec.Struct, frozen=True):
    """The body of a callback."""

    callback_id: str
    kind: Literal["payment.succeeded", "payment.failed", "refund.succeeded", "refund.failed"]
    reference: UUID
    code: str
    amount_fen: int


class _Refunded(msgspec.Struct, frozen=True):
    """What is answered to a refund."""

    code: str


class Sandbox:
    """One for a process: it keeps its connections."""

    name = "sandbox"

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.secret
        self._callback = f"{settings.base_url.rstrip('/')}/pay/callback/{self.name}"
        self._provider = settings.sandbox_url.rstrip("/")
        self._post = Post(_TIMEOUT_S)

    async def close(self) -> None:
        """Close its connections."""
        await self._post.close()

    async def create(
        self, shop_id: UUID, payment_id: UUID, *, amount_fen: int, title: str, expires_at: datetime, return_url: str
    ) -> Opened:
        """See `provider.Provider`."""
        asked = {
            "merchant": shop_id,
            "reference": payment_id,
            "amount_fen": amount_fen,
            "title": title,
            "expires_at": expires_at,
            "return_url": return_url,
            "callback_url": f"{self._callback}/{shop_id}",
        }
        return await self._ask("/v1/payments", shop_id, asked, Opened)

    async def refund(self, shop_id: UUID, refund_id: UUID, payment_id: UUID, *, amount_fen: int) -> str:
        """See `provider.Provider`."""
        asked = {
            "merchant": shop_id,
            "reference": refund_id,
            "payment": payment_id,
            "amount_fen": amount_fen,
        }
        return (await self._ask("/v1/refunds", shop_id, asked, _Refunded)).code

    def read(self, shop_id: UUID, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """See `provider.Provider`."""
        header = headers.get(signing.HEADER, "")
        if not signing.verify(signing.key_of(self._secret, shop_id), body, header, int(now.timestamp())):
            raise Forged("a callback of the sandbox provider has no signature that holds", "Nothing was done.")
        try:
            told = msgspec.json.decode(body, type=_Told)
        except msgspec.DecodeError as error:
            raise Forged(f"a callback of the sandbox provider cannot be read: {error}", "Nothing was done.") from error
        return Notice(told.callback_id, told.kind, told.reference, told.code, told.amount_fen)

    async def _ask(self, path: str, shop_id: UUID, asked: Mapping[str, object], kind: type[T]) -> T:
        body = msgspec.json.encode(asked)
        signature = signing.sign(signing.key_of(self._secret, shop_id), body, int(time.time()))
        try:
            status, answer = await self._post.send(f"{self._provider}{path}", body, {signing.HEADER: signature})
        except Failed as error:
            raise ProviderAway(f"the sandbox provider cannot be reached: {error!r}", "Try again later.") from error
        if status >= 500:
            raise ProviderAway(f"the sandbox provider answered {status}", "Try again later.")
        if status >= 400:
            said = answer.decode(errors="replace")[:200]
            raise ProviderRefused("payment.refused", f"The provider says no: {said}", "Try another way.")
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.DecodeError as error:
            raise ProviderAway(f"the sandbox provider's answer cannot be read: {error}", "Try again later.") from error
