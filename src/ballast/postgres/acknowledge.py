"""Which position may be reported to the server as flushed.

A synchronous standby's report releases the clients whose commits lie before it, so one that is too high loses
acknowledged commits, and one that is too low leaves clients waiting. Two things are exact (measured on 15, 16 and 18):

- A commit is acknowledged by the **end LSN** of its Commit message; its commit LSN does not release the client.
- A keepalive's `wal_end` is acknowledged as soon as every commit received before it is durable, provided it
  arrived outside a transaction. Nothing else releases transactions that the stream does not contain: those that
  change only the structure, and those of other databases.
"""

from __future__ import annotations

from collections import deque


class AckTracker:
    """Fed with what arrives and with what became durable, in that order; says what may be acknowledged.

    All positions are LSNs as numbers. `start`: everything before it is durable already.
    """

    __slots__ = ("_idle", "_received", "durable_lsn", "flush_lsn", "in_transaction")

    def __init__(self, start: int) -> None:
        self.flush_lsn = start
        """The highest position that may be reported. It never goes back."""
        self.durable_lsn = start
        """Every commit before it that was received is durable."""
        self.in_transaction = False
        self._received = start  # end of the last commit that arrived
        self._idle: deque[tuple[int, int]] = deque()  # (commit that must be durable first, wal_end)

    @property
    def received_lsn(self) -> int:
        """The end of the last commit that arrived, durable or not."""
        return self._received

    def begin(self) -> None:
        """A Begin arrived."""
        self.in_transaction = True

    def commit(self, end_lsn: int) -> None:
        """A Commit arrived."""
        self.in_transaction = False
        self._received = max(self._received, end_lsn)

    def keepalive(self, wal_end: int) -> None:
        """A keepalive arrived.

        One inside a transaction is passed over: the end of that transaction, which follows, lies beyond it.
        """
        if self.in_transaction:
            return
        if self._received <= self.durable_lsn:
            self.flush_lsn = max(self.flush_lsn, wal_end)
        elif self._idle and self._idle[-1][0] == self._received:
            self._idle[-1] = (self._received, max(self._idle[-1][1], wal_end))
        else:
            self._idle.append((self._received, wal_end))

    def durable(self, end_lsn: int) -> int:
        """Every commit up to the one that ends at `end_lsn` is durable; gives the new `flush_lsn`.

        A position past the last commit that arrived promises nothing that could be kept: ValueError.
        """
        if end_lsn > self._received:
            raise ValueError(f"durable up to {end_lsn:X}, but commits arrived only up to {self._received:X}")
        self.durable_lsn = max(self.durable_lsn, end_lsn)
        flush = max(self.flush_lsn, self.durable_lsn)
        while self._idle and self._idle[0][0] <= self.durable_lsn:
            flush = max(flush, self._idle.popleft()[1])
        self.flush_lsn = flush
        return flush
