"""How sessions inside of transactions ask for tenants, and hear when these are back: through advisory locks alone.

What a transaction writes or notifies is seen at its commit, and it cannot commit before it has what it waits for. Its
locks are seen at once. A caller of `ballast.ensure_tenant` holds a shared lock whose number is the tenant's hash, of one
class or, in a hurry, of another, and asks for one of `_BELLS` locks that this side holds exclusively. When a tenant is
back that somebody waits for, the lock that its hash falls to is let go and taken again: all who waited there look after
their tenant. No caller polls, and one lock for each missing tenant would not fit into the server's lock table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import psycopg

from ballast.recovery.copying import Ask, converse, run_script

ASK, BELL, URGENT = 0x62616C6D, 0x62616C6E, 0x62616C6F
_BELLS = 256
MASK = _BELLS - 1

_HASHES = "SELECT tenant, hashtext(tenant) FROM ballast_recovery.tenant WHERE back_at IS NULL AND failure IS NULL"
_TAKE = f"SELECT n, pg_try_advisory_lock({BELL}, n) FROM generate_series(0, {MASK}) AS n"
_LOOK = f"""
SELECT pid, classid::bigint, objid::bigint, granted
  FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint IN ({ASK}, {BELL}, {URGENT}) AND pid <> pg_backend_pid()
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Heard(msgspec.Struct, frozen=True):
    """Who waits at this moment."""

    tenants: tuple[str, ...]
    """Missing ones that are asked for."""
    urgent: frozenset[str]
    """Those of them that come first."""
    sessions: int


class Doorbell:
    """Over a connection of its own, whose end lets all who wait look for themselves."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._by_hash: dict[int, list[str]] = defaultdict(list)
        for tenant, number in conn.execute(_HASHES.encode()).fetchall():
            self._by_hash[number & 0xFFFFFFFF].append(tenant)
        run_script(conn, "SET lock_timeout = '200ms'; SET synchronous_commit = off")
        # After an interruption some may be held for a moment by those who still wait.
        self._let_go = {bell for bell, taken in conn.execute(_TAKE.encode()).fetchall() if not taken}

    def listen(self, is_missing: Callable[[str], bool]) -> Heard:
        """Whom sessions ask for; those whose tenants are all back are told so."""
        asks: dict[int, set[int]] = defaultdict(set)
        waits: dict[int, int] = {}
        hurried: set[int] = set()
        for pid, kind, number, granted in self._look():
            if kind != BELL and granted:
                asks[pid].add(number)
                hurried |= {number} if kind == URGENT else set()
            elif kind == BELL and not granted:
                waits[pid] = number
        wanted = {n for numbers in asks.values() for n in numbers}
        missing = {n: [t for t in self._by_hash.get(n, ()) if is_missing(t)] for n in wanted}
        ring = {
            bell for pid, bell in waits.items() if not any(missing[n] for n in asks.get(pid, ()) if n & MASK == bell)
        }
        self._ring(ring | self._let_go)
        tenants = tuple(dict.fromkeys(t for names in missing.values() for t in names))
        urgent = frozenset(t for n in hurried for t in missing[n])
        return Heard(tenants, urgent, sum(any(missing[n] for n in numbers) for numbers in asks.values()))

    def _look(self) -> list[tuple[int, int, int, bool]]:
        rows = converse(self._conn, [Ask(_LOOK)])[0]
        return [(int(pid), int(kind), int(n), granted == "t") for pid, kind, n, granted in rows]

    def _ring(self, bells: Iterable[int]) -> None:
        for bell in bells:
            if bell in self._let_go:
                # Somebody holds it longer than it takes to look: any role can. Nobody else is kept waiting for that.
                taken = self._conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (BELL, bell)).fetchone()
                if taken == (True,):
                    self._let_go.discard(bell)
                continue
            self._conn.execute("SELECT pg_advisory_unlock(%s, %s)", (BELL, bell))
            try:
                # Those who waited hold it for a moment only; who holds it longer is asked again at the next look.
                self._conn.execute("SELECT pg_advisory_lock(%s, %s)", (BELL, bell))
            except psycopg.errors.LockNotAvailable:
                self._let_go.add(bell)
