"""``/merchant/<slug>/shipping``: the templates by which products are sent, their rates region by region."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import shipping
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.shipping import Rate
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.typed import filled, whole, yuan, yuan_or_none
from ballast.mall.web.store.provinces import PROVINCES

_BLANK_RATES = 2
_REST = "rest"


@get("/shipping", opt=needs(Permission.EDIT_SETTINGS))
async def shipping_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """All templates."""
    return await _list(request, shop_visit, db)


@get("/shipping/new", opt=needs(Permission.EDIT_SETTINGS))
async def new_template(request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit]) -> Response[str]:
    """The empty form."""
    first = {"first-rest": 1, "first_fen-rest": "10", "extra-rest": 1, "extra_fen-rest": "2", "rest": "on"}
    return _form(request, shop_visit, None, filled({"unit": "piece", **first}))


@post("/shipping/new", opt=needs(Permission.EDIT_SETTINGS))
async def add_template(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new one; ``act=more`` shows more rates and makes none."""
    return await _save(request, shop_visit, db, None)


@get("/shipping/{shipping_id:uuid}", opt=needs(Permission.EDIT_SETTINGS))
async def template_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    shipping_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """The form of one that is there."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await shipping.template(connection, shipping_id)
    return _form(request, shop_visit, shipping_id, filled(_typed(found)))


@post("/shipping/{shipping_id:uuid}", opt=needs(Permission.EDIT_SETTINGS))
async def change_template(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    shipping_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another name, other rates; for orders from now on."""
    return await _save(request, shop_visit, db, shipping_id)


@post("/shipping/{shipping_id:uuid}/{what:str}", opt=needs(Permission.EDIT_SETTINGS))
async def turn_template(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    shipping_id: FromPath[UUID],
    what: FromPath[Literal["default", "archive"]],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The default from now on, or no more in use."""
    act = shipping.make_default if what == "default" else shipping.archive

    async def work(connection: Connection) -> None:
        await act(connection, shop_visit.shop.shop_id, shipping_id, shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _list(request, shop_visit, db, error),
        f"{root(shop_visit)}/shipping?said=saved",
    )


async def _save(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, shipping_id: UUID | None
) -> Response[Any]:
    sent = await form(request)
    if sent.text("act") == "more":
        return _form(request, shop_visit, shipping_id, sent)

    async def work(connection: Connection) -> None:
        await shipping.save(
            connection,
            shop_visit.shop.shop_id,
            shipping_id,
            sent.text("name", 100),
            "weight" if sent.text("unit") == "weight" else "piece",
            _rates(sent),
            shop_visit.by,
            shop_visit.visit.now,
        )

    async def again(error: Refused) -> Response[str]:
        return _form(request, shop_visit, shipping_id, sent, error)

    return await deed(db.shop(shop_visit.shop.shop_id), work, again, f"{root(shop_visit)}/shipping?said=saved")


def _rates(sent: Form) -> list[Rate]:
    """Those of named provinces, and that of the rest where it is served. None at all: nothing is asked anywhere."""
    if sent.text("free"):
        return []
    known = set(PROVINCES)
    rates = [
        _rate(sent, str(n), provinces)
        for n in range(_shown(sent))
        if (provinces := tuple(one for one in sent.texts(f"province-{n}") if one in known))
    ]
    if sent.text(_REST):
        rates.append(_rate(sent, _REST, ()))
    if not rates:
        raise Refused("shipping.nowhere", "The template serves no region.", "Choose provinces, or free everywhere.")
    return rates


def _rate(sent: Form, n: str, provinces: tuple[str, ...]) -> Rate:
    first, extra = whole(sent, f"first-{n}"), whole(sent, f"extra-{n}")
    if not (1 <= first <= 1_000_000 and 1 <= extra <= 1_000_000):
        raise Refused("shipping.amounts", "First and further amounts are 1 at least.", "Correct them.")
    free = yuan_or_none(sent, f"free_from-{n}")
    return Rate(provinces, first, yuan(sent, f"first_fen-{n}"), extra, yuan(sent, f"extra_fen-{n}"), free)


def _typed(found: shipping.Stored) -> dict[str, object]:
    values: dict[str, object] = {"name": found.name, "unit": found.unit, "free": "" if found.rates else "on"}
    named = [rate for rate in found.rates if rate.provinces]
    for n, rate in [*enumerate(named), *((_REST, rate) for rate in found.rates if not rate.provinces)]:
        values |= {
            f"province-{n}": list(rate.provinces),
            f"first-{n}": rate.first,
            f"first_fen-{n}": _plain(rate.first_fen),
            f"extra-{n}": rate.extra,
            f"extra_fen-{n}": _plain(rate.extra_fen),
            f"free_from-{n}": None if rate.free_from_fen is None else _plain(rate.free_from_fen),
        }
    if any(not rate.provinces for rate in found.rates):
        values[_REST] = "on"
    return {**values, "rows": len(named)}


def _plain(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02}"


def _shown(sent: Form) -> int:
    typed = sent.text("rows")
    return min(int(typed), shipping.MOST_RATES - 1) if typed.isdecimal() and len(typed) < 4 else 0


def _form(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    shipping_id: UUID | None,
    sent: Form,
    refused: Refused | None = None,
) -> Response[str]:
    # Looking at one that is there, or asking for more, shows blank rows; a refused form comes back as it was.
    blank = _BLANK_RATES if request.method == "GET" or sent.text("act") == "more" else 0
    rows = min(_shown(sent) + blank, shipping.MOST_RATES - 1)
    return merchant_page(
        request,
        "shop/shipping_form.html",
        shop_visit,
        refused,
        shipping_id=shipping_id,
        sent=sent,
        rows=rows,
        provinces=PROVINCES,
    )


async def _list(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await shipping.templates(connection)
    return merchant_page(request, "shop/shipping.html", shop_visit, refused, templates=found)


HANDLERS = [shipping_page, new_template, add_template, template_page, change_template, turn_template]
