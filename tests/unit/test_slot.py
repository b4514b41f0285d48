"""From how much kept WAL on the slot is in danger: half of what production may keep, or its own word for it."""

import pytest

from ballast.vault.slot import SlotState

MB = 1 << 20


def slot(wal_status: str = "reserved", held: int | None = 0, limit: int | None = 100 * MB) -> SlotState:
    return SlotState(wal_status, 0, True, held, limit, 0)


@pytest.mark.parametrize(
    ("state", "alarming"),
    [
        (slot(held=0), False),
        (slot(held=50 * MB - 1), False),
        (slot(held=50 * MB), True),
        (slot("extended", held=200 * MB, limit=1000 * MB), False),
        (slot("extended", held=700 * MB, limit=1000 * MB), True),
        (slot("extended", held=700 * MB, limit=None), False),
        (slot("unreserved", held=0), True),
        (slot("unreserved", held=700 * MB, limit=None), True),
        (slot("lost", held=None), True),
        (slot("lost", held=None, limit=None), True),
    ],
    ids=[
        "nothing", "just below half", "half", "beyond max_wal_size, far from the limit", "beyond both",
        "no limit", "unreserved", "unreserved without a limit", "lost", "lost without a limit",
    ],
)  # fmt: skip
def test_when_it_is_an_alarm(state: SlotState, alarming: bool) -> None:
    assert state.alarming is alarming


@pytest.mark.parametrize("wal_status", ["reserved", "extended", "unreserved", "lost"])
def test_only_what_is_thrown_away_is_lost(wal_status: str) -> None:
    assert slot(wal_status).lost is (wal_status == "lost")
