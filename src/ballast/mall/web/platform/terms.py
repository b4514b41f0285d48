"""``/platform/plans`` and ``/platform/industries``: what shops take, and by which margin a compensation reckons."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body

from ballast.mall import service
from ballast.mall.db import Connection, Database
from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.service import Industry, Plan
from ballast.mall.web.deed import deed
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page


class PlanForm(msgspec.Struct):
    """A plan, its price in yuan."""

    code: str
    name_zh: str
    name_en: str
    month_yuan: str
    max_products: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    max_staff: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    max_pictures_mb: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    rank: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    offered: bool = False


class IndustryForm(msgspec.Struct):
    """An industry, its margin in percent, with two decimals at most."""

    code: str
    name_zh: str
    name_en: str
    margin_percent: str


@get("/plans")
async def plans_page(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[str]:
    """All of them."""
    return await _plans(request, visit, db)


@post("/plans")
async def set_plan(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[PlanForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """A new one, or one that is there."""

    async def work(connection: Connection) -> None:
        plan = Plan(
            code=data.code.strip(),
            name_zh=data.name_zh.strip(),
            name_en=data.name_en.strip(),
            month_fen=parse_yuan(data.month_yuan),
            max_products=data.max_products,
            max_staff=data.max_staff,
            max_pictures_mb=data.max_pictures_mb,
            rank=data.rank,
            offered=data.offered,
        )
        await service.set_plan(connection, plan, visit.by, visit.now)

    return await deed(
        db.platform(), work, lambda error: _plans(request, visit, db, error), "/platform/plans?said=saved"
    )


@get("/industries")
async def industries_page(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[str]:
    """All of them."""
    return await _industries(request, visit, db)


@post("/industries")
async def set_industry(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[IndustryForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """A new one, or one that is there."""

    async def work(connection: Connection) -> None:
        # Hundredths of a percent are to a percent what fen are to yuan.
        industry = Industry(
            data.code.strip(), data.name_zh.strip(), data.name_en.strip(), parse_yuan(data.margin_percent)
        )
        await service.set_industry(connection, industry, visit.by, visit.now)

    return await deed(
        db.platform(), work, lambda error: _industries(request, visit, db, error), "/platform/industries?said=saved"
    )


async def _plans(
    request: Request[Any, Any, Any], visit: Visit, db: Database, refused: Refused | None = None
) -> Response[str]:
    async with db.platform() as connection:
        found = await service.plans(connection)
    return platform_page(request, "plans.html", visit, refused, plans=found)


async def _industries(
    request: Request[Any, Any, Any], visit: Visit, db: Database, refused: Refused | None = None
) -> Response[str]:
    async with db.platform() as connection:
        found = await service.industries(connection)
    return platform_page(request, "industries.html", visit, refused, industries=found)


HANDLERS = [plans_page, set_plan, industries_page, set_industry]
