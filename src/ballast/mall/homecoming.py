"""What shops accepted while their database was away comes home: the handler of `ballast merge` for the mall's deeds.

It is called by the owner of the database for one deed after another, in a transaction that it neither commits nor rolls back;
the mall's functions run in it as they run in a web process: as `mall_app`, seeing the one shop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from ballast.continuity.merging import AsyncFace, CannotApply, MergeItem, run_through
from ballast.mall import again, exceptions, remedies, share, visitors
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Cancelled, Checkout
from ballast.mall.rules.refused import Refused

# The last is heard by a database that is still being recovered: it lets nobody read who does not say for whom.
_BECOME = """
SELECT set_config('role', 'mall_app', true), set_config('mall.shop', %(shop)s, true),
    set_config('ballast.tenant', %(shop)s, true)"""
_ROLE = f"SELECT current_setting('role') AS role, {share.NODES} AS nodes"
_BE_AGAIN = (
    "SELECT set_config('role', %s, true), set_config('mall.shop', '', true), set_config('ballast.tenant', '', true)"
)


def take_in(conn: psycopg.Connection[Any], item: MergeItem) -> bool:
    """Do the deed of `item` in its shop. What today's rules forbid is kept for the shop's people to decide (`exceptions`).

    Returns whether it is kept.

    CannotApply: it is no deed that this version knows."""
    try:
        deed = again.read(item.kind, item.payload)
    except again.UnknownDeed as error:
        raise CannotApply(str(error)) from error
    now = datetime.now(UTC)
    with _as_shop(conn, item.tenant) as connection:
        if (there := run_through(exceptions.of_deed(connection, item.key))) is not None:
            is_kept = there.is_open and not (there.is_first and _is_done_now(conn, connection, there.exception_id, now))
            if not is_kept:
                _adopt(connection, deed)
            return is_kept
        if kept := run_through(exceptions.follow(connection, item.key, item.kind, deed, now)):
            if isinstance(deed, Cancelled):  # who ordered it does not want it any more: nothing is left to be decided
                run_through(remedies.refund(connection, kept, actor=deed.actor, now=now, answer=deed.reason))
            return True
        is_kept = False
        try:
            with conn.transaction():
                run_through(again.do(connection, deed))
        except (Refused, psycopg.IntegrityError) as error:
            run_through(exceptions.keep(connection, item.key, item.kind, deed, _refusal(error), now))
            is_kept = True
        _adopt(connection, deed)
    return is_kept


def _is_done_now(conn: psycopg.Connection[Any], connection: Connection, exception_id: UUID, now: datetime) -> bool:
    """Of what is kept: it may have lacked what has come back since."""
    try:
        with conn.transaction():
            run_through(remedies.do_again(connection, exception_id, now=now))
    except (Refused, psycopg.IntegrityError):
        return False
    return True


def _adopt(connection: Connection, deed: msgspec.Struct) -> None:
    """A guest who ordered and has logged in since."""
    if isinstance(deed, Checkout) and deed.owner.visitor_id and not deed.owner.customer_id:
        run_through(visitors.adopt(connection, deed.owner.visitor_id))


def _refusal(error: Refused | psycopg.IntegrityError) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused("exception.rows", str(error), constraint=error.diag.constraint_name or "")


@contextmanager
def _as_shop(conn: psycopg.Connection[Any], shop_id: str) -> Iterator[Connection]:
    """The connection as the mall's functions want it. Where an error leaves it, the caller's rollback sets it back."""
    rows = conn.row_factory
    conn.row_factory = dict_row
    try:
        role = conn.execute(_ROLE.encode()).fetchone()
        assert role is not None
        conn.execute(_BECOME, {"shop": shop_id})
        connection = cast(Connection, AsyncFace(conn))
        if role["nodes"] > 1:  # another lifeboat: what was left is divided before it is sold from
            run_through(share.divide(connection))
        yield connection
        conn.execute(_BE_AGAIN, (role["role"],))
    finally:
        conn.row_factory = rows
