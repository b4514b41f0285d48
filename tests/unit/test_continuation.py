"""Whether a stream may go on where the spool ends: each way in which it may not, and what is said then."""

import msgspec
import pytest

from ballast.errors import BallastError
from ballast.postgres.replication import Identity
from ballast.vault.continuation import Fork, Missing, Origin, SlotLost, examine, left_timeline
from ballast.vault.slot import SlotState

ORIGIN = Origin("v", 1, "7000", "shop", 100)
SERVER = Identity(system_identifier="7000", timeline=1, flush_lsn=500, database="shop")
SLOT = SlotState("reserved", 200, False, 0, None, 500)
DURABLE = 300


def asked(server: Identity = SERVER, slot: SlotState | None = SLOT, left_at: int | None = None) -> Missing | None:
    return examine(ORIGIN, DURABLE, server, slot, left_at=left_at, slot_name="ballast")


def test_it_goes_on() -> None:
    assert asked() is None
    assert asked(slot=msgspec.structs.replace(SLOT, confirmed_flush=DURABLE)) is None
    assert asked(server=msgspec.structs.replace(SERVER, flush_lsn=DURABLE)) is None
    assert asked(server=msgspec.structs.replace(SERVER, timeline=2), left_at=DURABLE) is None, "a planned promotion"


def test_what_the_slot_has_passed_over_is_missing() -> None:
    assert asked(slot=msgspec.structs.replace(SLOT, confirmed_flush=301)) == Missing(300, 301)


@pytest.mark.parametrize(
    ("server", "left_at", "words"),
    [
        ({"system_identifier": "7001"}, None, "another one: its system identifier is 7001"),
        ({"database": "other"}, None, "leads to the database other"),
        ({"timeline": 2}, DURABLE - 1, "promoted at 0/12B, and commits up to 0/12C"),
        ({"timeline": 2}, 0, "promoted"),
        ({"flush_lsn": DURABLE - 1}, None, "log ends at 0/12B, before 0/12C"),
    ],
    ids=["another server", "another database", "promoted too early", "never on our timeline", "an older copy"],
)
def test_another_history_is_a_fork(server: dict[str, str | int], left_at: int | None, words: str) -> None:
    for slot in (SLOT, None, msgspec.structs.replace(SLOT, confirmed_flush=400)):
        with pytest.raises(Fork) as refused:
            asked(server=msgspec.structs.replace(SERVER, **server), slot=slot, left_at=left_at)
        assert words in str(refused.value)
        assert isinstance(refused.value, BallastError)
        assert refused.value.do


def test_a_slot_that_keeps_nothing() -> None:
    with pytest.raises(SlotLost, match="gone from production: NOT PROTECTED"):
        asked(slot=None)
    with pytest.raises(SlotLost, match="wal_status lost"):
        asked(slot=msgspec.structs.replace(SLOT, wal_status="lost"))


def test_where_a_timeline_was_left() -> None:
    history = "1\t0/12C\tno recovery target specified\n\n2\t0/2000000\tbefore 2026-01-01\n"
    assert left_timeline(history, 1) == 300
    assert left_timeline(history, 2) == 0x2000000
    assert left_timeline(history, 3) is None
