"""What a payment provider has to be able to do; and one that is the shop itself (`Settling`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from ballast.errors import BallastError
from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused


class ProviderAway(BallastError):
    """The provider cannot be reached, or has trouble of its own. Asking again later is safe: it goes by our ids."""


class ProviderRefused(Refused):
    """The provider will not do it."""


class Forged(BallastError):
    """A callback that the provider did not send, or that is too old to tell."""


class Opened(msgspec.Struct, frozen=True):
    """A payment that a provider has taken up."""

    code: str
    """The provider's own number of it."""
    pay_url: str
    """Where the shopper's browser goes to pay."""


class Notice(msgspec.Struct, frozen=True):
    """What a provider tells us in a callback, verified."""

    callback_id: str
    kind: Literal["payment.succeeded", "payment.failed", "refund.succeeded", "refund.failed"]
    reference: UUID
    """Our payment_id or refund_id."""
    code: str
    """The provider's number of it."""
    amount_fen: int


class Provider(Protocol):
    """One provider. All its calls may be repeated: the same id is the same payment, the same refund."""

    @property
    def name(self) -> str:
        """As in mall.payment.provider and in the callback's address."""

    async def create(
        self, shop_id: UUID, payment_id: UUID, *, amount_fen: int, title: str, expires_at: datetime, return_url: str
    ) -> Opened:
        """Begin a payment. Raises ProviderAway, ProviderRefused."""

    async def refund(self, shop_id: UUID, refund_id: UUID, payment_id: UUID, *, amount_fen: int) -> str:
        """Ask to pay back; what becomes of it is told by a callback. A refund that failed is tried again.

        Returns:
            The provider's number of it.

        Raises:
            ProviderAway, ProviderRefused
        """

    async def close(self) -> None:
        """Close its connections; the next call opens others."""

    def read(self, shop_id: UUID, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """Verify and read a callback for this shop. Raises Forged."""


class Settling(Protocol):
    """A provider that is the shop itself: what it is asked for is done in the transaction of who asks, or not at all. Nothing is
    begun, no callback comes, and nobody can be away."""

    @property
    def name(self) -> str:
        """As in mall.payment.provider."""

    async def give_back(
        self, connection: Connection, refund_id: UUID, payment_id: UUID, order_id: UUID, amount_fen: int, now: datetime
    ) -> None:
        """Pay back. Raises ProviderRefused; an error of the database where it was done before."""
