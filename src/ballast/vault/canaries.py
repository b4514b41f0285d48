"""The guardian's end of the canary: a row with a nonce is written, and must come out of the stream (see canary.py).

Nothing here depends on how long that takes: the canary is lost when the stream has passed the place where it was committed
and it was not there. As long as the stream has not come so far, nobody can say anything.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import psycopg

_WRITE = (
    "INSERT INTO ballast.canary AS c (id, nonce, at) VALUES (1, %s, now())"
    " ON CONFLICT (id) DO UPDATE SET nonce = excluded.nonce, at = excluded.at"
)


class Canaries:
    """At most one is under way."""

    def __init__(self) -> None:
        self._nonce = ""
        self._lsn: int | None = None
        self._sent_at = 0.0
        self._seen = ""
        self.lost = False
        """The last one did not come; until one does."""

    def seen(self, nonce: str) -> None:
        """Told by the receiver, before it says that everything up to this place is durable."""
        if nonce == self._nonce:  # another recorder of this database sends its own
            self._seen = nonce

    def write(self, conn: psycopg.Connection[Any]) -> None:
        """Send one, in a transaction of the caller's; `sent` is to be called after the commit."""
        self._nonce, self._lsn = secrets.token_hex(8), None
        conn.execute(_WRITE, (self._nonce,))

    def sent(self, lsn: int) -> None:
        """It was committed before `lsn`."""
        self._lsn, self._sent_at = lsn, time.monotonic()

    @property
    def under_way_s(self) -> float:
        """For how long one has been; 0: none is."""
        return time.monotonic() - self._sent_at if self._lsn is not None else 0.0

    def look(self, durable_lsn: int) -> None:
        """The stream has come to `durable_lsn`."""
        if self._lsn is None:
            return
        if self._seen == self._nonce:
            self.lost, self._lsn = False, None
        elif durable_lsn >= self._lsn:
            self.lost, self._lsn = True, None

    def forget(self) -> None:
        """Whatever is under way may rightly have got lost."""
        self._lsn = None
