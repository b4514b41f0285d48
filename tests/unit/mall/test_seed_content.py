"""What is seeded depends on the seed alone: not on the process, not on what was seeded before."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from ballast.mall import tables
from ballast.mall.seed.pictures import paint
from ballast.mall.seed.planting import content, planned

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
_PRINTED = "from tests.unit.mall.test_seed_content import digest; print(digest(1, 4))"


def digest(seed: int, number: int) -> str:
    """Of all rows of a shop."""
    rows, _ = content(planned(seed, number), 40, 10, [paint(3)], "hash", NOW)
    return hashlib.sha256(msgspec.json.encode([rows.of(kind) for kind in tables.Row.__subclasses__()])).hexdigest()


def test_another_process_makes_the_same() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    said = subprocess.run(
        [sys.executable, "-c", _PRINTED], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    digest(1, 3)  # what was made before does not matter
    assert said.stdout.strip() == digest(1, 4)


@pytest.mark.parametrize("other", [(2, 4), (1, 13)])
def test_another_seed_or_number_makes_something_else(other: tuple[int, int]) -> None:
    assert digest(*other) != digest(1, 4)


def test_without_orders_or_goods_on_sale_there_is_a_shop_all_the_same() -> None:
    rows, paid = content(planned(1, 1), 0, 1, [], "hash", NOW)
    assert (len(rows.of(tables.Order)), paid) == (0, [])
    assert len(rows.of(tables.Product)) == 1
    assert len(rows.of(tables.Customer)) == 3


def test_more_products_than_there_are_names_have_names_of_their_own() -> None:
    rows, _ = content(planned(1, 1), 0, 700, [], "hash", NOW)
    titles = [product.title for product in rows.of(tables.Product) if isinstance(product, tables.Product)]
    assert len(set(titles)) == 700
