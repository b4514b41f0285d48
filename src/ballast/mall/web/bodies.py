"""What a request sends, before it is read: the token of a form stands in its body, so that a form is read before any guard.

A large body (an upload) is read from those alone who may do what it asks for; of everybody else nothing is taken in.
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import ClientException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from ballast.mall.web import guard

MOST = 2 << 20
"""Bytes that anybody may send; a handler that takes more says so (`request_max_body_size`)."""


class Bodies(ASGIMiddleware):
    """Stands before the check of the form's token."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """The guard of a shop's admin first, where much is to be read."""
        if scope["path"].startswith("/merchant/") and "slug" in scope["path_params"] and _is_large(scope):
            connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
            await guard.works_there(connection, scope["route_handler"])
        try:
            await next_app(scope, receive, send)
        except LookupError as error:
            # A part of the form is in a charset that Python does not know. KeyError and IndexError are faults of ours.
            if type(error) is LookupError:
                raise ClientException("unknown charset") from error
            raise


def _is_large(scope: Scope) -> bool:
    """More than `MOST`, or of a length that is not said."""
    if scope.get("method") in ("GET", "HEAD", "OPTIONS"):
        return False
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return not said.isdigit() or int(said) > MOST
