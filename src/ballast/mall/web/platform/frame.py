"""The platform's pages in the admin frame."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused
from ballast.mall.service import Industry, Plan, industries, plans
from ballast.mall.web.guard import Visit
from ballast.mall.web.shell import Entry, Menu, admin_page, spoken
from ballast.mall.web.texts import translator

_ENTRIES = (
    Entry("platform.menu.overview", "/platform", "layout-dashboard"),
    Entry("platform.menu.shops", "/platform/shops", "building-store"),
    Entry("platform.menu.open", "/platform/open", "plus"),
    Entry("platform.menu.plans", "/platform/plans", "package"),
    Entry("platform.menu.industries", "/platform/industries", "category"),
    Entry("platform.menu.people", "/platform/people", "users"),
    Entry("platform.menu.audit", "/platform/audit", "history"),
)


def platform_page(
    request: Request[Any, Any, Any],
    template: str,
    visit: Visit,
    refused: Refused | None = None,
    **context: Any,
) -> Response[str]:
    """A page of the platform."""
    language = spoken(request, visit.session)
    return admin_page(
        request,
        f"platform/{template}",
        menu=Menu(translator(language)("platform.title"), "/platform", _ENTRIES),
        session=visit.session,
        refused=refused,
        now=visit.now,
        **context,
    )


async def terms(connection: Connection) -> tuple[list[Plan], list[Industry]]:
    """Plans and industries, for what is chosen from."""
    return await plans(connection), await industries(connection)
