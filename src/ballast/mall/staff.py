"""Who works in a shop, and in which role. As mall_identity: the shop's own role knows accounts only by their ids.

What a role may do is in `rules.permissions`. A shop keeps one owner at least, and no more staff than its plan allows.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import audit, links, sessions
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.permissions import ROLES, Role
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Standing, standing

_SQL = load("staff")
_LINKS = load("links")


class Member(msgspec.Struct, frozen=True):
    """Somebody who works in a shop."""

    account_id: UUID
    login: str
    name: str
    role: Role
    created_at: datetime
    disabled: bool


class Invitation(msgspec.Struct, frozen=True):
    """One that nobody has followed yet. `link` names it; it is not its token."""

    link: str
    role: str
    expires_at: datetime


class Membership(msgspec.Struct, frozen=True):
    """A shop as one of its staff enters it."""

    shop_id: UUID
    slug: str
    name: str
    status: str
    status_reason: str | None
    service_until: datetime
    closing_at: datetime | None
    plan: str
    role: Role

    def standing(self, now: datetime) -> Standing:
        """How the shop stands."""
        return standing(self.status, self.service_until, self.closing_at, now)


async def membership(connection: Connection, account_id: UUID, slug: str) -> Membership | None:
    """In what role an account works in a shop; None: in none, or there is no such shop."""
    row = await (await connection.execute(_SQL.membership, {"account_id": account_id, "slug": slug})).fetchone()
    return msgspec.convert(row, Membership) if row else None


async def memberships(connection: Connection, account_id: UUID) -> list[Membership]:
    """All shops in which an account works."""
    cursor = await connection.execute(_SQL.memberships, {"account_id": account_id})
    return msgspec.convert(await cursor.fetchall(), list[Membership])


async def members(connection: Connection, shop_id: UUID) -> list[Member]:
    """Who works in a shop, owners first."""
    return msgspec.convert(
        await (await connection.execute(_SQL.of_shop, {"shop_id": shop_id})).fetchall(), list[Member]
    )


async def invitations(connection: Connection, shop_id: UUID, now: datetime) -> list[Invitation]:
    """Who was invited and has not come yet."""
    cursor = await connection.execute(_LINKS.waiting_of_shop, {"shop_id": shop_id, "now": now})
    return msgspec.convert(await cursor.fetchall(), list[Invitation])


async def most(connection: Connection, shop_id: UUID) -> int:
    """How many may work there by the shop's plan."""
    row = await (await connection.execute(_SQL.room, {"shop_id": shop_id})).fetchone()
    return row["max_staff"] if row else 0


async def invite(connection: Connection, shop_id: UUID, role: str, by: By, now: datetime) -> str:
    """The token of a link by which somebody joins the shop. Refused where the plan has no room."""
    _known(role)
    await _lock(connection, shop_id)
    await _room(connection, shop_id)
    await audit.note_in_shop(connection, by, "staff.invited", now, shop_id=shop_id, role=role)
    return await links.invite(connection, shop_id, role, now)


async def withdraw(connection: Connection, shop_id: UUID, link: str, by: By, now: datetime) -> None:
    """An invitation leads nowhere any more. One that was followed meanwhile is refused."""
    try:
        bytes.fromhex(link)
    except ValueError:
        raise Refused("link.gone", "There is no such invitation.") from None
    values = {"shop_id": shop_id, "link": link, "now": now}
    row = await (await connection.execute(_LINKS.withdraw, values)).fetchone()
    if row is None:
        raise Refused("link.gone", "The invitation was followed or is withdrawn already.", "Reload the page.")
    await audit.note_in_shop(connection, by, "staff.invitation_withdrawn", now, shop_id=shop_id, role=row["role"])


async def join(connection: Connection, shop_id: UUID, role: str, by: By, now: datetime) -> None:
    """An account begins to work in a shop, by an invitation that was just taken. A member who follows a second one keeps
    the role it has, so that no owner is demoted by a link."""
    known = _known(role)
    await _lock(connection, shop_id)
    here = await connection.execute(_SQL.role_of, {"shop_id": shop_id, "account_id": by.account_id})
    if await here.fetchone() is not None:
        raise Refused("staff.there", "This account works in the shop already.", "Ask its owner for another role.")
    await _room(connection, shop_id)
    await connection.execute(_SQL.join, {"shop_id": shop_id, "account_id": by.account_id, "role": known, "now": now})
    await audit.note_in_shop(connection, by, "staff.joined", now, shop_id=shop_id, subject=by.login, role=known)


async def set_role(connection: Connection, shop_id: UUID, account_id: UUID, role: str, by: By, now: datetime) -> None:
    """Another role. Refused where the last owner would be none any more."""
    known = _known(role)
    before = await _hold(connection, shop_id, account_id, still_owner=known == "owner")
    await connection.execute(_SQL.set_role, {"shop_id": shop_id, "account_id": account_id, "role": known})
    await audit.note_in_shop(
        connection, by, "staff.role", now, shop_id=shop_id, subject=str(account_id), before=before, after=known
    )


async def remove(connection: Connection, shop_id: UUID, account_id: UUID, by: By, now: datetime) -> None:
    """Works there no more, from the next request on. Refused for the last owner."""
    before = await _hold(connection, shop_id, account_id, still_owner=False)
    await connection.execute(_SQL.remove, {"shop_id": shop_id, "account_id": account_id, "now": now})
    await audit.note_in_shop(
        connection, by, "staff.removed", now, shop_id=shop_id, subject=str(account_id), before=before
    )


async def end_sessions(connection: Connection, shop_id: UUID, account_id: UUID, by: By, now: datetime) -> None:
    """Somebody of the staff is signed out everywhere: a lost phone, a password that went round.

    Sessions are an account's and not a shop's: those of an account that is used beyond this shop are not this shop's to end.
    Removing it from the staff closes the shop to it at once.

    Raises:
        Refused: `staff.unknown`, `staff.works_elsewhere`.
    """
    values = {"shop_id": shop_id, "account_id": account_id}
    row = await (await connection.execute(_SQL.reach, values)).fetchone()
    if row is None:
        raise Refused("staff.unknown", "That account does not work in this shop.", "Reload the page.")
    if row["elsewhere"] and account_id != by.account_id:
        raise Refused(
            "staff.works_elsewhere",
            "This account is used beyond this shop, too.",
            "Remove it from the staff, or ask its holder or the platform to end its sessions.",
        )
    await sessions.revoke_all(connection, account_id, now)
    await audit.note_in_shop(connection, by, "staff.sessions_ended", now, shop_id=shop_id, subject=str(account_id))


def _known(role: str) -> Role:
    if role not in ROLES:
        raise Refused("staff.role", f"There is no role {role!r}.", f"Known are: {', '.join(ROLES)}.")
    return role


async def _lock(connection: Connection, shop_id: UUID) -> None:
    await connection.execute(_SQL.one_at_a_time, {"shop_id": shop_id})


async def _room(connection: Connection, shop_id: UUID) -> None:
    row = await (await connection.execute(_SQL.room, {"shop_id": shop_id})).fetchone()
    if row is None or row["staff"] >= row["max_staff"]:
        most = row["max_staff"] if row else 0
        raise Refused(
            "staff.full", f"The shop's plan allows {most} staff.", "Remove somebody, or take a larger plan.", most=most
        )


async def _hold(connection: Connection, shop_id: UUID, account_id: UUID, *, still_owner: bool) -> str:
    """The role that it has now. Refused where it has none, or is the last owner and would not be one any more."""
    await _lock(connection, shop_id)
    values = {"shop_id": shop_id, "account_id": account_id}
    row = await (await connection.execute(_SQL.role_of, values)).fetchone()
    if row is None:
        raise Refused("staff.unknown", "That account does not work in this shop.", "Reload the page.")
    if row["role"] == "owner" and not still_owner:
        others = await (await connection.execute(_SQL.other_owners, values)).fetchone()
        if others is None or not others["owners"]:
            raise Refused("staff.last_owner", "A shop keeps one owner at least.", "Make somebody else an owner first.")
    role: str = row["role"]
    return role
