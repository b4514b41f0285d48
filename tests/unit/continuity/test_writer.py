"""Many threads enter at once: each is answered when its own is durable, together or not at all."""

from __future__ import annotations

import fcntl
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity import Intake, IntakeFull, Offered
from ballast.continuity.writer import Writer

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def offer(key: str, *, urgent: bool = False, note: str = "") -> Offered:
    return Offered("lin", key, "checkout", {"note": note}, NOON, urgent)


def test_what_many_threads_offer_is_in_the_intake_when_they_are_answered(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    reader = Intake(tmp_path)

    def enter(n: int) -> bool:
        taken = writer.take([offer(f"order-{n}"), offer(f"paid-{n}")]).result(30)
        return all(reader_entry == one.entry for one in taken for reader_entry in [held(one.entry.key)])

    def held(key: str) -> object:
        other = Intake(tmp_path)
        try:
            return other.find("lin", key)
        finally:
            other.close()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(enter, range(100)))
    writer.close()
    assert {entry.number for entry in reader.entries()} == set(range(1, 201))


def test_on_a_full_disk_each_is_told_so_and_what_fits_is_taken(tmp_path: Path) -> None:
    writer = Writer(tmp_path, reserve_bytes=0)
    writer.take([offer("a")]).result(30)
    size = (tmp_path / "intake.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 600, hard))
    try:
        answers = [writer.take([offer("large", note="x" * 2000)]), writer.take([offer("small")])]
        with pytest.raises(IntakeFull):
            answers[0].result(30)
        assert answers[1].result(30)[0].entry.number == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()
    assert [entry.key for entry in Intake(tmp_path).entries()] == ["a", "small"]


def test_neither_who_waits_no_longer_nor_what_cannot_be_written_keeps_out_those_who_come_next(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with (tmp_path / "intake.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed nothing is written
        under_way = writer.take([offer("first")])
        while not under_way.running():
            pass
        gone, odd, whole = (
            writer.take([offer("gone")]),
            writer.take([Offered("lin", "odd", "checkout", object(), NOON)]),
            writer.take([offer("whole")]),
        )
        assert gone.cancel()
        assert not under_way.cancel(), "it is being written"
    assert isinstance(odd.exception(10), TypeError)
    assert [done.result(10)[0].entry.number for done in (under_way, whole)] == [1, 2]
    assert writer.take([offer("next")]).result(10)[0].entry.number == 3
    writer.close()
    assert [entry.key for entry in Intake(tmp_path).entries()] == ["first", "whole", "next"]
