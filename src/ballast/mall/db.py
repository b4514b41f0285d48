"""Transactions of the mall: of one shop, of accounts, of operators; each where its rows are at that moment.

A database that was lost may come back shop by shop, and then says so by a function: ``ballast.ensure_tenant`` returns when a
shop is whole. Each new connection looks whether it is there; while it is, the visitor of a shop waits for that shop before he
takes a connection (`arrivals`). Who asks for shops that are not back without it is refused by the database
(``Recovering``), which tells a process that had connected before. The call fails when all is back: then it is left away again.

Where continuity is set up (`Settings.continuity`), a shop whose database is away is served by another server, the lifeboat
(`continuity.helm`): the same statements, the same roles. What is done there is accepted durably before it commits (`deeds`). A
request that finds out on its way that its shop is elsewhere is told so by `Turned`, and is made again (`web.again`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import psycopg

from ballast.continuity.course import Course
from ballast.continuity.entries import Closed as ClosedTenant
from ballast.continuity.entries import IntakeFull, Offered
from ballast.continuity.helm import Helm
from ballast.continuity.signs import Sign
from ballast.errors import BallastError
from ballast.mall import share
from ballast.mall.deeds import Journal
from ballast.mall.door import Busy, Closed, Connection, Door
from ballast.mall.doors import Doors
from ballast.mall.round_trips import ShopConnection
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings

__all__ = ["Afloat", "Busy", "Connection", "Database", "Recovering", "Turned"]

_log = logging.getLogger(__name__)
Afloat = Literal["", "fresh", "vault_away"]

_NAME_SHOP = "SELECT set_config('mall.shop', %s, true)"
_NAME_TENANT = "SELECT set_config('ballast.tenant', %s, true)"
"""Where shops come back one by one, nothing is read before the server was told whose it is to be."""
_HAS_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS it_has"
_OVER = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
)
"""The function is gone, or its schema, or that is closed, or its table went while it ran: all are back."""
_NOT_BACK = "BL0"
"""So begin the SQLSTATEs with which a database under recovery refuses."""
_OF_ALL = "BL002"
_HELD_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.IdleInTransactionSessionTimeout)
"""It is there, and would not wait any longer (`doors`)."""
_LOOK_S = 0.02


class Recovering(BallastError):
    """The database is being recovered, and a shop that was asked for is not back, or not all that were."""

    def __init__(self, what: str, *, all_shops: bool) -> None:
        super().__init__(what, "Try again in a few seconds.")
        self.all_shops = all_shops
        """It takes until every shop is back."""


class Turned(BallastError):
    """The shop is somewhere else by now, or will be in a moment: the same is to be done again, from the beginning."""

    def __init__(self, what: str, number: int, *, committing: bool = False) -> None:
        super().__init__(what, "Try again in a second.")
        self.number = number
        """Of the course under which it was tried."""
        self.committing = committing
        """It may have been done, without our hearing of it."""


class Database:
    """All of it, for one process. Opened and closed by who owns the process (``web.app``, the worker)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._helm = Helm(Path(settings.continuity)) if settings.continuity else None
        self._home = self._new_home()
        self._boat: Doors | None = None
        self._boarding = asyncio.Lock()
        self._steering: asyncio.Task[None] | None = None

    @property
    def recovering(self) -> bool:
        """Whether shops are still coming back, as far as this process has heard."""
        return self._home.recovering or (self._boat is not None and not self._boat.closed)

    @property
    def away(self) -> bool:
        """Whether the sentinel has found that somebody's database is lost."""
        return self._helm is not None and self._helm.course.mode != "home"

    @property
    def launching(self) -> bool:
        """Whether it is lost and there is no lifeboat yet."""
        return self._helm is not None and self._helm.course.mode == "launching"

    def afloat(self, shop_id: UUID) -> Afloat:
        """How this shop is served without its own database; "": it is at home."""
        if self._helm is None:
            return ""
        course = self._helm.course
        if course.place(str(shop_id)) == "home":
            return ""
        return "vault_away" if course.vault_away else "fresh"

    def missing(self, shop_id: UUID) -> None:
        """A shop that was there is not any more. Raises Turned where that may be a loss."""
        if self._helm is not None:
            self._helm.missing(str(shop_id))
            raise Turned(f"shop {shop_id} is not there any more", self._helm.course.number)

    async def turned(self, number: int, timeout_s: float) -> bool:
        """See `Helm.turned`; where there is none it waits as long."""
        if self._helm is not None:
            return await self._helm.turned(number, timeout_s)
        await asyncio.sleep(timeout_s)
        return False

    async def open(self) -> None:
        """Start the pools."""
        await self._home.open()
        if self._helm is not None:
            self._steering = asyncio.create_task(self._steer(self._helm))

    async def close(self) -> None:
        """Close every connection."""
        if self._steering is not None:
            self._steering.cancel()
            with suppress(asyncio.CancelledError):
                await self._steering
        await self._home.close()
        if self._boat is not None:
            await self._boat.close()
        if self._helm is not None:
            await asyncio.to_thread(self._helm.close)

    def shop(self, shop_id: UUID) -> AbstractAsyncContextManager[Connection]:
        """A transaction that sees the rows of one shop. Committed at its end, rolled back where an exception leaves it. It begins
        with the first statement.

        Raises:
            Busy: no connection could be had. Recovering: the shop is not back, and did not come in time. Turned: it is elsewhere.
            Refused: `afloat.read_only`, `afloat.full`: it is in the lifeboat, or there is no room, and this cannot be kept.
        """
        course = self._course()
        if course is not None and course.place(str(shop_id)) != "home":
            return self._in_lifeboat(course, shop_id)
        return _AtHome(self, course, shop_id)

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[Connection]:
        """A connection that sees no shop's rows, only what all may read: the directory, plans, industries."""
        course = self._course()
        doors = await self._doors(course, None)
        async with self._hearing(doors, course), doors.app.one() as connection:
            yield connection

    @asynccontextmanager
    async def identity(self, shop_id: UUID | None = None, *, passing: bool = False) -> AsyncIterator[Connection]:
        """A transaction over accounts, their sessions, and who works in which shop.

        Args:
            shop_id: the only shop that it is about; without it, it is about all, and must wait for all.
            passing: what is written (a session, a count of tries) may be gone when the database is back; anything else is
                refused while it is away (Refused, `afloat.read_only`).
        """
        course = self._course()
        doors = await self._doors(course, shop_id)
        way = self._one(doors, doors.identity, shop_id)
        async with self._hearing(doors, course, shop_id), way as connection, connection.transaction():
            if doors.recovering and shop_id is not None:
                await connection.execute(_NAME_TENANT, (str(shop_id),))
            yield connection
            if doors.lifeboat and not passing and await _has_written(connection):
                raise _read_only()

    @asynccontextmanager
    async def platform(self, shop_id: UUID | None = None) -> AsyncIterator[Connection]:
        """A transaction of an operator, who reads over all shops; and writes, where they are at home.

        Args:
            shop_id: see `identity`.
        """
        course = self._course()
        doors = await self._doors(course, shop_id)
        way = self._one(doors, doors.platform, shop_id)
        async with self._hearing(doors, course, shop_id), way as connection, connection.transaction():
            if doors.recovering and shop_id is not None:
                await connection.execute(_NAME_TENANT, (str(shop_id),))
            yield connection
            if doors.lifeboat and await _has_written(connection):
                raise _read_only()

    # Where

    def _new_home(self) -> Doors:
        helm = self._helm
        if helm is None:
            return Doors(self._settings)
        return Doors(self._settings, broken=lambda: helm.ring(f"lost {Sign.GONE}"), at_home=helm.course.at_home)

    def _course(self) -> Course | None:
        return self._helm.course if self._helm is not None else None

    async def _doors(self, course: Course | None, shop_id: UUID | None) -> Doors:
        if course is None or course.mode == "home":
            return self._home
        if shop_id is None:
            away = course.only is None and course.mode in ("launching", "afloat")
        else:
            away = course.place(str(shop_id)) != "home"
        return await self._board(course) if away else self._home

    async def _board(self, course: Course) -> Doors:
        """The ways into the lifeboat. Turned where there is none yet."""
        if not course.lifeboat:
            raise Turned("the database is away, and the lifeboat is not there yet", course.number)
        boat = self._boat
        if boat is None or boat.closed or boat.lifeboat != course.lifeboat:
            async with self._boarding:
                boat = self._boat
                if boat is None or boat.closed or boat.lifeboat != course.lifeboat:
                    former, boat = boat, Doors(self._settings, lifeboat=course.lifeboat)
                    await boat.open()
                    self._boat = boat
                    if former is not None:
                        await former.close()
        return boat

    async def _steer(self, helm: Helm) -> None:
        """Leaves a home that is lost, so that nobody waits for its connections, and goes back there; leaves the lifeboat."""
        seen = -1
        while True:
            await asyncio.sleep(_LOOK_S)
            course = helm.course
            if course.number == seen:
                continue
            seen = course.number
            lost = course.only is None and course.mode in ("launching", "afloat")
            if lost and not self._home.closed:
                _log.warning("the database is lost (%s): shops are served by the lifeboat", course.why)
                await self._home.close()
            elif not lost and self._home.closed:
                home = self._new_home()
                await home.open()
                self._home = home
            if course.mode == "home" and self._boat is not None and not self._boat.closed:
                _log.warning("all shops are at home again")
                await self._boat.close()

    # At home

    async def _taken(self, home: Doors, course: Course | None, shop_id: UUID) -> ShopConnection:
        """A connection on which a transaction of the shop begins with the first statement."""
        await self._arrival(home, shop_id)
        connection = await home.app.take()
        try:
            await self._arrival(home, shop_id)  # see `_one`
        except BaseException:
            await home.app.give_back(connection)
            raise
        connection.begin(*_names(home, shop_id))
        if course is not None and course.no_room:
            connection.journal = Journal()
        return connection

    async def _end(self, connection: ShopConnection, course: Course | None, error: BaseException | None) -> None:
        """COMMIT; ROLLBACK where `error` leaves the transaction. Turned: a COMMIT was not heard of."""
        try:
            if error is not None:
                await self._undo(connection, course, error)
            elif connection.journal is not None:
                try:
                    await _change_nothing(connection, connection.journal)
                except BaseException as refused:
                    await self._undo(connection, course, refused)
                    raise
            else:
                await self._commit(connection, course)
        finally:
            connection.journal = None

    async def _undo(self, connection: ShopConnection, course: Course | None, error: BaseException) -> None:
        committing = connection.committing
        # Where it cannot be rolled back, the connection is broken, and the pool throws it away.
        with suppress(psycopg.Error):
            await connection.rollback()
        if committing and isinstance(error, psycopg.Error):
            self._unheard(error, course)

    async def _commit(self, connection: ShopConnection, course: Course | None) -> None:
        try:
            await connection.finish()
        except psycopg.Error as error:
            self._unheard(error, course)
            raise

    def _unheard(self, error: psycopg.Error, course: Course | None) -> None:
        """COMMIT was sent. Turned where the database was lost before it answered."""
        if course is not None and self._helm is not None and self._helm.failed(error):
            what = f"the end of a transaction was not heard of: {error}"
            raise Turned(what, course.number, committing=True) from error

    @asynccontextmanager
    async def _one(self, doors: Doors, door: Door, shop_id: UUID | None) -> AsyncIterator[ShopConnection]:
        """A connection, when the shop is back there."""
        await self._arrival(doors, shop_id)
        async with door.one() as connection:
            await self._arrival(doors, shop_id)  # the first connection there may have told that shops are coming back
            yield connection

    async def _arrival(self, doors: Doors, shop_id: UUID | None) -> None:
        if not doors.recovering or shop_id is None:
            return
        try:
            await doors.arrivals.of(shop_id)
        except _OVER:
            doors.recovering = False

    @asynccontextmanager
    async def _hearing(self, doors: Doors, course: Course | None, shop_id: UUID | None = None) -> AsyncIterator[None]:
        """Hears from the database that shops are still coming back, and from its failures that it may be lost."""
        try:
            yield
        except (psycopg.Error, Closed, Busy) as error:
            self._hear(error, doors, course, shop_id)
            raise

    def _hear(
        self,
        error: BaseException,
        doors: Doors,
        course: Course | None,
        shop_id: UUID | None,
        *,
        at_home: bool = False,
    ) -> None:
        """What this failure says: that shops are still coming back, that the database, or this shop (`at_home`), may be lost.
        Returns where it says nothing else than what it is."""
        if isinstance(error, _HELD_UP):
            raise Busy(f"another transaction is in the way: {error}", "Try again in a second.") from error
        if isinstance(error, psycopg.Error):
            if (error.sqlstate or "").startswith(_NOT_BACK):
                doors.recovering = True
                if shop_id is not None:
                    doors.arrivals.forget(shop_id)
                what = error.diag.message_primary or str(error)
                raise Recovering(what, all_shops=error.sqlstate == _OF_ALL) from error
            told = doors.lifeboat or (course is not None and course.no_room)
            if told and isinstance(error, psycopg.errors.DiskFull):
                _log.error("there is no room: %s", error)
                raise _no_room() from error
            if course is not None and self._helm is not None and self._helm.failed(error):
                raise Turned(f"the database failed: {error}", course.number) from error
            gone = isinstance(error, psycopg.errors.ForeignKeyViolation) and _of_shop(error)
            if at_home and shop_id is not None and gone:
                self.missing(shop_id)
        elif isinstance(error, Closed):
            raise Turned(error.what, course.number if course is not None else 0) from error
        elif isinstance(error, Busy):
            now = self._course()
            if course is not None and now is not None and now.number != course.number:
                raise Turned("the database was lost meanwhile", course.number) from None

    # In the lifeboat

    @asynccontextmanager
    async def _in_lifeboat(self, course: Course, shop_id: UUID) -> AsyncIterator[Connection]:
        assert self._helm is not None
        doors = await self._board(course)
        self._helm.visited(str(shop_id))
        try:
            async with self._hearing(doors, course, shop_id), self._one(doors, doors.app, shop_id) as connection:
                connection.begin(*_names(doors, shop_id))
                if doors.nodes > 1:
                    await share.divide(connection)
                    await connection.commit()
                    connection.begin(*_names(doors, shop_id))
                connection.journal = Journal()
                try:
                    yield connection
                    await connection.flush()  # what fails is not accepted
                    await self._keep(connection, course, str(shop_id), connection.journal)
                except BaseException:
                    with suppress(psycopg.Error):
                        await connection.rollback()
                    raise
                finally:
                    connection.journal = None
                await connection.finish()
        except Recovering as error:
            if error.all_shops or course.vault_away:
                raise
            raise Turned(error.what, course.number) from error  # nobody brings shops in: another lifeboat is on its way

    async def _keep(self, connection: ShopConnection, course: Course, tenant: str, journal: Journal) -> None:
        """What was done is accepted; after this it will be done, whatever becomes of the lifeboat.

        Turned: the shop has gone home, or a deed was accepted before and is not in this lifeboat, and is now."""
        assert self._helm is not None
        lost = not journal.of_no_weight and all(deed.beside for deed in journal.deeds)
        if journal.for_home_alone or (lost and await _has_written(connection)):
            raise _read_only()
        if not journal.deeds:
            return
        now = datetime.now(UTC)
        offers = [Offered(tenant, deed.key, deed.kind, deed.payload, now, deed.urgent) for deed in journal.deeds]
        try:
            taken = await self._helm.take(offers)
        except ClosedTenant as error:
            await self._helm.turned(course.number, 1.0)
            raise Turned(error.what, course.number) from error
        except IntakeFull as error:
            _log.error("%s", error)
            raise _no_room() from error
        if any(one.repeated for one in taken):
            await connection.rollback()
            await asyncio.to_thread(self._catch_up, course, tenant)
            raise Turned("it was accepted before, and has been done again now", course.number)

    def _catch_up(self, course: Course, tenant: str) -> None:
        """Does again what was accepted of a shop by a process that died before it was done."""
        # They load what a web process needs at no other time.
        from ballast.continuity.merging import MergeItem
        from ballast.mall import homecoming

        assert self._helm is not None
        with psycopg.connect(course.lifeboat, autocommit=True) as connection:
            for entry in self._helm.open_entries(tenant):
                with connection.transaction():
                    homecoming.take_in(
                        connection, MergeItem(entry.tenant, entry.key, entry.kind, entry.payload, entry.made_at)
                    )


class _AtHome(AbstractAsyncContextManager[Connection]):
    """`Database.shop` where the shop is at home. (Not of generators: four, one in the other, cost every request its part.)"""

    __slots__ = ("_connection", "_course", "_db", "_home", "_shop_id")

    def __init__(self, db: Database, course: Course | None, shop_id: UUID) -> None:
        self._db, self._course, self._shop_id = db, course, shop_id

    async def __aenter__(self) -> Connection:
        self._home = self._db._home
        try:
            self._connection = await self._db._taken(self._home, self._course, self._shop_id)
        except Exception as error:
            self._hear(error)
            raise
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            try:
                await self._db._end(self._connection, self._course, error)
            finally:
                await self._home.app.give_back(self._connection)
        except Exception as failed:
            self._hear(failed)
            raise
        if isinstance(error, Exception):
            self._hear(error)

    def _hear(self, error: BaseException) -> None:
        self._db._hear(error, self._home, self._course, self._shop_id, at_home=True)


def _names(doors: Doors, shop_id: UUID) -> list[tuple[str, tuple[str]]]:
    """What a transaction of a shop begins with."""
    named = (str(shop_id),)
    return [(_NAME_SHOP, named), (_NAME_TENANT, named)] if doors.recovering else [(_NAME_SHOP, named)]


def _of_shop(error: psycopg.errors.ForeignKeyViolation) -> bool:
    """Whether it is the shop itself that is not there: somebody has deleted it."""
    return (error.diag.constraint_name or "").endswith("_shop_id_fkey")


async def _change_nothing(connection: ShopConnection, journal: Journal) -> None:
    """At the end of a transaction where nothing can be kept: one that changed something is refused, instead of waiting for room
    with an order that its shopper then takes for placed or not as he likes."""
    await connection.flush()
    if journal.deeds or (not journal.of_no_weight and await _has_written(connection)):
        raise _no_room()
    await connection.rollback()


async def _has_written(connection: Connection) -> bool:
    row = await (await connection.execute(_HAS_WRITTEN)).fetchone()
    return row is not None and bool(row["it_has"])


def _read_only() -> Refused:
    return Refused(
        "afloat.read_only",
        "The shop's own database is being brought back: this cannot be changed meanwhile.",
        "Try again in a few minutes.",
    )


def _no_room() -> Refused:
    return Refused(
        "afloat.full", "There is no room to keep this just now; it was not done.", "Try again in a few minutes."
    )
