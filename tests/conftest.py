"""What every test may ask for stands in the files `fix_*.py`, named by what they give."""

import os
import re
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("ballast", deadline=None)
settings.load_profile("ballast")

# Tests start hundreds of Python processes; without bytecode on disk each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# As `ballast` has it for all that it starts; tests start some of that themselves.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

pytest_plugins = (
    "tests.fix_dask",
    "tests.fix_postgres",
    "tests.fix_protected",
    "tests.fix_recorder",
    "tests.fix_guarded",
    "tests.fix_vault",
    "tests.fix_pipeline",
    "tests.fix_mall",
    "tests.fix_people",
)

_TIMEOUT_S = 120.0
_LONGEST_FIRST = Path(__file__).with_name("longest_first.txt")
"""Files that take half a minute or more: begun last, one of them would keep the whole run waiting."""
_VERSION = re.compile(r"([\[-])(pg)?(?:16|18)([\]-])")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-version",
        action="store_true",
        help="run also tests marked `any_version` on each PostgreSQL, not on one",
    )
    parser.addoption(
        "--deep",
        action="store_true",
        help="run also tests marked `deep`: more samples of what others show, or much data",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No test hangs: one that says nothing itself is ended after two minutes. `any_version` and `deep` are looked after, and the order."""
    for item in items:
        if item.get_closest_marker("timeout") is None and not config.getini("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
    left_out: set[pytest.Item] = set()
    if not config.getoption("--every-version"):
        left_out |= set(_on_another_version(items))
    if not config.getoption("--deep"):
        left_out |= {item for item in items if item.get_closest_marker("deep") is not None}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]
    places = {config.rootpath / name: place for place, name in enumerate(_LONGEST_FIRST.read_text().split())}
    gone = [str(path) for path in places if not path.exists()]
    if gone:
        raise pytest.UsageError(f"{_LONGEST_FIRST.name} names what is not there: {', '.join(gone)}")
    items.sort(key=lambda item: places.get(item.path, len(places)))


def _on_another_version(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of tests marked `any_version` all variants but one, which the test's name chooses: the same in every run."""
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("any_version") is not None:
            name = _VERSION.sub(r"\1\3", item.nodeid)
            variants.setdefault(name, []).append(item)
    return [
        item
        for name, alike in variants.items()
        for number, item in enumerate(alike)
        if number != zlib.crc32(name.encode()) % len(alike)
    ]
