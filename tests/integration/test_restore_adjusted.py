"""A moment after changes of the structure that no dump has seen yet: what the record of the tables tells is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ballast.errors import RestoreError
from ballast.recovery import Report, Request, restore
from tests.fix_postgres import Database
from tests.kept import Kept, contents, structure

pytestmark = pytest.mark.any_version

BEFORE = (
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text)",
    "CREATE TABLE item (tenant text REFERENCES shop, id int, label text, price int DEFAULT 3, old text,"
    " PRIMARY KEY (tenant, id))",
    "CREATE INDEX item_label ON item (label)",
    "CREATE INDEX item_old ON item (old)",
    "CREATE TABLE gone (tenant text PRIMARY KEY)",
    "CREATE INDEX ON gone (tenant)",
    "CREATE TABLE visit (tenant text, day date, n int, PRIMARY KEY (tenant, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE visit_25 PARTITION OF visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    "CREATE TABLE visit_26 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "INSERT INTO shop VALUES ('a', 'Ann'), ('b', 'Bob')",
    "INSERT INTO item SELECT t, g, 'label ' || g, g, 'old' FROM (VALUES ('a'), ('b')) v (t), generate_series(1, 5) g",
    "INSERT INTO visit SELECT 'a', d, 1 FROM (VALUES (date '2025-05-05'), ('2026-06-06')) v (d)",
    "INSERT INTO gone VALUES ('a')",
)


def later(db: Database, folder: Path, *commands: str) -> tuple[Database, Report]:
    """BEFORE is dumped, `commands` are not; where everything came back, and the report."""
    db.run(*BEFORE)
    kept = Kept(db, folder)
    kept.look()
    db.run(*commands)
    kept.look(dump=False)
    to = db.another()
    report = restore(kept.vault, kept.vault.resolve(None), to.dsn, Request())
    assert report.proven
    assert contents(to) == contents(db)
    return to, report


def test_new_and_dropped_tables_and_columns(pg: Database, open_folder: Path) -> None:
    to, report = later(
        pg,
        open_folder,
        "DROP TABLE gone",
        "CREATE SCHEMA more",
        'CREATE TABLE more.thing (id bigserial PRIMARY KEY, tenant text NOT NULL, n numeric(9,2) DEFAULT 1.5, "Odd one" int,'
        ' twice int GENERATED ALWAYS AS ("Odd one" * 2) STORED, who int GENERATED ALWAYS AS IDENTITY)',
        "INSERT INTO more.thing (tenant, \"Odd one\") SELECT 'a', g FROM generate_series(1, 9) g",
        "ALTER TABLE item ADD COLUMN colour text NOT NULL DEFAULT 'red', DROP COLUMN old",
        "ALTER TABLE item ALTER COLUMN price TYPE numeric(8, 2), ALTER COLUMN price SET DEFAULT 4.5",
        "ALTER TABLE item ALTER COLUMN label SET NOT NULL",
        "ALTER TABLE visit ADD COLUMN note text",
        "UPDATE visit SET note = 'there'",
    )
    assert structure(to) == structure(pg)
    said = "\n".join(report.warnings)
    assert "column public.item.colour added" in said
    assert "table more.thing created" in said
    assert "compare with your migrations" in said
    assert "item_old was not made" in said
    assert to.query("SELECT nextval('more.thing_id_seq') > 9, nextval('more.thing_who_seq') > 9") == [(True, True)]


def test_renames_take_keys_and_indexes_along(pg: Database, open_folder: Path) -> None:
    to, _ = later(
        pg,
        open_folder,
        "ALTER TABLE item RENAME TO product",
        "ALTER TABLE product RENAME COLUMN label TO waiting",
        "ALTER TABLE product RENAME COLUMN old TO label",
        "ALTER TABLE product RENAME COLUMN waiting TO old",
        "ALTER TABLE shop RENAME TO waiting",
        "ALTER TABLE gone RENAME TO shop",
        "ALTER TABLE waiting RENAME TO gone",
        "CREATE SCHEMA archive",
        "ALTER TABLE visit RENAME COLUMN n TO m",
        "ALTER TABLE visit RENAME TO call",
        "ALTER TABLE visit_25 SET SCHEMA archive",
        "ALTER TABLE product RENAME COLUMN price TO cost",
        "ALTER TABLE product ADD COLUMN price int",
    )
    assert structure(to) == structure(pg)


def test_a_column_that_came_again_has_not_the_index_of_the_former(pg: Database, open_folder: Path) -> None:
    to, _ = later(
        pg,
        open_folder,
        "ALTER TABLE item DROP COLUMN old",
        "ALTER TABLE item ADD COLUMN old int DEFAULT 7",
        "DROP TABLE gone",
        "CREATE TABLE gone (tenant text, again int)",
        "INSERT INTO gone VALUES ('b', 1), ('b', 1)",
    )
    assert structure(to) == structure(pg)


def test_partitions_are_told_apart(pg: Database, open_folder: Path) -> None:
    to, report = later(
        pg,
        open_folder,
        "ALTER TABLE visit DETACH PARTITION visit_25",
        "ALTER TABLE visit_25 ADD COLUMN own text DEFAULT 'x'",
        "CREATE TABLE visit_27 PARTITION OF visit FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "INSERT INTO visit VALUES ('b', '2027-07-07', 2)",
    )
    assert "public.visit_27 was a partition of public.visit; its bounds are not known" in "\n".join(report.warnings)
    assert to.query("SELECT count(*) FROM visit") == [(1,)]


def test_what_cannot_be_made_is_said_and_nothing_is_left(pg18: Database, open_folder: Path) -> None:
    with pytest.raises(RestoreError, match=r"this step cannot be repeated: table public\.feeling"):
        later(pg18, open_folder, "CREATE TYPE mood AS ENUM ('odd')", "CREATE TABLE feeling (tenant text, m mood)")
