"""Visitors of random tenants, one every few milliseconds, from the loss on until every tenant is back."""

from __future__ import annotations

import random
import threading
import time

import psycopg

_EVERY_S = 0.01
_AT_ONCE = 16
# No such function or table: nobody can be served yet, or all are back already.
_NO_RECOVERY = ("42883", "42P01", "3F000")


class Visitors:
    """They come to the database of `dsn` as soon as it answers. All times count from `lost_at`."""

    def __init__(self, dsn: str, tenants: int, lost_at: float) -> None:
        self._dsn, self._tenants, self._lost_at = dsn, tenants, lost_at
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._seen: set[int] = set()
        self.first_served_s: float | None = None
        self.first_visits_s: list[float] = []
        """Of tenants that were not back when the visitor came: seconds until what was asked for was there."""
        self.served = 0
        self.problems: list[str] = []
        self._threads = [threading.Thread(target=self._come, args=(n,), daemon=True) for n in range(_AT_ONCE)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _come(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - the visits are to be the same in every run
        with psycopg.connect(self._dsn, autocommit=True, options="-c search_path=public") as conn:
            while not self._over.wait(_EVERY_S * _AT_ONCE):
                try:
                    self._visit(conn, chance.randint(1, self._tenants))
                except psycopg.Error as error:
                    if error.sqlstate not in _NO_RECOVERY:
                        self.problems.append(f"{error.sqlstate}: {error}")

    def _visit(self, conn: psycopg.Connection[tuple[object, ...]], tenant: int) -> None:
        started = time.monotonic()
        with conn.transaction():
            missing = conn.execute(
                "SELECT back_at IS NULL FROM ballast_recovery.tenant WHERE tenant = %s", (str(tenant),)
            ).fetchone()
            conn.execute("SELECT ballast.ensure_tenant(%s)", (str(tenant),))
            found = conn.execute("SELECT count(*) FROM pgbench_tellers WHERE bid = %s", (tenant,)).fetchone()
        now = time.monotonic()
        with self._lock:
            self.served += 1
            self.first_served_s = self.first_served_s or now - self._lost_at
            if missing == (True,) and tenant not in self._seen:
                self.first_visits_s.append(now - started)
            self._seen.add(tenant)
            if found != (10,):
                self.problems.append(f"tenant {tenant} was served with {found} tellers")
