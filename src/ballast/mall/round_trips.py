"""A connection with few ways there and back: statements that nobody waits for travel with the next one that somebody does.

What a request waits for, and most of what its database costs the web process, is the waiting itself: each time the process is
left and taken up again. So BEGIN goes with the first statement, what only writes (`later`) with the next that reads, and the last
of them with COMMIT (`finish`), in libpq's pipeline mode. psycopg's own pipeline sends each statement for itself and costs
more than the ways it saves; everything else is psycopg's, and whatever goes through it finds what was put off done before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import generators
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus, TransactionStatus
from psycopg.rows import DictRow
from psycopg.waiting import Ready, Wait

from ballast.mall.deeds import Journal
from ballast.mall.listed import Lists
from ballast.mall.listening import Ear

_MOST_PREPARED = 500
"""Of one connection; what comes after them is planned each time."""
_CANCEL_S = 5.0
# The server does not know the statement any more, or its tables have changed since.
_STALE = ("26000", "0A000")

_Statement = tuple[str | bytes, Mapping[str, Any] | Sequence[Any] | None]
_BEGIN: _Statement = ("BEGIN", None)
_COMMIT: _Statement = ("COMMIT", None)
Check = Callable[[int], None]
"""Looks at how many rows a statement gave, and raises where nothing may come of its transaction."""
_Gen = Generator[Any, Any, Any]


class Rows:
    """What a statement gave; as much of psycopg's cursor as is asked for."""

    def __init__(self, rows: list[DictRow], columns: list[str], rowcount: int) -> None:
        self.description = columns or None
        self.rowcount = rowcount
        self._rows, self._at = rows, 0

    async def fetchone(self) -> DictRow | None:
        """The next row, or None."""
        if self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    async def fetchall(self) -> list[DictRow]:
        """The rows that are left."""
        rest, self._at = self._rows[self._at :], len(self._rows)
        return rest


class _Prepared:
    """A statement as the server knows it, and the names of its columns once it has told them."""

    __slots__ = ("columns", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.columns: list[str] | None = None


class ShopConnection(psycopg.AsyncConnection[DictRow]):
    """A connection, what was put off on it, and who listens to what is done in its transaction."""

    journal: Journal | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.adapters.register_dumper(list, Lists)
        self._put_off: list[tuple[_Statement, Check | None]] = []
        self._idle = False
        self._ending = self._ended = self._writing = False
        self._first: tuple[_Statement, ...] = ()
        self._plans: dict[tuple[bytes, tuple[int, ...]], _Prepared] = {}
        self._texts: dict[tuple[str | bytes, bool], PostgresQuery] = {}
        self._made = 0
        self._reader: Any = None
        self._ear = Ear()

    def begin(self, *statements: _Statement) -> None:
        """A transaction begins with these, as soon as something is done in it."""
        self.forget()
        self._first = statements
        self._put_off = [(_BEGIN, None), *[(one, None) for one in statements]]
        self._idle = True

    def later(
        self, statement: str | bytes, parameters: Mapping[str, Any] | None = None, check: Check | None = None
    ) -> None:
        """Do this before whatever comes next, at the latest before the end. That is where its error is raised, and that of
        `check`: what comes with it was done then, and is not committed."""
        if self._ended:
            self.begin(*self._first)
        self._put_off.append(((statement, parameters), check))
        self._idle = False

    def ending(self, *, reads: bool = False) -> bool:
        """The next statement is the last of the transaction: COMMIT goes with it, unless somebody has to hear of it first, or
        something has to be looked at first and it does more than read. Where another one comes nevertheless, it begins another
        transaction like this one.

        Returns:
            Whether COMMIT goes with it: then what must not be kept has to be an error of the database."""
        self._ending = self.journal is None and (reads or not self._unchecked)
        self._writing = self._ending and not reads
        return self._ending

    @property
    def committing(self) -> bool:
        """COMMIT of something that was written went with a statement, and was not heard of."""
        return self._ending and self._writing

    def forget(self) -> None:
        """What was put off is not done."""
        self._put_off, self._idle, self._ending, self._ended = [], False, False, False

    async def flush(self) -> None:
        """Do now what was put off."""
        if self._put_off and not self._idle:
            await self._together()

    async def rollback(self) -> None:
        """ROLLBACK; what was put off is not done."""
        self.forget()
        await super().rollback()

    async def begin_anew(self) -> None:
        """After an error of the database: it is rolled back, and another transaction like it begins."""
        await self.rollback()
        self.begin(*self._first)

    async def finish(self) -> None:
        """COMMIT, with all that was put off."""
        if self._unchecked:
            self._ending = False
            await self._together()
        if not self._idle and not self._ended:
            self._ending = True
            await self._together()
        self.forget()

    async def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = False
    ) -> Any:
        """As psycopg's, with what was put off. Several statements in one text need `prepare=False`, where it has parameters
        or not."""
        if prepare is False or binary or not isinstance(query, str | bytes) or self._pipeline is not None:
            return await super().execute(query, params, prepare=prepare, binary=binary)
        return (await self._together((query, params)))[0]

    async def gather(self, *statements: _Statement) -> list[Rows]:
        """What each of these gives, one after the other, on one way. Raises the error of the first that failed."""
        return await self._together(*statements)

    async def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        """Whatever psycopg does with the connection comes by here, and after what was put off."""
        if self._ended:
            self.begin(*self._first)
        if self._put_off:
            await self._listen(self._communicate(self._taken()))
        self._ear.close()
        return await super().wait(gen, *arguments, **named)

    async def close(self) -> None:
        """As psycopg's."""
        self._ear.close()
        await super().close()

    async def _listen(self, talk: _Gen) -> Any:
        """Do what `_communicate` wants, which is nearly always to hear once; the rest is psycopg's to wait for."""
        try:
            wanted = next(talk)
            while wanted == Wait.R:
                await self._ear.heard(self.pgconn.socket)
                wanted = talk.send(Ready.R)
        except StopIteration as end:
            return end.value
        except asyncio.CancelledError:
            # As psycopg does it: what is under way is ended in the server, or the connection is of no more use.
            self._ear.close()
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                try:
                    await self._try_cancel(timeout=_CANCEL_S)
                    await super().wait(_going_on(talk, Wait.R), timeout=_CANCEL_S)
                except psycopg.errors.QueryCanceled:
                    pass
                except BaseException:
                    self.pgconn.finish()
            raise
        except BaseException:
            if self.pgconn.status != ConnStatus.OK:
                self._ear.close()
            raise
        self._ear.close()
        return await super().wait(_going_on(talk, wanted))

    @property
    def _unchecked(self) -> bool:
        return any(check for _, check in self._put_off)

    def _taken(self) -> list[tuple[_Statement, Check | None]]:
        taken = self._put_off
        self._put_off, self._idle = [], False
        return taken

    async def _together(self, *asked: _Statement) -> list[Rows]:
        if self._ended:
            self.begin(*self._first)
        async with self.lock:
            statements = [*self._taken(), *[(one, None) for one in asked]]
            last = 0
            if self._ending and statements and statements[0][0] is _BEGIN:
                # What is sent together is one transaction without being called so, and committed where it ends.
                del statements[0]
            elif self._ending:
                statements.append((_COMMIT, None))
                last = 1
            found: list[Rows] = await self._listen(self._communicate(statements, len(asked), last))
        self._ended, self._ending = self._ending, False
        return found

    def _communicate(
        self, statements: Sequence[tuple[_Statement, Check | None]], asked: int = 0, last: int = 0
    ) -> _Gen:
        """Send them all, then hear of all; what those `asked` before the `last` gave. Raises the error of the first that failed,
        or of a check of what came before it."""
        pgconn = self.pgconn
        reader = self._reader = self._reader or Transformer(self)
        sent: list[_Prepared | None] = []
        new: dict[int, Callable[[], None]] = {}
        heard: list[Any] = []
        failed = None
        pgconn.enter_pipeline_mode()
        try:
            for (text, parameters), _ in statements:
                self._send(reader, text, parameters, sent, new)
            pgconn.pipeline_sync()
            yield from generators.send(pgconn)
            try:
                for number in range(len(sent)):
                    if number in new:
                        (result, *_) = yield from generators.fetch_many(pgconn)
                        if result.status == ExecStatus.FATAL_ERROR:
                            failed = failed or result
                        elif result.status == ExecStatus.COMMAND_OK:
                            new[number]()
                    (result, *_) = yield from generators.fetch_many(pgconn)
                    if result.status == ExecStatus.FATAL_ERROR:
                        failed = failed or result
                    heard.append(result)
                (end, *_) = yield from generators.fetch_many(pgconn)  # of them all
                if end.status == ExecStatus.FATAL_ERROR:  # what was to be committed here was not
                    failed = failed or end
                    yield from generators.fetch_many(pgconn)
            except psycopg.Error:
                if failed is None:  # else the server said why it goes
                    raise
        finally:
            self._leave_pipeline()
        for (_, check), result in zip(statements, heard, strict=False):
            if check is not None and result.status == ExecStatus.TUPLES_OK:
                check(result.ntuples)
        if failed is not None:
            error = psycopg.errors.error_from_result(failed, encoding="utf-8")
            if error.sqlstate in _STALE:
                self._plans.clear()
            raise error
        end_at = len(heard) - last
        return [_rows(reader, heard[number], sent[number]) for number in range(end_at - asked, end_at)]

    def _send(
        self,
        reader: Any,
        text: str | bytes,
        parameters: Any,
        sent: list[_Prepared | None],
        new: dict[int, Callable[[], None]],
    ) -> None:
        """Put it into the pipeline, and what is known of it into `sent`; what is to be noted when it was prepared, into `new`."""
        query = self._texts.get((text, parameters is None))
        if query is None:
            query = PostgresQuery(reader)
            query.convert(text, parameters)
            if len(self._texts) < _MOST_PREPARED:
                self._texts[text, parameters is None] = query
        else:
            query.dump(parameters)
        key = (query.query, query.types)
        known = self._plans.get(key)
        if known is None:
            if len(self._plans) >= _MOST_PREPARED:
                self.pgconn.send_query_params(query.query, query.params, query.types, query.formats)
                sent.append(None)
                return
            self._made += 1
            known = made = _Prepared(b"mall_%d" % self._made)
            self.pgconn.send_prepare(made.name, query.query, query.types)
            new[len(sent)] = lambda: self._plans.__setitem__(key, made)
        self.pgconn.send_query_prepared(known.name, query.params, query.formats)
        sent.append(known)

    def _leave_pipeline(self) -> None:
        if self.pgconn.status != ConnStatus.OK or self.pgconn.pipeline_status == PipelineStatus.OFF:
            return
        try:
            self.pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:
            # Results are left in it that nobody will take.
            self.pgconn.finish()

    def _deallocate(self, name: bytes | None) -> _Gen:
        if name is None:
            self._plans.clear()
        yield from super()._deallocate(name)


def _going_on(talk: _Gen, wanted: Any) -> _Gen:
    """The same, when it has told already what it wants first."""
    while True:
        try:
            wanted = talk.send((yield wanted))
        except StopIteration as end:
            return end.value


def _rows(reader: Any, result: Any, known: _Prepared | None) -> Rows:
    columns = known.columns if known else None
    if columns is None:
        columns = [result.fname(n).decode() for n in range(result.nfields)]
        if known:
            known.columns = columns
    if not columns:
        return Rows([], [], result.command_tuples or 0)
    reader.set_pgresult(result)
    rows = reader.load_rows(0, result.ntuples, lambda values: dict(zip(columns, values, strict=True)))
    return Rows(rows, columns, result.ntuples)


def ending(connection: Any, *, reads: bool = False) -> bool:
    """The next statement is the last of the transaction, where its connection can send COMMIT with it: see there."""
    return isinstance(connection, ShopConnection) and connection.ending(reads=reads)


async def begin_anew(connection: Any) -> None:
    """After an error of what `ending` said it would go with: see there."""
    if isinstance(connection, ShopConnection):
        await connection.begin_anew()


async def flush(connection: Any) -> None:
    """Do now what was put off; with COMMIT, where `ending` said that this is the last."""
    if isinstance(connection, ShopConnection):
        await connection.flush()


async def later(
    connection: Any, statement: str, parameters: Mapping[str, Any] | None = None, check: Check | None = None
) -> None:
    """Do this at the latest before the transaction ends, where its connection can put something off; else now."""
    if isinstance(connection, ShopConnection):
        connection.later(statement, parameters, check)
        return
    cursor = await connection.execute(statement, parameters)
    if check is not None:
        check(cursor.rowcount)


async def gather(connection: Any, *statements: _Statement) -> list[Any]:
    """What each of these gives, one after the other; on one way, where the connection can."""
    if isinstance(connection, ShopConnection):
        return [*await connection.gather(*statements)]
    return [await connection.execute(*one) for one in statements]
