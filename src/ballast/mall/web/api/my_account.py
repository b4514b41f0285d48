"""For a member's program: name, password, also a forgotten one; the address book."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from litestar import Request, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from ballast.mall import addresses, attempts, idempotency, membership
from ballast.mall.db import Database
from ballast.mall.deed_kinds import AddressDeleted, AddressSaved, MemberRenamed
from ballast.mall.quoting import Address
from ballast.mall.rules.refused import Refused
from ballast.mall.web.api.calls import VISITOR, Key, ShopCall, shopper
from ballast.mall.web.api.shapes import (
    AddressRequest,
    LoginInfo,
    NameRequest,
    PasswordRequest,
    ResetRequest,
    SavedAddressInfo,
    SavedAddressList,
    VisitorInfo,
    shaped,
)
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import entry_of


@patch("/me", security=VISITOR)
async def change_me(request: Request[Any, Any, Any], slug: FromPath[str], data: JSONBody[NameRequest]) -> VisitorInfo:
    """Another name of the member."""
    async with shopper(request, slug) as call:
        await membership.rename(call.connection, MemberRenamed(_member(call), data.name, call.now))
    async with shopper(request, slug) as call:
        return shaped(call.known, VisitorInfo)


@put("/me/password", security=VISITOR)
async def change_password(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    db: NamedDependency[Database],
    data: JSONBody[PasswordRequest],
) -> VisitorInfo:
    """Another password. This token stays, all others of the member end."""
    async with shopper(request, slug) as call:
        customer_id, shop_id, address = _member(call), call.entry.shop_id, address_of(request)
        secret = await membership.secret(call.connection, customer_id)
    # No connection is held while the tries are counted elsewhere, and while the passwords are worked on.
    await attempts.shopper_changes_password(db, shop_id, customer_id, address, datetime.now(UTC))
    stored = await membership.proven(secret, data.present, data.password)
    async with shopper(request, slug) as call:
        await membership.change_password(call.connection, call.known, secret, stored, call.now)
    await attempts.shopper_changed_password(db, shop_id, customer_id, address)
    return shaped(call.known, VisitorInfo)


@post("/reset-password", security=VISITOR, status_code=200)
async def reset_password(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database], data: JSONBody[ResetRequest]
) -> LoginInfo:
    """Another password, by a code of 8 digits: the shop's staff tells it to who proves to be the customer (nothing is sent from
    here), and it works once, within 15 minutes. All tokens of the member end; the answer has a new one."""
    shop_id, address = (await entry_of(db, slug)).shop_id, address_of(request)
    await attempts.shopper_resets(db, shop_id, data.login, address, datetime.now(UTC))
    async with shopper(request, slug) as call:
        _ = call.known
        given = await membership.try_code(call.connection, data.login, call.now)
    stored = await membership.proven_by_code(given, data.code, data.password)
    assert given is not None
    async with shopper(request, slug) as call:
        entered = await membership.reset_password(
            call.connection, shop_id, call.known, given, stored, address, call.now
        )
    return shaped(entered, LoginInfo)


@get("/me/addresses", security=VISITOR)
async def list_addresses(request: Request[Any, Any, Any], slug: FromPath[str]) -> SavedAddressList:
    """The member's address book, the usual one first."""
    async with shopper(request, slug) as call:
        found = await addresses.all_of(call.connection, _member(call))
    return SavedAddressList(tuple(shaped(one, SavedAddressInfo) for one in found))


@post("/me/addresses", security=VISITOR)
async def create_address(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    data: JSONBody[AddressRequest],
    key: Key,
) -> SavedAddressInfo:
    """Keep an address; 20 at most. The first one is the usual one."""
    async with shopper(request, slug) as call:
        customer_id = _member(call)

        # The id follows from the key, so that it is one address too where the request comes again elsewhere.
        async def save() -> SavedAddressInfo:
            deed = AddressSaved(customer_id, uuid5(customer_id, key), _address(data), data.is_default, call.now)
            return shaped(await addresses.save(call.connection, deed), SavedAddressInfo)

        scope = f"address:{customer_id}"
        return await idempotency.once(call.connection, scope, key, data, SavedAddressInfo, save, call.now)


@put("/me/addresses/{address_id:uuid}", security=VISITOR)
async def put_address(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    address_id: FromPath[UUID],
    data: JSONBody[AddressRequest],
) -> SavedAddressInfo:
    """Another text of an address that is kept. The usual one stays so until another is."""
    async with shopper(request, slug) as call:
        customer_id = _member(call)
        await addresses.one(call.connection, customer_id, address_id)
        deed = AddressSaved(customer_id, address_id, _address(data), data.is_default, call.now)
        return shaped(await addresses.save(call.connection, deed), SavedAddressInfo)


@delete("/me/addresses/{address_id:uuid}", security=VISITOR, status_code=200)
async def delete_address(
    request: Request[Any, Any, Any], slug: FromPath[str], address_id: FromPath[UUID]
) -> SavedAddressList:
    """Keep it no longer; the answer has those that are left. Where it was the usual one, another is."""
    async with shopper(request, slug) as call:
        customer_id = _member(call)
        await addresses.delete(call.connection, AddressDeleted(customer_id, address_id, call.now))
        found = await addresses.all_of(call.connection, customer_id)
    return SavedAddressList(tuple(shaped(one, SavedAddressInfo) for one in found))


def _address(data: AddressRequest) -> Address:
    return Address(data.name, data.phone, data.province, data.city, data.district, data.street)


def _member(call: ShopCall) -> UUID:
    if call.known.customer_id is None:
        raise Refused("member.needed", "This is for members.", "Sign up, or in.")
    return call.known.customer_id


HANDLERS = [
    change_me,
    change_password,
    reset_password,
    list_addresses,
    create_address,
    put_address,
    delete_address,
]
