"""``/platform/open``: a new shop, and its first owner's invitation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body

from ballast.mall import platform
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page, terms


class OpeningForm(msgspec.Struct, frozen=True):
    """A shop that is to be."""

    slug: str = ""
    name: str = ""
    name_en: str = ""
    industry: str = ""
    plan: str = ""
    host: str = ""
    language: Literal["zh", "en"] = "zh"


@get("/open")
async def opening_page(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[str]:
    """The form."""
    return await _form(request, visit, db, OpeningForm())


@post("/open", status_code=200)
async def open_shop(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[OpeningForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[str]:
    """Opens it. The invitation is shown on this answer alone: what is kept of it is a hash. Sent again, the form is refused,
    since the shop has its address by then."""
    shop_id = new_id()
    asked = platform.Opening(**msgspec.structs.asdict(data), shop_id=shop_id)
    try:
        async with db.platform(shop_id) as connection:
            opened = await platform.open_shop(connection, asked, visit.by, visit.now)
    except Refused as error:
        return await _form(request, visit, db, data, error)
    return platform_page(
        request,
        "link.html",
        visit,
        heading="platform.link.opened",
        about=asked.name,
        link=f"{settings.base_url.rstrip('/')}/link/{opened.owner_token}",
        explained="platform.link.owner",
        back=f"/platform/shops/{opened.shop_id}",
    )


async def _form(
    request: Request[Any, Any, Any], visit: Visit, db: Database, typed: OpeningForm, refused: Refused | None = None
) -> Response[str]:
    async with db.platform() as connection:
        plans, industries = await terms(connection)
    return platform_page(
        request,
        "open.html",
        visit,
        refused,
        typed=typed,
        plans=sorted((one for one in plans if one.offered), key=lambda one: one.month_fen),
        industries=industries,
    )


HANDLERS = [opening_page, open_shop]
