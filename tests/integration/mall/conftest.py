"""For all tests of the mall that run in one process with it."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from ballast.mall import passwords


@pytest.fixture(scope="module", autouse=True)
def passwords_cost_little() -> Iterator[None]:
    """Real hashes at a twentieth of the costs: people are made and signed in some hundred times here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=16 << 10, parallelism=1))
        patch.setattr(passwords, "_NOBODY", passwords._by_chance())
        yield
