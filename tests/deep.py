"""Which variants of a test are run each time, and which by `make test-all` alone (`pytest --deep`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_deep(values: Iterable[Any], *each_time: Any) -> list[Any]:
    """Parameters for `parametrize`, those that are not named as run each time marked `deep`; tuples stand for several."""
    found = list(values)
    assert all(value in found for value in each_time), f"none of {found}: {each_time}"
    return [
        value
        if value in each_time
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.deep)
        for value in found
    ]
