"""``/platform/audit``: what people did."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from ballast.mall import audit
from ballast.mall.db import Database
from ballast.mall.web.address import with_query
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page

_A_PAGE = 50
_KINDS = ("shop", "account", "operator", "plan", "industry")


@get("/audit")
async def audit_page(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
    kind: Annotated[str, QueryParameter(max_length=20)] = "",
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """The newest first, page by page."""
    async with db.platform() as connection:
        lines = await audit.platform_lines(
            connection, action=kind if kind in _KINDS else "", before=before, most=_A_PAGE + 1
        )
    more = len(lines) > _A_PAGE
    return platform_page(
        request,
        "audit.html",
        visit,
        lines=lines[:_A_PAGE],
        kind=kind,
        kinds=_KINDS,
        older=with_query(request, before=str(lines[_A_PAGE - 1].audit_id)) if more else "",
        newest=before is None,
    )


HANDLERS = [audit_page]
