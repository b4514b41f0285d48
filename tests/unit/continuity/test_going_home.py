"""The intake closed for those who went home, and which of what it holds is still to be done."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity import Closed, Intake, Offered
from ballast.continuity.entries import AWAY, HOME, MERGED
from ballast.continuity.homecoming import note, open_entries
from ballast.continuity.writer import Writer

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def offer(tenant: str, key: str) -> Offered:
    return Offered(tenant, key, "checkout", {}, NOON)


def test_who_has_gone_home_is_refused_by_every_process_until_it_is_away_again(tmp_path: Path) -> None:
    intake, other = Intake(tmp_path), Intake(tmp_path)
    intake.take([offer("lin", "a"), offer("wang", "a")])
    note(intake, HOME, ["lin"])
    assert other.closed() == {"lin"}
    with pytest.raises(Closed, match="lin"):
        other.take([offer("wang", "b"), offer("lin", "b")])
    assert other.find("wang", "b") is None, "together or not at all"
    with pytest.raises(Closed):
        other.take([offer("lin", "a")])  # also what was accepted before: it is at home, or will be in a moment
    other.take([offer("wang", "b")])
    note(other, AWAY, ["lin"])
    assert [one.repeated for one in intake.take([offer("lin", "b")])] == [False]


def test_a_writer_tells_those_alone_who_came_too_late(tmp_path: Path) -> None:
    note(Intake(tmp_path), HOME, ["lin"])
    writer = Writer(tmp_path)
    asked = [writer.take([offer(tenant, "a")]) for tenant in ("wang", "lin", "zhao")]
    assert isinstance(asked[1].exception(10), Closed)
    assert [asked[n].result(10)[0].entry.tenant for n in (0, 2)] == ["wang", "zhao"]
    writer.close()


def test_a_file_that_is_begun_anew_is_closed_for_nobody(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    note(intake, HOME, ["lin"])
    assert intake.retire(1)
    intake.take([offer("lin", "a")])
    assert [entry.number for entry in intake.entries()] == [2]


def test_what_is_open_is_what_came_after_the_last_time_that_all_was_merged(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    intake.take([offer("lin", "a"), offer("wang", "a")])
    note(intake, HOME, ["lin"])
    note(intake, AWAY, ["lin"])  # something went wrong: nothing counts as done
    intake.take([offer("lin", "b")])
    note(intake, HOME, ["lin"])
    assert {t: [e.key for e in found] for t, found in open_entries(intake.entries()).items()} == {
        "lin": ["a", "b"],
        "wang": ["a"],
    }
    note(intake, MERGED, ["lin"])
    note(intake, AWAY, ["lin"])
    intake.take([offer("lin", "c")])
    assert [e.key for e in open_entries(intake.entries())["lin"]] == ["c"]
