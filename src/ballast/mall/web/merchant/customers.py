"""``/merchant/<slug>/customers``: who buys, what they have spent, their points."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import attempts, audit, customers, fulfilment, membership, passwords
from ballast.mall.customers import Customer, SavedAddress, Sort, UnknownCustomer
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.rules import masking
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web import marks
from ballast.mall.web.address import with_query
from ballast.mall.web.forms import form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_about
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import A_PAGE, sees_people, typed

_SORTS: dict[str, Sort] = {"new": "new", "spent": "spent", "points": "points"}
_HIS_ORDERS = 20


@get("/customers", opt=needs(Permission.SEE_CUSTOMERS))
async def customer_list(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """Customers by name, phone, address or level; the newest, the best or those with most points first."""
    level = typed(request, "level")
    sort = _SORTS.get(typed(request, "sort"), "new")
    at = marks.read(request.query_params.get("before", ""), marks.number)
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await customers.page(
            connection,
            text=typed(request, "q"),
            level=int(level) if level.isascii() and level.isdigit() and len(level) < 4 else None,
            sort=sort,
            before=customers.Cursor(*at) if at else None,
            most=A_PAGE + 1,
        )
        levels = await customers.levels(connection)
    shown = found[:A_PAGE]
    return merchant_page(
        request,
        "customers.html",
        shop_visit,
        customers=[_legible(one, shop_visit) for one in shown],
        levels=levels,
        asked={"q": typed(request, "q"), "level": level, "sort": sort},
        newest=with_query(request, before=None, said=None) if at else "",
        older=with_query(request, before=marks.mark(shown[-1].key, shown[-1].customer_id), said=None)
        if len(found) > A_PAGE
        else "",
    )


@get("/customers/{customer_id:uuid}", opt=needs(Permission.SEE_CUSTOMERS))
async def customer_page(
    request: Request[Any, Any, Any],
    customer_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """One of them."""
    return await _page(request, customer_id, shop_visit, db)


@post("/customers/{customer_id:uuid}/points", opt=needs(Permission.EDIT_PROMOTIONS))
async def adjust_points(
    request: Request[Any, Any, Any],
    customer_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Points given or taken by hand."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        change, reason = sent.number("points"), sent.text("reason")
        done = await customers.adjust_points(
            connection, customer_id, change, reason, entry_id=sent.id("key"), now=shop_visit.visit.now
        )
        if done:
            await audit.note_in_shop(
                connection,
                shop_visit.by,
                "customer.points",
                shop_visit.visit.now,
                shop_id=shop_visit.shop.shop_id,
                subject=str(customer_id),
                points=change,
                reason=reason,
            )

    return await _deed(request, customer_id, shop_visit, db, work)


@post("/customers/{customer_id:uuid}/note", opt=needs(Permission.FULFIL_ORDERS))
async def note(
    request: Request[Any, Any, Any],
    customer_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """What the shop's people want to remember of him."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await customers.set_note(connection, customer_id, sent.text("note", 2000))
        await audit.note_in_shop(
            connection,
            shop_visit.by,
            "customer.noted",
            shop_visit.visit.now,
            shop_id=shop_visit.shop.shop_id,
            subject=str(customer_id),
        )

    return await _deed(request, customer_id, shop_visit, db, work)


@post("/customers/{customer_id:uuid}/reset-code", status_code=200, opt=needs(Permission.RESET_CUSTOMERS))
async def give_reset_code(
    request: Request[Any, Any, Any],
    customer_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """A code for who forgot his password, shown this once. Nothing here could send it to him."""
    shop_id, now = shop_visit.shop.shop_id, shop_visit.visit.now
    code = membership.new_code()
    try:
        async with db.shop(shop_id) as connection:
            await customers.one(connection, customer_id)
        await attempts.staff_gives_code(db, shop_id, customer_id, now)
        hashed = await passwords.hashed(code)
        async with db.shop(shop_id) as connection:
            await membership.give_code(connection, shop_id, customer_id, hashed, shop_visit.by, now)
    except UnknownCustomer:
        raise NotFoundException from None
    except Refused as error:
        return await _page(request, customer_id, shop_visit, db, error)
    return await _page(request, customer_id, shop_visit, db, code=f"{code[:4]} {code[4:]}")


async def _page(
    request: Request[Any, Any, Any],
    customer_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    *,
    code: str = "",
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            customer = await customers.one(connection, customer_id)
            levels = await customers.levels(connection)
            addresses = await customers.addresses(connection, customer_id)
            points = await customers.points(connection, customer_id)
            his = await fulfilment.page(connection, fulfilment.Filter(customer_id=customer_id), most=_HIS_ORDERS + 1)
    except UnknownCustomer:
        raise NotFoundException from None
    return merchant_page(
        request,
        "customer.html",
        shop_visit,
        refused,
        customer=_legible(customer, shop_visit),
        levels=levels,
        addresses=addresses if sees_people(shop_visit) else [_hidden(one) for one in addresses],
        points=points,
        orders=his[:_HIS_ORDERS],
        more_orders=len(his) > _HIS_ORDERS,
        may_points=shop_visit.may(Permission.EDIT_PROMOTIONS),
        may_note=shop_visit.may(Permission.FULFIL_ORDERS),
        may_reset=shop_visit.may(Permission.RESET_CUSTOMERS),
        code=code,
        code_minutes=int(membership.CODE_HOLDS.total_seconds()) // 60,
        key=new_id(),
    )


def _legible(customer: Customer, shop_visit: ShopVisit) -> Customer:
    if sees_people(shop_visit):
        return customer
    return msgspec.structs.replace(
        customer,
        name=masking.name(customer.name),
        phone=masking.phone(customer.phone or ""),
        email=masking.email(customer.email or ""),
        note=masking.text(customer.note),
    )


def _hidden(one: SavedAddress) -> SavedAddress:
    return msgspec.structs.replace(
        one, name=masking.name(one.name), phone=masking.phone(one.phone), street=masking.street(one.street)
    )


_deed = partial(deed_about, _page, "customers")
HANDLERS = [customer_list, customer_page, adjust_points, note, give_reset_code]
