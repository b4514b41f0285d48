"""Import in the tests' words: files of some lines, a run of the command, what the shop has afterwards."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ballast.mall.imports import COLUMNS, Kind
from tests.commands import Said, ballast
from tests.fix_mall import MallDatabase

SHOP = {
    "shop": "lin",
    "name_zh": "林家茶铺",
    "industry": "food",
    "plan": "basic",
    "service_until": "2027-12-31",
    "opened_at": "2024-03-01",
}
PRODUCT = {"shop": "lin", "product_code": "T1", "name_zh": "龙井茶", "price_yuan": "100.00", "stock": "7"}
ORDER = {
    "shop": "lin",
    "order": "E1",
    "placed_at": "2025-04-02 20:15:08",
    "status": "closed",
    "buyer_name": "林静",
    "province": "浙江省",
    "street": "龙井路1号",
    "product_code": "T1",
    "product_name": "龙井茶",
    "price_yuan": "100.00",
    "quantity": "1",
}


def written(path: Path, kind: Kind, lines: Iterable[Mapping[str, str]], encoding: str = "utf-8") -> Path:
    """A file of that kind with these lines."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, [one.name for one in COLUMNS[kind]])
        writer.writeheader()
        writer.writerows(lines)
    return path


def environment(database: MallDatabase) -> dict[str, str]:
    """By which the command finds the database."""
    settings = database.settings()
    names = ("app_dsn", "identity_dsn", "platform_dsn", "secret")
    return {f"BALLAST_MALL_{name.upper()}": getattr(settings, name) for name in names}


class Office:
    """A folder with files, beside a database."""

    def __init__(self, folder: Path, database: MallDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.database = database
        for name, value in environment(database).items():
            monkeypatch.setenv(name, value)

    def bring(self, *, encoding: str = "utf-8", **files: Iterable[Mapping[str, str]]) -> Said:
        """`ballast mall import` with files of these lines."""
        arguments = []
        for kind in ("shops", "products", "orders"):
            if kind in files:
                arguments += [f"--{kind}", str(written(self.folder / f"{kind}.csv", kind, files[kind], encoding))]
        return self.bring_files(*arguments)

    def bring_files(self, *arguments: str) -> Said:
        """… with files that are there."""
        at = ["--bad", str(self.folder / "bad.csv"), "--invitations", str(self.folder / "invitations.tsv")]
        return ballast("mall", "import", *arguments, *at, "--config", str(self.folder / "none.toml"), "--json")

    @property
    def bad(self) -> list[tuple[str, int, str, str]]:
        """The bad lines: file, number, what it is about, why."""
        if not (self.folder / "bad.csv").exists():
            return []
        with (self.folder / "bad.csv").open(encoding="utf-8-sig", newline="") as file:
            return [(kind, int(number), about, why) for kind, number, about, why in list(csv.reader(file))[1:]]

    def one(self, statement: str, *parameters: Any) -> Any:
        """The first row of a statement; its value, if it has one column."""
        row = self.database.run(statement, *parameters)[0]
        return row[0] if len(row) == 1 else row


def books_balance(database: MallDatabase) -> None:
    """Of every shop: each day and each transaction adds up to nothing, and the provider has what was paid less what went back."""
    for group in ("day", "transaction_id"):
        assert not database.run(f"SELECT shop_id, {group} FROM mall.posting GROUP BY 1, 2 HAVING sum(amount_fen) <> 0")
    assert not database.run(
        "SELECT shop_id, p.fen, o.fen FROM (SELECT shop_id, sum(amount_fen) AS fen FROM mall.posting WHERE account = 'provider' GROUP BY 1) p"
        " FULL JOIN (SELECT shop_id, sum(paid_fen - refunded_fen) AS fen FROM mall.orders GROUP BY 1) o USING (shop_id)"
        " WHERE coalesce(p.fen, 0) <> coalesce(o.fen, 0)"
    )


def stock_adds_up(database: MallDatabase) -> None:
    """The movements of every SKU add up to its stock."""
    assert not database.run(
        "SELECT s.shop_id, s.sku_id FROM mall.stock s LEFT JOIN"
        " (SELECT shop_id, sku_id, sum(on_hand) AS on_hand, sum(reserved) AS reserved FROM mall.stock_movement GROUP BY 1, 2) m"
        " USING (shop_id, sku_id) WHERE (coalesce(m.on_hand, 0), coalesce(m.reserved, 0)) <> (s.on_hand, s.reserved)"
    )


def rows(database: MallDatabase) -> dict[str, int]:
    """How many rows each table of the mall has."""
    tables = database.run("SELECT tablename FROM pg_tables WHERE schemaname = 'mall'")
    # Visits are counted while pages are looked at, and written when it suits.
    return {
        str(name): int(database.run(f"SELECT count(*) FROM mall.{name}")[0][0])
        for (name,) in tables
        if name != "visit_hour"
    }


def child_environment(database: MallDatabase) -> dict[str, str]:
    """For a process of its own."""
    return {**os.environ, **environment(database)}
