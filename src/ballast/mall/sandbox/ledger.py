"""What the sandbox provider knows: payments, refunds, and callbacks that are still to be heard. One SQLite file."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE IF NOT EXISTS payment (
    code TEXT PRIMARY KEY, merchant TEXT NOT NULL, reference TEXT NOT NULL, amount_fen INTEGER NOT NULL, title TEXT NOT NULL,
    expires_at REAL NOT NULL, return_url TEXT NOT NULL, callback_url TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'open',
    UNIQUE (merchant, reference));
CREATE TABLE IF NOT EXISTS refund (
    code TEXT PRIMARY KEY, payment TEXT NOT NULL REFERENCES payment, reference TEXT NOT NULL, amount_fen INTEGER NOT NULL,
    status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS callback (
    callback_id TEXT PRIMARY KEY, merchant TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS delivery (
    number INTEGER PRIMARY KEY, callback_id TEXT NOT NULL REFERENCES callback, due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, heard INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (due_at) WHERE heard = 0;
"""


class Ledger:
    """Its calls are short and are made from one thread."""

    def __init__(self, path: Path | str) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        self._base.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing by it; a machine that loses its power may lose the last play money.
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def one(self, statement: str, **parameters: object) -> dict[str, Any] | None:
        """The first row, or None."""
        row = self._base.execute(statement, parameters).fetchone()
        return dict(row) if row else None

    def all(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        """All rows."""
        return [dict(row) for row in self._base.execute(statement, parameters)]

    def run(self, statement: str, **parameters: object) -> int:
        """How many rows were changed."""
        return self._base.execute(statement, parameters).rowcount

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done in it is kept together, or not at all."""
        self._base.execute("BEGIN IMMEDIATE")
        with self._base:
            yield

    def open_payment(self, asked: dict[str, object]) -> dict[str, Any]:
        """A payment; the one that is there where the merchant has asked by this reference before."""
        made = self.one(
            "INSERT INTO payment (code, merchant, reference, amount_fen, title, expires_at, return_url, callback_url)"
            " VALUES (:code, :merchant, :reference, :amount_fen, :title, :expires_at, :return_url, :callback_url)"
            " ON CONFLICT DO NOTHING RETURNING *",
            code=secrets.token_urlsafe(12),
            **asked,
        )
        if made is not None:
            return made
        found = self.one(
            "SELECT * FROM payment WHERE merchant = :merchant AND reference = :reference",
            merchant=asked["merchant"],
            reference=asked["reference"],
        )
        if found is None:
            raise RuntimeError("a payment that was written cannot be read")
        return found

    def know_paid(self, payments: Iterable[tuple[str, str, str, int]], callback_url: str) -> None:
        """Payments that are paid already, for seeded shops: (code, merchant, reference, fen). Known ones stay as they are."""
        self.run("PRAGMA synchronous = NORMAL")
        self.run("BEGIN IMMEDIATE")
        self._base.executemany(
            "INSERT INTO payment (code, merchant, reference, amount_fen, title, expires_at, return_url, callback_url, status)"
            " VALUES (?, ?, ?, ?, '', 0, '', ?, 'paid') ON CONFLICT DO NOTHING",
            ((*one, callback_url) for one in payments),
        )
        self.run("COMMIT")

    def notify(self, payment: dict[str, Any], body: str, callback_id: str, due: list[float]) -> None:
        """A callback that is to be delivered at these moments (unix seconds)."""
        self.run(
            "INSERT INTO callback VALUES (:callback_id, :merchant, :url, :body)",
            callback_id=callback_id,
            merchant=payment["merchant"],
            url=payment["callback_url"],
            body=body,
        )
        for at in due:
            self.run(
                "INSERT INTO delivery (callback_id, due_at) VALUES (:callback_id, :at)", callback_id=callback_id, at=at
            )

    def due(self, now: float) -> list[dict[str, Any]]:
        """Deliveries whose time has come."""
        return self.all(
            "SELECT d.number, d.attempts, c.* FROM delivery d JOIN callback c USING (callback_id)"
            " WHERE d.heard = 0 AND d.due_at <= :now ORDER BY d.due_at LIMIT 50",
            now=now,
        )
