"""What the sentinel makes of what it sees: a look that says nothing of the data is no loss, and a mistake is taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity.incident import WELL_LOOKS, Incident
from ballast.continuity.options import Options
from ballast.continuity.probe import Seen
from ballast.continuity.sentinel import Sentinel
from ballast.continuity.signs import Sign
from ballast.vault import config
from ballast.vault.config import Config, Tenants
from ballast.vault.logbook import Logbook

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


@pytest.fixture
def sentinel(tmp_path: Path) -> Sentinel:
    """One that has not begun: no thread, no server, no vault."""
    made = Config(
        dsn="host=/nowhere dbname=shops", vault=str(tmp_path / "vault"), state_dir=tmp_path / "state",
        tenants=Tenants(column="tenant"),
    )  # fmt: skip
    config.write(made, tmp_path / "ballast.toml")
    return Sentinel(Options(tmp_path / "ballast.toml", None, 18, "", "SELECT false"), Logbook("sentinel"))


@pytest.mark.parametrize("words", ["out of shared memory", "permission denied for table shop"])
def test_a_probe_that_fails_for_a_reason_of_its_own_says_nothing_of_the_data(sentinel: Sentinel, words: str) -> None:
    sentinel._see(Seen(Sign.NONE, answer=True))
    for _ in range(10):
        sentinel._see(Seen(Sign.NONE, what=words))
    assert not sentinel._watched.lost
    assert not sentinel._well
    sentinel._see(Seen(Sign.NONE, answer=False))
    assert (sentinel._watched.lost, sentinel._watched.why) == (True, Sign.EMPTY)


def test_data_that_was_taken_for_lost_is_there_again_unless_it_was_touched_or_the_record_says_otherwise() -> None:
    lost = Incident(NOON, Sign.EMPTY, data_lost=True)
    assert lost.is_taken_back(WELL_LOOKS, begun=False)
    assert not lost.is_taken_back(WELL_LOOKS - 1, begun=False)
    assert not lost.is_taken_back(WELL_LOOKS, begun=True)
    assert not lost.with_(at="1/0/5", why_at="just before shop was emptied").is_taken_back(WELL_LOOKS, begun=False)
    assert not lost.with_(data_lost=False).is_taken_back(WELL_LOOKS, begun=False)


def test_home_is_well_again_and_everybody_goes_back_without_anybodys_word(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ballast.continuity.tail.is_recording", lambda settings: True)
    sentinel._course = sentinel._course.lost(Sign.EMPTY, NOON).launched("host=/boat", NOON)
    sentinel._incident = Incident(NOON, Sign.EMPTY, lost="7", data_lost=True, why_lost="its rows are gone")
    sentinel._seen_true = True
    sentinel._see(Seen(Sign.NONE, "7", answer=False))
    sentinel._see_to_home()
    assert sentinel._incident.data_lost
    for _ in range(WELL_LOOKS):
        sentinel._see(Seen(Sign.NONE, "7", answer=True))
    sentinel._see_to_home()
    assert not sentinel._incident.data_lost
    assert sentinel._course.mode == "returning"
