"""Files of the intake that were closed go when their time is over, and never one that somebody may still need."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from ballast.continuity import Intake, Offered
from ballast.continuity.duplicate import Duplicate
from ballast.continuity.entries import HOME, MERGED
from ballast.continuity.homecoming import note
from ballast.continuity.intake import closed_files
from ballast.continuity.outlived import Rule, forget, look
from ballast.vault.store import Store, open_store

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULE = Rule(days=90, most_bytes=1 << 30)


def nobody() -> set[tuple[str, str]]:
    return set()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(tmp_path / "store")
    made.begin()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that were closed 200, 100 and 10 days ago."""
    folder = tmp_path / "intake"
    intake = Intake(folder, reserve_bytes=0)
    for days in (200, 100, 10):
        intake.take([Offered("lin", f"before {days}", "checkout", {"to": "Lin"}, NOW)])
        note(intake, HOME, ["lin"])
        note(intake, MERGED, ["lin"])
        assert intake.retire(intake.entries()[-1].number)
        at = (NOW - timedelta(days=days)).timestamp()
        os.utime(closed_files(folder)[-1], (at, at))
        intake.find("lin", "")
    intake.close()
    return folder


def test_what_is_older_than_the_rule_says_goes_and_the_chain_goes_on(folder: Path, store: Store) -> None:
    copy = Duplicate(store, folder, 0)
    copy.bring()
    left = forget(folder, RULE, copy, nobody, NOW)
    assert (left.files, left.because, left.since[:10]) == (1, "", "2026-05-22")
    assert forget(folder, Rule(days=1), copy, nobody, NOW).files == 1, "the newest stays"
    intake = Intake(folder, reserve_bytes=0)
    (taken,) = intake.take([Offered("lin", "new", "checkout", {}, NOW)])
    assert taken.entry.number == 10
    copy.bring()
    assert Duplicate(store, folder, 0).copied == 10


def test_what_takes_more_room_than_it_may_goes_the_oldest_first(folder: Path, store: Store) -> None:
    copy = Duplicate(store, folder, 0)
    copy.bring()
    sizes = [path.stat().st_size for path in closed_files(folder)]
    left = forget(folder, Rule(days=10_000, most_bytes=sum(sizes) - 1), copy, nobody, NOW)
    assert (left.files, left.bytes) == (2, sum(sizes[1:]))


def test_one_stays_whose_copy_is_not_proven(folder: Path, store: Store, tmp_path: Path) -> None:
    copy = Duplicate(store, folder, 0)
    assert "not the same" in forget(folder, RULE, copy, nobody, NOW).because, "it was never copied"
    copy.bring()
    (chunks,) = (tmp_path / "store" / "intake").iterdir()
    first = min(chunks.iterdir())
    first.write_bytes(first.read_bytes().replace(b"Lin", b"Wei"))
    left = forget(folder, RULE, copy, nobody, NOW)
    assert (left.files, "not the same" in left.because) == (2, True)
    assert look(folder).files == 2


def test_one_stays_about_which_somebody_has_to_decide_or_it_cannot_be_told(folder: Path, store: Store) -> None:
    copy = Duplicate(store, folder, 0)
    copy.bring()

    def away() -> set[tuple[str, str]]:
        raise psycopg.OperationalError("nobody answers")

    left = forget(folder, RULE, copy, away, NOW)
    assert (left.files, "nobody answers" in left.because) == (3, True)
    left = forget(folder, RULE, copy, lambda: {("lin", "before 200"), ("wang", "before 100")}, NOW)
    assert (left.files, left.because) == (
        2,
        "000000000001-000000000003.jsonl: nobody has decided about checkout before 200 of lin",
    )
    assert forget(folder, RULE, copy, nobody, NOW).files == 1


def test_one_stays_in_which_something_is_open(folder: Path, store: Store) -> None:
    oldest = closed_files(folder)[0]
    lines = oldest.read_bytes().splitlines(keepends=True)
    oldest.write_bytes(b"".join(lines[:2]))
    os.utime(oldest, (0, 0))
    left = forget(folder, RULE, Duplicate(store, folder, 0), nobody, NOW)
    assert "not at home" in left.because
    assert oldest.exists()
