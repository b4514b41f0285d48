"""A member's address book: where things are sent. One of them is the usual one, as long as there is any.

Whoever changes it holds the customer's row: two browsers of a member come one after the other.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from ballast.mall import deeds
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import AddressDeleted, AddressSaved
from ballast.mall.queries import load
from ballast.mall.quoting import Address
from ballast.mall.rules.refused import Refused

_SQL = load("addresses")
MOST = 20
_LONGEST = {"name": 60, "phone": 30, "province": 30, "city": 60, "district": 60, "street": 200}


class Saved(Address, frozen=True, kw_only=True):
    """An address that is kept."""

    address_id: UUID
    is_default: bool = False

    @property
    def plain(self) -> Address:
        """As an order takes it."""
        return Address(self.name, self.phone, self.province, self.city, self.district, self.street)


async def all_of(connection: Connection, customer_id: UUID) -> tuple[Saved, ...]:
    """A member's addresses, the usual one first."""
    cursor = await connection.execute(_SQL.all_of, {"customer_id": customer_id})
    return tuple(Saved(**row) for row in await cursor.fetchall())


async def one(connection: Connection, customer_id: UUID, address_id: UUID) -> Saved:
    """One of them. Refused (`address.unknown`) where the member has none of this id."""
    cursor = await connection.execute(_SQL.one, {"customer_id": customer_id, "address_id": address_id})
    row = await cursor.fetchone()
    if row is None:
        raise _unknown()
    return Saved(**row)


async def save(connection: Connection, deed: AddressSaved) -> Saved:
    """Keep an address, or another text of one that is kept. The first one is the usual one, said or not; the usual one
    stays so until another is. The same deed again changes nothing.

    Raises:
        Refused: `checkout.address` (something is missing), `address.long`, `address.most`, `address.unknown` (the id is
            somebody else's).
    """
    address = _tidy(deed.address)
    _check(address)
    await connection.execute(_SQL.hold, {"customer_id": deed.customer_id})
    before = {saved.address_id: saved for saved in await all_of(connection, deed.customer_id)}
    known = before.get(deed.address_id)
    if known is None and len(before) >= MOST:
        raise Refused("address.most", f"A member keeps {MOST} addresses at most.", "Delete one first.", most=MOST)
    usual = deed.is_default or not before or bool(known and known.is_default)
    values = {"customer_id": deed.customer_id, "address_id": deed.address_id}
    row = {**values, **msgspec.structs.asdict(address), "is_default": usual}
    if await (await connection.execute(_SQL.save, row)).fetchone() is None:
        raise _unknown()
    if usual:
        await connection.execute(_SQL.make_default, values)
    deeds.note(connection, "address_saved", deed)
    return Saved(*msgspec.structs.astuple(address), address_id=deed.address_id, is_default=usual)


async def remember(connection: Connection, deed: AddressSaved) -> None:
    """Keep the address of an order, unless it is kept already or cannot be: an order does not fail of it."""
    if not _whole(deed.address):
        return
    await connection.execute(_SQL.hold, {"customer_id": deed.customer_id})
    there = await all_of(connection, deed.customer_id)
    if len(there) < MOST and all(saved.plain != _tidy(deed.address) for saved in there):
        await save(connection, deed)


async def delete(connection: Connection, deed: AddressDeleted) -> None:
    """Keep it no longer. Of those that are left another is the usual one, where this was. Orders keep their own copy.

    Raises:
        Refused: `address.unknown`.
    """
    if not await delete_again(connection, deed):
        raise _unknown()


async def delete_again(connection: Connection, deed: AddressDeleted) -> bool:
    """The same, where it may be gone already; whether it was there."""
    values = {"customer_id": deed.customer_id, "address_id": deed.address_id}
    await connection.execute(_SQL.hold, {"customer_id": deed.customer_id})
    if await (await connection.execute(_SQL.delete, values)).fetchone() is None:
        return False
    left = await all_of(connection, deed.customer_id)
    if left and not left[0].is_default:
        await connection.execute(_SQL.make_default, {**values, "address_id": left[0].address_id})
    deeds.note(connection, "address_deleted", deed)
    return True


def _tidy(address: Address) -> Address:
    return Address(*(text.strip() for text in msgspec.structs.astuple(address)))


def _whole(address: Address) -> bool:
    """Whether a parcel would arrive."""
    return all((address.name.strip(), address.phone.strip(), address.province.strip(), address.street.strip()))


def _check(address: Address) -> None:
    if not _whole(address):
        raise Refused("checkout.address", "Something of the address is missing.", "Fill it in.")
    for name, most in _LONGEST.items():
        if len(getattr(address, name)) > most:
            raise Refused("address.long", f"{name} has more than {most} characters.", "Shorten it.", most=most)


def _unknown() -> Refused:
    return Refused("address.unknown", "There is no such address.", "Look at the address book.")
