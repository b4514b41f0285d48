"""A member's address book: its addresses, a form for each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import addresses
from ballast.mall.db import Database
from ballast.mall.deed_kinds import AddressDeleted, AddressSaved
from ballast.mall.ids import new_id
from ballast.mall.quoting import Address
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import Form, form
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.provinces import PROVINCES
from ballast.mall.web.store.visit import Visit, visiting


@get("/me/addresses")
async def address_list(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """All of them, the usual one first."""
    async with visiting(db, request, slug) as visit:
        if (customer_id := _member(visit)) is None:
            return go(request, visit, "/login")
        found = await addresses.all_of(visit.connection, customer_id)
        full = len(found) >= addresses.MOST
        return await shown(request, visit, "addresses.html", tab="me", addresses=found, full=full)


@get("/me/addresses/new")
async def new_address(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The form for one more."""
    async with visiting(db, request, slug) as visit:
        if _member(visit) is None:
            return go(request, visit, "/login")
        return await _form(request, visit, new_id(), Address(), new=True)


@get("/me/addresses/{address_id:uuid}")
async def address_page(
    request: Request[Any, Any, Any], slug: FromPath[str], address_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """The form of one."""
    async with visiting(db, request, slug) as visit:
        if (customer_id := _member(visit)) is None:
            return go(request, visit, "/login")
        found = await addresses.one(visit.connection, customer_id, address_id)
        return await _form(request, visit, address_id, found.plain, usual=found.is_default)


@post("/me/addresses/{address_id:uuid}")
async def save_address(
    request: Request[Any, Any, Any], slug: FromPath[str], address_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """Keep it; the id of a new one was made for the form, so that sending it twice makes one."""
    sent = await form(request)
    address, usual = read_address(sent), bool(sent.text("usual"))
    try:
        async with visiting(db, request, slug) as visit:
            if (customer_id := _member(visit)) is None:
                return go(request, visit, "/login")
            deed = AddressSaved(customer_id, address_id, address, usual, visit.now)
            await addresses.save(visit.connection, deed)
            return go(request, visit, "/me/addresses?said=saved")
    except Refused as error:
        if error.key == "address.unknown":
            raise
        async with visiting(db, request, slug) as visit:
            return await _form(request, visit, address_id, address, error, usual=usual, new=bool(sent.text("new")))


@post("/me/addresses/{address_id:uuid}/delete")
async def delete_address(
    request: Request[Any, Any, Any], slug: FromPath[str], address_id: FromPath[UUID], db: NamedDependency[Database]
) -> Response[Any]:
    """Keep it no longer."""
    async with visiting(db, request, slug) as visit:
        if (customer_id := _member(visit)) is None:
            return go(request, visit, "/login")
        await addresses.delete(visit.connection, AddressDeleted(customer_id, address_id, visit.now))
        return go(request, visit, "/me/addresses?said=deleted")


def read_address(sent: Form) -> Address:
    """The fields of an address in a form."""
    return Address(
        sent.text("name", 60),
        sent.text("phone", 30),
        sent.text("province", 30),
        sent.text("city", 60),
        sent.text("district", 60),
        sent.text("street", 200),
    )


def _member(visit: Visit) -> UUID | None:
    return visit.member.customer_id if visit.member else None


async def _form(
    request: Request[Any, Any, Any],
    visit: Visit,
    address_id: UUID,
    address: Address,
    error: Refused | None = None,
    *,
    usual: bool = False,
    new: bool = False,
) -> Response[str]:
    return await shown(
        request,
        visit,
        "address.html",
        tab="me",
        status=409 if error else 200,
        problem=why(visit.language, error) if error else "",
        address_id=address_id,
        address=address,
        usual=usual,
        new=new,
        provinces=PROVINCES,
    )


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [address_list, new_address, address_page, save_address, delete_address]
