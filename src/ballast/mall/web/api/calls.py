"""Who calls: a shopper, whose token is a visitor's, in the shop that the path names; or a shop's own software, by its key."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import (
    NotAuthorizedException,
    PermissionDeniedException,
    SerializationException,
    ValidationException,
)
from litestar.handlers.base import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter

from ballast.mall import audit, deeds, keys, visitors
from ballast.mall.catalog import Entry
from ballast.mall.db import Connection, Database
from ballast.mall.keys import Holder
from ballast.mall.owner import Owner
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Standing
from ballast.mall.settings import Settings
from ballast.mall.web.api.limits import header_of, limits_of
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import NotOpen, entry_of

Key = Annotated[
    str,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Made by the caller for this one deed. The same key with the same request gives the first answer again.",
    ),
]
Cursor = Annotated[
    str | None, QueryParameter(max_length=300, description="From `next` of the page before; none: the first page.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]
VISITOR = [{"visitor": list[str]()}]
"""The `security` of what needs a shopper's token."""
VISITOR_OR_NEW = [*VISITOR, dict[str, list[str]]()]
"""… and of what a program may begin with, before it has one."""


@dataclass(frozen=True)
class ShopCall:
    """A shopper's request, in the transaction of the shop."""

    entry: Entry
    connection: Connection
    now: datetime
    visitor: visitors.Visitor | None
    _owner: Owner | None = None

    @property
    def known(self) -> visitors.Visitor:
        """Who calls. Raises NotAuthorizedException where no token came."""
        if self.visitor is None:
            raise NotAuthorizedException
        return self.visitor

    @property
    def owner(self) -> Owner:
        """Whose cart and orders it is about. Raises NotAuthorizedException where no token came."""
        return self._owner or self.known.owner

    async def owner_or_new(self) -> tuple[Owner, str | None]:
        """Whose cart it is about. Who came without a token is a new guest, whose token is given as well."""
        if self._owner is not None or self.visitor is not None:
            return self.owner, None
        opened = await visitors.open_guest(self.connection, self.now)
        visitors.remember(self.entry.shop_id, opened.token, opened.visitor.owner, self.now)
        return opened.visitor.owner, opened.token


def shopper(
    request: Request[Any, Any, Any], slug: str, *, only_whose: bool = False
) -> AbstractAsyncContextManager[ShopCall]:
    """A shopper's call.

    Args:
        only_whose: no more than `owner` is asked of who calls, which costs less (`visitors.whose`).

    Raises:
        NotFoundException: no such shop. NotOpen. NotAuthorizedException: a token came that is not good (any more).
    """
    return _Calling(request, slug, only_whose)


class _Calling(AbstractAsyncContextManager[ShopCall]):
    __slots__ = ("_only_whose", "_request", "_slug", "_transaction")

    def __init__(self, request: Request[Any, Any, Any], slug: str, only_whose: bool) -> None:
        self._request, self._slug, self._only_whose = request, slug, only_whose

    async def __aenter__(self) -> ShopCall:
        request = self._request
        # What a handler asks for by its name costs each request more than what it takes from here.
        db: Database = request.app.state.db
        entry = await entry_of(db, self._slug)
        limits_of(request).shop(request, entry.shop_id)
        if entry.status in ("suspended", "closed"):
            raise NotOpen(entry)
        self._transaction = db.shop(entry.shop_id)
        connection = await self._transaction.__aenter__()
        try:
            return await self._called(entry, connection, datetime.now(UTC))
        except BaseException as error:
            await self._transaction.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._transaction.__aexit__(kind, error, trace)

    async def _called(self, entry: Entry, connection: Connection, now: datetime) -> ShopCall:
        token = _bearer(self._request)
        if not token:
            return ShopCall(entry, connection, now, None)
        if self._only_whose and not deeds.are_heard(connection):
            owner = await visitors.whose(connection, entry.shop_id, token, now, NotAuthorizedException)
            return ShopCall(entry, connection, now, None, owner)
        visitor = await visitors.find(connection, token, now)
        if visitor is None:
            if not await visitors.is_unmet(connection, token):
                raise NotAuthorizedException
            if self._request.method == "GET":  # nothing is written for whoever only looks
                visitor = visitors.unmet(token)
            else:
                visitor = (await visitors.open_unmet(connection, token, now)).visitor
        return ShopCall(entry, connection, now, visitor)


@dataclass(frozen=True)
class KeyCall:
    """A request of a shop's own software."""

    holder: Holder
    address: str
    now: datetime

    async def note(self, connection: Connection, action: str, subject: UUID, **detail: str | int | bool) -> None:
        """A line of the shop's record: what the key was used for."""
        await audit.note_in_shop(
            connection,
            self.holder.by(self.address),
            action,
            self.now,
            shop_id=self.holder.shop_id,
            subject=str(subject),
            **detail,
        )


async def keyed(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of what needs a key. A handler that names no scope (``opt={"scope": …}``) is open to no key."""
    token = _bearer(connection)
    now = datetime.now(UTC)
    holder = await keys.find(connection.app.state.db, token, now) if token else None
    if holder is None:
        raise NotAuthorizedException
    limits_of(connection).shop(connection, holder.shop_id)
    scope = str(handler.opt.get("scope", ""))
    if scope != ANY_SCOPE and not holder.may(scope):
        raise PermissionDeniedException
    if holder.standing is Standing.CLOSED or (holder.standing is not Standing.OPEN and scope.endswith(".write")):
        raise Refused("shop.not_open", f"The shop is {holder.standing}.", "Ask the platform.")
    connection.scope["auth"] = KeyCall(holder, address_of(connection), now)


ANY_SCOPE = "any"


class Strict(Request[Any, Any, Any]):
    """Reads a body as what it is: a number in quotes is a text, and no number. (Litestar by itself is lax.)"""

    async def json(self) -> Any:
        """The body as the handler's own type.

        Raises:
            ValidationException: it is JSON, and something else. SerializationException: it is no JSON.
        """
        field = self.route_handler.parsed_data_field
        body = await self.body()
        try:
            return msgspec.json.decode(body, type=field.annotation if field else Any)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            raise ValidationException(extra=[{"key": where.strip(".`"), "message": what}]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SerializationException(str(error)) from error


def key_call() -> dict[str, Provide]:
    """``call`` for handlers behind `keyed`."""
    return {"call": Provide(_call_of, sync_to_thread=False)}


def _call_of(request: Request[Any, Any, Any]) -> KeyCall:
    found: KeyCall = request.scope["auth"]
    return found


def return_url(settings: Settings, slug: str, order_id: UUID) -> str:
    """Where a payment provider sends the shopper's browser afterwards."""
    return f"{settings.base_url.rstrip('/')}/s/{slug}/orders/{order_id}/paid"


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    scheme, _, token = (header_of(connection, b"authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
