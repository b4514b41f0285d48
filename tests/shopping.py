"""Writes to a platform of shops (`shops.py`): each a few statements, done to the server and to the model alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from tests.shops import KEYLESS, Shops

Connection = psycopg.Connection[Any]
TEXTS: tuple[str | None, ...] = ("plain", None, "", "tab\tnew\nline\\N", "店🛒", "long " * 700)


class Shopper:
    """Writes for one tenant over a connection; `model` follows. A write that finds no row to write to does nothing."""

    def __init__(self, conn: Connection, model: Shops, tenant: str, others: Sequence[str]) -> None:
        self.conn, self.model, self.tenant, self.others = conn, model, tenant, others

    def write(self, kind: str, a: int, b: int) -> None:
        """`a` and `b` choose row and value."""
        _KINDS[kind](self, a, b)

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.conn.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def _pick(self, table: str, a: int) -> str | None:
        own = sorted(self.model.own(table, self.tenant))
        return own[a % len(own)] if own else None

    def _set(self, table: str, key: str, place: int, value: object) -> None:
        name, of_key = self.model.name(table, place), self.model.name(table, 0)
        self._run(f'UPDATE {table} SET "{name}" = %s WHERE "{of_key}" = %s', value, key)
        self.model.set(table, key, place, value)

    def open(self, a: int, b: int) -> None:
        """The shop itself, if it is not there."""
        if self.tenant not in self.model.rows["shop"]:
            name = self.model.name("shop", 1)
            self._run(f'INSERT INTO shop (shop, "{name}") VALUES (%s, %s)', self.tenant, _text(b))
            self.model.insert("shop", self.tenant, _text(b), None)

    def item(self, a: int, b: int) -> None:
        """A new item, with some lines."""
        self.open(a, b)
        slots = [int(self.model.get("item", key, 2) or 0) for key in self.model.own("item", self.tenant)]
        slot, name = max(slots, default=0) + 1, self.model.name("item", 3)
        ((key,),) = self._run(
            f'INSERT INTO item (shop, slot, "{name}") VALUES (%s, %s, %s) RETURNING id', self.tenant, slot, _text(b)
        )
        self.model.insert("item", key, self.tenant, slot, _text(b))
        for _ in range(a % 3):
            self._line(str(key), b)

    def body(self, a: int, b: int) -> None:
        """The large value of an item."""
        if (key := self._pick("item", a)) is not None:
            self._set("item", key, 3, _text(b))

    def line(self, a: int, b: int) -> None:
        """A new line of an item."""
        if (key := self._pick("item", a)) is not None:
            self._line(key, b)

    def _line(self, item: str, b: int) -> None:
        ((key,),) = self._run("INSERT INTO line (item, n) VALUES (%s, %s) RETURNING id", item, b)
        self.model.insert("line", key, item, b)

    def line_changed(self, a: int, b: int) -> None:
        """A line."""
        if (key := self._pick("line", a)) is not None:
            self._set("line", key, 2, b)

    def line_gone(self, a: int, b: int) -> None:
        """A line."""
        if (key := self._pick("line", a)) is not None:
            self._run("DELETE FROM line WHERE id = %s", key)
            del self.model.rows["line"][key]

    def item_gone(self, a: int, b: int) -> None:
        """An item, and by the foreign key its lines."""
        if (key := self._pick("item", a)) is not None:
            self._run("DELETE FROM item WHERE id = %s", key)
            self.model.delete_item(key)

    def log(self, a: int, b: int) -> None:
        """Two equal rows of a table without a key."""
        for _ in range(1 + a % 2):
            self._run("INSERT INTO log VALUES (%s, %s)", self.tenant, _text(b))
            self.model.insert(KEYLESS, self.tenant, _text(b))

    def log_gone(self, a: int, b: int) -> None:
        """One of the rows that are equal."""
        if (key := self._pick(KEYLESS, a)) is not None:
            said = self.model.get(KEYLESS, key, 1)
            same = "shop = %s AND said IS NOT DISTINCT FROM %s"
            self._run(f"DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE {same})", self.tenant, said)
            del self.model.rows[KEYLESS][key]

    def swap(self, a: int, b: int) -> None:
        """Two items change places."""
        one, other = self._pick("item", a), self._pick("item", b)
        if one is None or other is None or one == other:
            return
        first, second = (self.model.get("item", key, 2) for key in (one, other))
        self._set("item", one, 2, -1)
        self._set("item", other, 2, first)
        self._set("item", one, 2, second)

    def move(self, a: int, b: int) -> None:
        """A row becomes another shop's. (Of an item that would be its lines' gap in the record.)"""
        to = self.others[b % len(self.others)]
        if (key := self._pick(KEYLESS, a)) is not None:
            same = "shop = %s AND said IS NOT DISTINCT FROM %s"
            one = f"ctid = (SELECT min(ctid) FROM log WHERE {same})"
            self._run(f"UPDATE log SET shop = %s WHERE {one}", to, self.tenant, said := self.model.get(KEYLESS, key, 1))
            del self.model.rows[KEYLESS][key]
            self.model.insert(KEYLESS, to, said)
        for table in self.model.extra():
            if (key := self._pick(table, a)) is not None:
                self._set(table, key, 1, to)

    def name(self, a: int, b: int) -> None:
        """The shop's name."""
        if self.tenant in self.model.rows["shop"]:
            self._set("shop", self.tenant, 1, f"{_text(b)}")

    def word(self, a: int, b: int) -> None:
        """A shared row, new or changed."""
        code, name = f"w{a % 3}", self.model.name("word", 1)
        if code in self.model.rows["word"]:
            self._set("word", code, 1, f"said {b}")
        else:
            self._run(f'INSERT INTO word (code, "{name}") VALUES (%s, %s)', code, f"said {b}")
            self.model.insert("word", code, f"said {b}")

    def word_of(self, a: int, b: int) -> None:
        """The shop refers to a shared row, or no longer."""
        if self.tenant in self.model.rows["shop"]:
            words = [None, *sorted(self.model.rows["word"])]
            self._set("shop", self.tenant, 2, words[a % len(words)])

    def added(self, a: int, b: int) -> None:
        """A value in a column that was not there at first."""
        tables = [table for table in sorted(self.model.rows) if self.model.added(table) and self._pick(table, a)]
        if tables:
            table = tables[b % len(tables)]
            columns = self.model.added(table)
            key, place = self._pick(table, a), list(self.model.columns[table]).index(columns[a % len(columns)])
            self._set(table, str(key), place, f"added {b}")

    def extra(self, a: int, b: int) -> None:
        """A row in a table that was not there at first."""
        if tables := self.model.extra():
            table = tables[a % len(tables)]
            ((key,),) = self._run(f"INSERT INTO {table} (shop, v) VALUES (%s, %s) RETURNING id", self.tenant, _text(b))
            self.model.insert(table, key, self.tenant, _text(b))

    def extra_gone(self, a: int, b: int) -> None:
        """One less."""
        for table in self.model.extra():
            if (key := self._pick(table, a)) is not None:
                self._run(f"DELETE FROM {table} WHERE id = %s", key)
                del self.model.rows[table][key]
                return

    def closed(self, a: int, b: int) -> None:
        """Everything of the tenant goes."""
        for key in self.model.own("item", self.tenant):
            self.model.delete_item(key)
        for table in ("item", KEYLESS, *self.model.extra(), "shop"):
            self._run(f"DELETE FROM {table} WHERE shop = %s", self.tenant)
            for key in self.model.own(table, self.tenant):
                del self.model.rows[table][key]


_KINDS: dict[str, Callable[[Shopper, int, int], None]] = {
    name: method for name, method in vars(Shopper).items() if not name.startswith("_") and name != "write"
}
KINDS = (*sorted(_KINDS), "item", "line", "log", "item_gone")  # some more often


def _text(b: int) -> str | None:
    return TEXTS[b % len(TEXTS)]
