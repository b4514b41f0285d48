"""Asking the recovery at home for tenants who are being visited, without waiting: who asks holds a lock while he waits, which is
how the recovery hears of him, so each waits in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import psycopg

from ballast.errors import BallastError
from ballast.recovery import ensure

_MOST = 4
"""At once: as many connections at home."""
_PATIENCE_S = 2.0


class Asking:
    """Of one sentinel."""

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}

    def ask(self, dsn: str, tenants: Sequence[str]) -> list[str]:
        """Have these brought back as soon as may be; returns at once. Those of them who were asked for before, and whose time is
        over, so that others may take their place."""
        ended = [tenant for tenant, thread in self._threads.items() if not thread.is_alive()]
        for tenant in ended:
            del self._threads[tenant]
        for tenant in tenants:
            if tenant not in self._threads and tenant not in ended and len(self._threads) < _MOST:
                thread = threading.Thread(target=_ask, args=(dsn, tenant), name=f"asking {tenant}", daemon=True)
                self._threads[tenant] = thread
                thread.start()
        return [tenant for tenant in tenants if tenant in ended]


def _ask(dsn: str, tenant: str) -> None:
    with contextlib.suppress(BallastError, psycopg.Error):  # it comes in its turn, or tells why it cannot
        ensure(dsn, tenant, timeout_s=_PATIENCE_S)
