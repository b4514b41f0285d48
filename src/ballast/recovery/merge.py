"""`merge`: what tenants produced elsewhere meanwhile is brought in through the application's own rules, each thing once.

Every item is one transaction: its line in the register, then whatever the handler does. Killed anywhere, either both are
there or neither, and the same call goes on. Items of one tenant are applied in the order in which they are given, those of
several tenants side by side. One that cannot be applied is kept with its reason, and the next one follows: a handler that
needs an earlier item looks for it, and raises CannotApply.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.pq import TransactionStatus

from ballast.recovery import merge_register as register
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.merge_items import CannotApply, Handler, MergeError, MergeItem
from ballast.recovery.merge_register import Refusal
from ballast.recovery.watcher import Silent, Watcher
from ballast.vault.failpoints import reach

Fate = Literal["applied", "already", "refused", "open", "settled"]

_REFUSALS = ("22", "23", "44", "P0")
"""Classes of SQLSTATE: data exception, integrity constraint, view's check option, and what a trigger raises."""
_PASSING = ("40",)
"""Serialization failures and deadlocks: the same again may succeed."""
_ATTEMPTS = 5
_WAITING_A_WORKER = 64
"""Items read ahead for each connection."""


class MergeReport(msgspec.Struct, frozen=True):
    """What became of the items of one call."""

    applied: int
    """Now."""
    already: int
    """By an earlier call, or they were given twice."""
    refused: tuple[Refusal, ...]
    """Now: each is kept, with its reason."""
    open: int
    """Refused by an earlier call, and neither tried again nor settled since."""
    settled: int
    """Refused once, and settled by somebody."""
    elapsed_s: float

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done for these items."""
        return not self.refused and not self.open


def merge(
    dsn: str,
    items: Iterable[MergeItem],
    handler: Handler,
    *,
    jobs: int = 2,
    watcher: Watcher | None = None,
    hands: Hands | None = None,
) -> MergeReport:
    """Apply each of `items` once to the database of `dsn`, by `jobs` connections; `handler` may be called by that many threads.

    `hands`: by those instead, who must be able to import the handler. MergeError where it cannot go on: a connection lost, a
    handler's own mistake. What is applied stays."""
    return _Merging(dsn, handler, jobs, watcher or Silent(), hands, again=False).run(items)


def retry(
    dsn: str,
    handler: Handler,
    *,
    tenant: str | None = None,
    key: str | None = None,
    jobs: int = 2,
    watcher: Watcher | None = None,
    hands: Hands | None = None,
) -> MergeReport:
    """Try again what was refused and is open (of one tenant, of one key); what is applied now is settled with that."""
    items = [refusal.item for refusal in register.refusals(dsn, tenant=tenant, key=key)]
    return try_again(dsn, items, handler, jobs=jobs, watcher=watcher, hands=hands)


def try_again(
    dsn: str,
    items: Iterable[MergeItem],
    handler: Handler,
    *,
    jobs: int = 2,
    watcher: Watcher | None = None,
    hands: Hands | None = None,
) -> MergeReport:
    """Those of `items` that were refused and are open, or that the application keeps (see `Handler`), once more; as `merge`.
    What is done of the latter counts as applied, what is still kept as open."""
    return _Merging(dsn, handler, jobs, watcher or Silent(), hands, again=True).run(items)


class Batch(msgspec.Struct, frozen=True):
    """Items whose tenants nobody else has in hand, for whoever applies them."""

    items: tuple[MergeItem, ...]
    handler: Handler
    again: bool
    since: datetime
    """By the target's clock, when it was handed out: what was noted later was noted by a worker that was lost with it."""


class Fates(msgspec.Struct, frozen=True):
    """What became of a batch's items, in order."""

    fates: tuple[Fate, ...]
    until: datetime
    """By the target's clock: all of it was noted before."""


def apply_batch(seat: Seat, batch: Batch) -> Fates:
    """Applies the items one after another, each in its transaction."""
    applying = _Applying(batch.handler, again=batch.again)
    fates: list[Fate] = []
    seen: set[tuple[str, str]] = set()
    with register.connect(seat.dsn) as conn:
        for item in batch.items:
            fate = applying.apply(conn, item)
            if (item.tenant, item.key) not in seen:
                fate = _of_lost_worker(conn, item, fate, batch.since)
            seen.add((item.tenant, item.key))
            fates.append(fate)
            seat.advance(1)
        return Fates(tuple(fates), register.now(conn))


def _of_lost_worker(conn: psycopg.Connection[Any], item: MergeItem, fate: Fate, since: datetime) -> Fate:
    """The fate that a worker before this one gave the item in the same batch, if it did; else `fate`."""
    if fate == "already" and register.applied_since(conn, item, since):
        return "applied"
    if fate == "open" and register.refused_since(conn, item, since):
        return "refused"
    return fate


class _Merging:
    def __init__(
        self, dsn: str, handler: Handler, jobs: int, watcher: Watcher, hands: Hands | None, *, again: bool
    ) -> None:
        self._dsn, self._watcher, self._hands = dsn, watcher, hands
        self._jobs = hands.count if hands is not None else jobs
        self._handler, self._again = handler, again
        self._counts: dict[Fate, int] = {"applied": 0, "already": 0, "refused": 0, "open": 0, "settled": 0}
        self._refused: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._failed = threading.Event()

    def run(self, items: Iterable[MergeItem]) -> MergeReport:
        started = time.monotonic()
        with register.connect(self._dsn) as conn:
            register.prepare(conn)
            self._began_at = register.now(conn)
        work = self._work if self._hands is None else partial(self._give_away, self._hands)
        self._watcher.begin("items", 0)
        waiting: list[queue.Queue[MergeItem | None]] = [queue.Queue(_WAITING_A_WORKER) for _ in range(self._jobs)]
        with ThreadPoolExecutor(self._jobs) as pool:
            workers = [pool.submit(work, mine) for mine in waiting]
            try:
                for item in items:
                    # A tenant's items go through one connection, and so stay in order.
                    if not self._put(waiting[zlib.crc32(item.tenant.encode()) % self._jobs], item):
                        break
            except BaseException:
                self._failed.set()
                raise
            finally:
                for mine in waiting:
                    self._put(mine, None)
        for worker in workers:
            worker.result()
        kept = register.refusals(self._dsn) if self._refused else ()
        now = {(refusal.tenant, refusal.key): refusal for refusal in kept}
        refused = tuple(now[at] for at in dict.fromkeys(self._refused) if at in now)
        return MergeReport(
            self._counts["applied"], self._counts["already"], refused, self._counts["open"], self._counts["settled"],
            time.monotonic() - started,
        )  # fmt: skip

    def _put(self, waiting: queue.Queue[MergeItem | None], item: MergeItem | None) -> bool:
        """False where the worker has gone."""
        while not self._failed.is_set():
            try:
                waiting.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def _work(self, mine: queue.Queue[MergeItem | None]) -> None:
        """Applies what comes, here."""
        applying = _Applying(self._handler, again=self._again)
        try:
            with register.connect(self._dsn) as conn:
                for batch in self._batches(mine, 1):
                    for item in batch:
                        self._count(item, applying.apply(conn, item))
        except BaseException:
            self._failed.set()
            raise

    def _give_away(self, hands: Hands, mine: queue.Queue[MergeItem | None]) -> None:
        """Has others apply what comes, one batch at a time: a tenant's items stay in order."""
        seat = Seat(None, self._dsn, lambda items: None)
        since = self._began_at
        try:
            for items in self._batches(mine, _WAITING_A_WORKER):
                batch = Batch(tuple(items), self._handler, self._again, since)
                (done,) = hands.map(apply_batch, [batch], seat)
                for item, fate in zip(items, done.fates, strict=True):
                    self._count(item, fate)
                since = done.until
        except BaseException:
            self._failed.set()
            raise

    def _batches(self, mine: queue.Queue[MergeItem | None], most: int) -> Iterator[list[MergeItem]]:
        """What has come, up to `most` at a time, until all has."""
        while not self._failed.is_set():
            batch: list[MergeItem] = []
            with contextlib.suppress(queue.Empty):
                while len(batch) < most:
                    item = mine.get_nowait() if batch else mine.get(timeout=0.2)
                    if item is None:
                        if batch:
                            yield batch
                        return
                    batch.append(item)
            if batch:
                yield batch

    def _count(self, item: MergeItem, fate: Fate) -> None:
        with self._lock:
            self._counts[fate] += 1
            if fate == "refused":
                self._refused.append((item.tenant, item.key))
        self._watcher.advance(1)


class _Applying:
    def __init__(self, handler: Handler, *, again: bool) -> None:
        self._handler, self._again = handler, again

    def apply(self, conn: psycopg.Connection[Any], item: MergeItem) -> Fate:
        """What became of it; MergeError where nothing can go on."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(conn, item)
            except psycopg.Error as error:
                state = error.sqlstate or ""
                if not state.startswith(_PASSING) or attempt == _ATTEMPTS:
                    raise MergeError(
                        f"{_named(item)} stopped the merge: {str(error).strip()}",
                        "It is not applied. Correct what the server complains about, then run the same again: it goes on.",
                    ) from error
                time.sleep(0.05 * attempt)
        raise AssertionError

    def _once(self, conn: psycopg.Connection[Any], item: MergeItem) -> Fate:
        with conn.transaction():
            register.take_turn(conn, item.tenant)
            applied, is_open = register.known(conn, item)
            if applied == item.digest():
                fate: Fate = self._keep_no_more(conn, item) if self._again else "already"
            elif is_open is not None and not (self._again and is_open):
                fate = "open" if is_open else "settled"
            elif applied is not None:
                register.keep(conn, item, "another item with this key was applied, of another kind or payload", None)
                fate = "refused"
            else:
                fate = self._handle(conn, item)
            reach("merge.handled")
        reach("merge.committed")
        return fate

    def _keep_no_more(self, conn: psycopg.Connection[Any], item: MergeItem) -> Fate:
        """Of one that the application keeps: whether it can be done by now."""
        if not register.is_kept(conn, item):
            return "already"
        try:
            with conn.transaction():
                is_kept = self._call(conn, item)
                if not is_kept:
                    register.note_kept(conn, item, kept=False)
                conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except CannotApply:
            return "open"
        except psycopg.Error as error:
            if conn.closed or not (error.sqlstate or "").startswith(_REFUSALS):
                raise
            return "open"
        return "open" if is_kept else "applied"

    def _handle(self, conn: psycopg.Connection[Any], item: MergeItem) -> Fate:
        try:
            with conn.transaction():
                register.note(conn, item)  # first: a handler that ends the transaction against the rule is noted, too
                if self._call(conn, item):
                    register.note_kept(conn, item, kept=True)
                conn.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what would be refused at COMMIT is refused here
                if self._again:
                    register.close(conn, item.tenant, item.key, "applied when it was tried again")
        except CannotApply as error:
            register.keep(conn, item, error.what, None)
            return "refused"
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if conn.closed or not state.startswith(_REFUSALS):
                raise
            parts = (error.diag.message_primary or str(error), error.diag.message_detail)
            register.keep(conn, item, ": ".join(filter(None, parts)), state)
            return "refused"
        return "applied"

    def _call(self, conn: psycopg.Connection[Any], item: MergeItem) -> bool:
        """Whether the application keeps it."""
        try:
            kept = self._handler(conn, item) is True
        except (CannotApply, psycopg.Error, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            raise MergeError(
                f"the handler failed at {_named(item)}: {type(error).__name__}: {error}",
                "Nothing of it was kept. Correct the handler (CannotApply is for what its rules forbid), then run the same"
                " again: it goes on.",
            ) from error
        if conn.info.transaction_status == TransactionStatus.IDLE:
            raise MergeError(
                f"the handler ended the transaction at {_named(item)}",
                "It must neither commit nor roll back. Look whether what it did for this item is there as it should be.",
            )
        return kept


def _named(item: MergeItem) -> str:
    return f"item {item.key!r} ({item.kind}) of tenant {item.tenant!r}"
