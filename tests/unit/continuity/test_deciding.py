"""What the sentinel makes of what it sees: a look that says nothing of the data is no loss, and a mistake is taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from ballast.continuity import holding, incident
from ballast.continuity.asking import Asking
from ballast.continuity.board import Board
from ballast.continuity.boats import Made
from ballast.continuity.entries import HOME, MERGED, Offered
from ballast.continuity.helm import BOARD
from ballast.continuity.homecoming import Came, HomeComing
from ballast.continuity.incident import WELL_LOOKS, Incident
from ballast.continuity.leaving import LAUNCHING
from ballast.continuity.lifeboat import Lifeboat
from ballast.continuity.options import Options
from ballast.continuity.patience import Busy
from ballast.continuity.probe import Seen
from ballast.continuity.sentinel import Sentinel
from ballast.continuity.signs import Sign
from ballast.continuity.wipes import Chosen
from ballast.vault import Resolved, config
from ballast.vault.logbook import Logbook
from ballast.vault.records import Cut
from tests.fix_sentinel import idle_sentinel

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


@pytest.fixture
def sentinel(tmp_path: Path) -> Sentinel:
    """One that has not begun: no thread, no server, no vault."""
    return idle_sentinel(tmp_path)


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
    monkeypatch.setattr(sentinel, "_interrupted", lambda: "")  # no recovery was
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


@pytest.mark.parametrize(
    ("why", "identifier", "accepted", "mode"),
    [
        (Sign.GONE, "7", False, "home"),
        (Sign.GONE, "7", True, "launching"),
        (Sign.GONE, "8", False, "launching"),
        (Sign.EMPTY, "7", False, "launching"),
    ],
)
def test_home_is_well_before_there_is_a_lifeboat(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch, why: Sign, identifier: str, accepted: bool, mode: str
) -> None:
    """Of rows that were gone the record must tell; what was accepted must be brought there."""
    monkeypatch.setattr("ballast.continuity.tail.is_recording", lambda settings: True)
    if accepted:
        sentinel._intake.take([Offered("lin", "a", "checkout", {}, NOON)])
    sentinel._course = sentinel._course.lost(why, NOON)
    sentinel._incident = incident.write(sentinel._folder, Incident(NOON, why, lost="7"))
    for _ in range(WELL_LOOKS):
        assert sentinel._course.mode == "launching"
        sentinel._see(Seen(Sign.NONE, identifier, answer=True))
        sentinel._try_at = 0.0
        sentinel._step()
    assert sentinel._course.mode == mode
    assert (incident.read(sentinel._folder) is None) == (mode == "home")


def test_a_recovered_server_is_home_when_the_first_shop_is_there_and_not_before(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ballast.continuity.tail.is_recording", lambda settings: True)
    monkeypatch.setattr(sentinel, "_recorded", lambda: "8")
    sentinel._course = sentinel._course.lost(Sign.GONE, NOON).launched("host=/boat", NOON)
    sentinel._incident = Incident(NOON, Sign.GONE, lost="7", data_lost=True)
    sentinel._seen_true = True
    sentinel._see(Seen(Sign.NONE, "8", answer=False))
    sentinel._see_to_home()
    assert sentinel._course.mode == "afloat"
    sentinel._see(Seen(Sign.NONE, "8", answer=True))
    sentinel._see_to_home()
    assert sentinel._course.mode == "returning"


@pytest.mark.parametrize("mode", ["afloat", "returning"])
def test_without_its_vault_it_neither_ends_nor_stops_anybody(tmp_path: Path, mode: str) -> None:
    sentinel = idle_sentinel(tmp_path, tmp_path / "server")
    sentinel._course = sentinel._course.lost(Sign.GONE, NOON).launched("host=/boat", NOON)
    if mode == "returning":
        sentinel._course = sentinel._course.home_is_open().came_home("lin")
    left = Incident(NOON, Sign.GONE, lost="7", data_lost=True, ordered=True)
    sentinel._incident = incident.write(sentinel._folder, left)
    sentinel._open_vault()
    assert "no vault" in sentinel._vault_away
    for _ in range(3):
        sentinel._try_at = 0.0
        sentinel._step()
    assert sentinel._course.mode == mode
    assert not holding.is_held(sentinel._folder)
    assert sentinel._waits_for == "the vault"


def test_leftovers_that_cannot_be_merged_do_not_keep_it_from_looking(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ballast.continuity.tail.is_recording", lambda settings: True)
    sentinel._intake.take([Offered("lin", "a", "checkout", {}, NOON)])
    sentinel._merge_leftovers()
    assert sentinel._trouble
    assert sentinel._try_at <= time.monotonic()
    numbers = sentinel._intake.entries()[-1].number
    sentinel._merge_leftovers()
    assert sentinel._intake.entries()[-1].number == numbers, "not tried again at once"


def test_home_that_went_elsewhere_while_no_sentinel_ran_is_told_by_the_next(tmp_path: Path) -> None:
    sentinel = idle_sentinel(tmp_path, None)
    sentinel._take_up()
    incident.write(sentinel._folder, Incident(NOON, Sign.GONE, lost="7"))
    sentinel._tell(sentinel._course.lost(Sign.GONE, NOON))
    former = sentinel._settings.dsn
    sentinel._end()
    elsewhere = replace(config.load(tmp_path / "ballast.toml"), dsn="host=/elsewhere dbname=shops")
    config.write(elsewhere, tmp_path / "ballast.toml")
    sentinel = Sentinel(Options(tmp_path / "ballast.toml", None, 18, "", "SELECT false"), Logbook("sentinel"))
    sentinel._take_up()
    course = Board(sentinel._folder / BOARD).course()
    assert course.mode == "launching"
    assert conninfo_to_dict(course.at_home(f"{former} user=app")) == conninfo_to_dict(elsewhere.dsn, user="app")
    sentinel._end()


def test_a_home_that_takes_long_to_take_shops_in_does_not_keep_it_from_the_lifeboat(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def bring(coming: HomeComing, tenants: Sequence[str]) -> Came:
        coming._close(tenants)
        answers.wait(30)
        coming._note(MERGED, tenants)
        return Came(tuple(tenants))

    monkeypatch.setattr(HomeComing, "bring", bring)
    monkeypatch.setattr("ballast.continuity.bringing._BRINGING_HOME_S", 0.2)
    sentinel._incident = Incident(NOON, Sign.GONE, lost="7")
    sentinel._course = sentinel._course.lost(Sign.GONE, NOON).launched("host=/boat", NOON).home_is_open()
    for _ in range(2):
        with pytest.raises(Busy):
            sentinel._bring_these(("lin",))
    sentinel._away_again()  # another lifeboat: who is on the way home does not come into it
    assert sentinel._intake.closed() == {"lin"}
    answers.set()
    until = time.monotonic() + 20
    while sentinel._course.place("lin") != "home":
        assert time.monotonic() < until
        with suppress(Busy):
            sentinel._bring_these(("lin",))
    assert not sentinel._bringing


def test_a_persons_word_without_a_moment_leaves_the_one_that_was_chosen(sentinel: Sentinel) -> None:
    sentinel._incident = Incident(NOON, Sign.EMPTY, only=("lin",), at="1/0/5", moments={"lin": "1/0/5"})
    sentinel._rung("recover")
    assert sentinel._incident == Incident(
        NOON, Sign.EMPTY, only=("lin",), at="1/0/5", moments={"lin": "1/0/5"}, ordered=True
    )
    assert incident.read(sentinel._folder) == sentinel._incident


def test_what_it_does_at_home_waits_for_nobodys_lock(sentinel: Sentinel) -> None:
    found = conninfo_to_dict(sentinel._home_dsn())
    assert "lock_timeout=2s" in str(found["options"])
    assert found["connect_timeout"] == "3"


def test_asking_for_a_tenant_returns_at_once_and_tells_later_whose_time_is_over() -> None:
    asking = Asking()
    dsn = "host=/nowhere dbname=shops"
    assert asking.ask(dsn, ["lin", "wang"]) == []
    until = time.monotonic() + 20
    while not (over := asking.ask(dsn, ["lin"])):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert over == ["lin"]


class Record:
    """What the vault says when everything is sealed."""

    def __init__(self, sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch, at: int, why: str) -> None:
        self.is_sealed, self.launched, self.brought = False, 0, 0
        monkeypatch.setattr(sentinel, "_seal", lambda: self.is_sealed)
        monkeypatch.setattr(sentinel, "_choose", lambda: Chosen(moment(at), why))
        monkeypatch.setattr(sentinel, "_resolve", lambda position: moment(at))
        monkeypatch.setattr(sentinel, "_launch", self._launch)
        monkeypatch.setattr(sentinel, "_bring_in_again", self._bring)
        monkeypatch.setattr("ballast.continuity.leaving._AGAIN_S", 0.0)

    def _launch(self) -> None:
        self.launched += 1

    def _bring(self, resolved: Resolved) -> None:
        self.brought += 1


def moment(lsn: int) -> Resolved:
    return Resolved(Cut(1, lsn), NOON, "", ())


FORETOLD = Incident(NOON, Sign.EMPTY, boat=1, boat_at="1/0/4", foretold="1/0/5")


def test_a_deletion_that_was_seen_in_the_spool_is_confirmed_by_the_whole_record_before_home_is_recovered(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(sentinel, monkeypatch, 5, "just before shop was emptied")
    sentinel._incident = FORETOLD
    assert not sentinel._confirm()
    assert sentinel._incident == FORETOLD
    record.is_sealed = True
    assert sentinel._confirm()
    assert (sentinel._incident.at, sentinel._incident.foretold) == ("1/0/5", "")
    assert [span.since for span in sentinel._incident.beyond] == ["1/0/5"]
    assert (record.brought, record.launched) == (1, 0)
    assert incident.read(sentinel._folder) == sentinel._incident


@pytest.mark.parametrize(("at", "why", "noted"), [(3, "just before shop was emptied", "1/0/3"), (9, "", "")])
def test_where_the_whole_record_tells_another_moment_another_lifeboat_takes_the_place_of_that_one(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch, at: int, why: str, noted: str
) -> None:
    record = Record(sentinel, monkeypatch, at, why)
    record.is_sealed, sentinel._incident = True, FORETOLD
    assert not sentinel._confirm()
    assert (sentinel._incident.at, sentinel._incident.foretold) == (noted, FORETOLD.foretold)
    assert (record.brought, record.launched) == (0, 1)
    assert not sentinel._confirm(), "until one was launched"
    assert record.launched == 2


def test_a_foretold_deletion_whose_end_nobody_can_seal_is_recovered_from_all_the_same(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(sentinel, monkeypatch, 5, "just before shop was emptied")
    sentinel._incident = FORETOLD
    assert not sentinel._confirm()
    sentinel._confirm_at, sentinel._unsealed_since = 0.0, time.monotonic() - 29
    assert not sentinel._confirm()
    sentinel._confirm_at, sentinel._unsealed_since = 0.0, time.monotonic() - 31
    assert sentinel._confirm()
    assert (sentinel._incident.at, sentinel._incident.foretold) == (FORETOLD.boat_at, "")
    assert [span.since for span in sentinel._incident.beyond] == [FORETOLD.boat_at]
    assert record.launched == 0


def test_home_that_is_lost_again_has_another_lifeboat_launched_until_there_is_one(
    sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had gone home is not in the one that is still afloat as he is now."""
    tried: list[int] = []

    def launch() -> None:
        tried.append(1)
        raise Busy("the vault does not answer", "It is tried again.")

    monkeypatch.setattr(sentinel, "_launch", launch)
    monkeypatch.setattr(sentinel, "_refresh", lambda: None)
    sentinel._course = (
        sentinel._course.lost(Sign.GONE, NOON).launched("host=/boat", NOON).home_is_open().came_home("lin")
    )
    sentinel._intake.take([Offered("lin", "a", HOME, {}, NOON), Offered("lin", "b", MERGED, {}, NOON)])
    sentinel._incident = incident.write(sentinel._folder, Incident(NOON, Sign.GONE, lost="7", boat=3))
    with pytest.raises(Busy):
        sentinel._second_loss()
    for _ in range(2):
        with pytest.raises(Busy):
            sentinel._keep_afloat()
    assert len(tried) == 3
    assert sentinel._intake.closed() == {"lin"}
    left = incident.read(sentinel._folder)
    assert left is not None
    assert left.relaunch
    sentinel._vault_away = "its disk is gone"
    raised: list[Incident] = []
    monkeypatch.setattr(sentinel, "_raise", lambda under_way: not raised.append(under_way))
    sentinel._keep_afloat()
    assert sentinel._intake.closed() == frozenset(), "what they see is old, and is said to be"
    assert (raised, len(tried)) == ([left], 3), "the one that is there is seen to, and home, before the vault is back"


def test_a_lifeboat_that_is_still_being_made_when_everybody_is_home_is_thrown_away(
    sentinel: Sentinel, tmp_path: Path
) -> None:
    """Else it takes room until the next loss, which would have to throw it away before it gets its own."""
    may_end, boat = threading.Event(), Lifeboat(tmp_path / "boat")

    def make() -> Made:
        may_end.wait(30)
        return Made(1, boat, moment(5))

    with pytest.raises(Busy):
        sentinel._patience(LAUNCHING, make, 0.1, keep=True)
    sentinel._course, sentinel._incident = sentinel._course.lost(Sign.GONE, NOON), Incident(NOON, Sign.GONE)
    sentinel._stay_home()
    may_end.set()
    assert boat._wish.asked_only is not None
    assert boat._wish.asked_only.wait(30)
    assert sentinel._patience(LAUNCHING, lambda: "another", 30) == "another"
