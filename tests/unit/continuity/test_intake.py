"""The intake on a real disk: kept before it is told, once for each key, by several processes, over kills and a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity import Intake, IntakeFull, Offered
from ballast.errors import IntegrityError

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)

_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ballast.continuity import Intake, Offered
intake = Intake(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    for name in (f"{sys.argv[2]}-{n}", f"both-{n}"):
        (taken,) = intake.take([Offered("shop", name, "checkout", {"n": n}, datetime.now(UTC))])
        if not taken.repeated:
            print(taken.entry.number, name, flush=True)
"""


def offer(key: str, tenant: str = "lin", *, urgent: bool = False, **payload: object) -> Offered:
    return Offered(tenant, key, "checkout", payload, NOON, urgent)


def started(folder: Path, name: str, times: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), name, str(times)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_what_was_accepted_is_there_for_the_next_process_in_the_same_order(tmp_path: Path) -> None:
    first = Intake(tmp_path)
    taken = first.take([offer("a", pieces=2), offer("b", pieces=1)])
    first.close()

    assert [(one.entry.number, one.repeated) for one in taken] == [(1, False), (2, False)]
    assert Intake(tmp_path).entries() == [one.entry for one in taken]


def test_a_key_is_taken_once_in_one_call_and_over_calls(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    one, two = intake.take([offer("a", pieces=2), offer("a", pieces=3)])
    (three,) = Intake(tmp_path).take([offer("a", pieces=4)])
    (other,) = intake.take([offer("a", tenant="wang", pieces=5)])

    assert (one.repeated, two.repeated, three.repeated, other.repeated) == (False, True, True, False)
    assert one.entry == two.entry == three.entry
    assert three.entry.payload == {"pieces": 2}
    assert [entry.payload["pieces"] for entry in intake.entries()] == [2, 5]


def test_processes_share_one_intake(tmp_path: Path) -> None:
    writers = [started(tmp_path, name, 40) for name in ("east", "west", "north")]
    lines = [line.split() for writer in writers for line in writer.communicate(timeout=60)[0].splitlines()]

    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sorted(int(number) for number, _ in lines) == list(range(1, 161))  # 3 x 40 own keys, 40 that all wanted
    assert len({name for _, name in lines}) == 160
    assert [entry.number for entry in Intake(tmp_path).entries()] == list(range(1, 161))


@pytest.mark.parametrize("place", ["intake.written", "intake.durable"])
def test_a_killed_writer_leaves_what_it_told_and_nothing_half(tmp_path: Path, place: str) -> None:
    writer = started(tmp_path, "east", 10, BALLAST_FAIL=f"{place}:4")
    told = writer.communicate(timeout=60)[0].splitlines()

    assert writer.returncode == -9
    assert len(told) == 3
    intake = Intake(tmp_path)
    assert len(intake.entries()) in (3, 4)  # the fourth was on its way to the disk, and nobody was told
    assert intake.take([offer("next")])[0].entry.number == len(intake.entries())


@pytest.mark.parametrize("ask", ["repeat", "find", "entries"])
def test_what_a_killed_writer_did_not_sync_is_synced_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    intake = Intake(tmp_path)
    started(tmp_path, "east", 1, BALLAST_FAIL="intake.written:1").communicate(timeout=60)
    synced, sync = [], os.fdatasync

    def watched(file: int) -> None:
        sync(file)
        synced.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fdatasync", watched)
    if ask == "repeat":
        assert intake.take([offer("east-0", tenant="shop")])[0].repeated
    elif ask == "find":
        assert intake.find("shop", "east-0") is not None
    else:
        assert len(intake.entries()) == 1
    assert synced == [(tmp_path / "intake.jsonl").stat().st_ino]
    intake.entries()
    assert len(synced) == 1, "once"


def test_a_line_without_its_end_is_cut_off(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    intake.take([offer("a")])
    with (tmp_path / "intake.jsonl").open("ab") as file:
        file.write(b'{"number":2,"tenant":"li')

    assert [entry.key for entry in intake.entries()] == ["a"]
    assert intake.take([offer("b")])[0].entry.number == 2
    assert [entry.key for entry in Intake(tmp_path).entries()] == ["a", "b"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0].replace(b'"fen":100', b'"fen":001'), *lines[1:]],
        lambda lines: [lines[0].replace(b'"fen":100', b'"fen":900'), *lines[1:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], lines[2]],
    ],
)
def test_a_changed_or_missing_entry_is_found(tmp_path: Path, damage) -> None:
    Intake(tmp_path).take([offer("a", fen=100), offer("b", fen=200), offer("c", fen=300)])
    file = tmp_path / "intake.jsonl"
    file.write_bytes(b"".join(damage(file.read_bytes().splitlines(keepends=True))))

    with pytest.raises(IntegrityError):
        Intake(tmp_path).entries()


def test_a_file_cut_back_under_a_running_process_is_found(tmp_path: Path) -> None:
    intake = Intake(tmp_path)
    intake.take([offer("a"), offer("b")])
    os.truncate(tmp_path / "intake.jsonl", 0)

    with pytest.raises(IntegrityError, match="shorter"):
        intake.take([offer("c")])


def test_a_merged_file_is_closed_and_the_chain_goes_on_in_the_next_for_all_processes(tmp_path: Path) -> None:
    one, other = Intake(tmp_path), Intake(tmp_path)
    last = one.take([offer("a"), offer("b")])[-1].entry
    assert other.find("lin", "b") == last
    assert not one.retire(1)  # b has come since
    assert one.retire(2)

    after = other.take([offer("c")])[0].entry
    assert (after.number, after.before) == (3, last.hash)
    assert [entry.key for entry in one.entries()] == ["c"]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["000000000001-000000000002.jsonl", "intake.jsonl"]


def test_a_full_disk_refuses_and_keeps_nothing_of_it_but_what_is_urgent_finds_room(tmp_path: Path) -> None:
    intake = Intake(tmp_path, reserve_bytes=0)
    intake.take([offer("a")])
    size = (tmp_path / "intake.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(IntakeFull, match="full"):
            intake.take([offer("b", note="x" * 1000)])
        with pytest.raises(IntakeFull):
            intake.take([offer("c", urgent=True, note="x" * 1000)])  # no reserve is left
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (tmp_path / "intake.jsonl").stat().st_size == size
    assert intake.take([offer("b")])[0].entry.number == 2
