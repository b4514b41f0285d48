"""What every test may ask for stands in the files `fix_*.py`, named by what they give."""

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("ballast", deadline=None)
settings.load_profile("ballast")

pytest_plugins = (
    "tests.fix_postgres",
    "tests.fix_protected",
    "tests.fix_recorder",
    "tests.fix_vault",
    "tests.fix_pipeline",
    "tests.fix_mall",
    "tests.fix_people",
)

_TIMEOUT_S = 120.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No test hangs: one that says nothing itself is ended after two minutes."""
    for item in items:
        if item.get_closest_marker("timeout") is None and not config.getini("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
