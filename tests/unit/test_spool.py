"""The spool gives back what was durable, to the last whole commit, whatever happened to its tail."""

import errno
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.errors import FormatError, IntegrityError, SpoolFull
from ballast.vault import frames, spool
from ballast.vault.spool import ROOM_BYTES, Spool

START = 0x1000


def message(lsn: int, body: bytes) -> bytes:
    return frames.MESSAGE_HEAD.pack(len(body), lsn) + body


def new_spool(folder: Path, **kw: object) -> Spool:
    made = Spool(folder / "spool", vault_id="v", timeline=1, **kw)  # type: ignore[arg-type]
    made.recover(START)
    return made


def recovered(folder: Path) -> tuple[int, bytes]:
    """(durable position, every message of the closed files) after a restart."""
    again = Spool(folder / "spool", vault_id="v", timeline=1)
    durable = again.recover()
    again.close()
    return durable, closed_content(folder)


def closed_content(folder: Path) -> bytes:
    return b"".join(
        chunk.payload for path in spool.closed_files(folder / "spool") for chunk in spool.iter_chunks(path, 100)
    )


def open_file(folder: Path) -> Path:
    (path,) = (folder / "spool").glob("*.open")
    return path


bodies = st.binary(max_size=40)
batches = st.lists(
    st.tuples(st.lists(bodies, max_size=3), st.integers(0, 50), st.lists(bodies, max_size=2)),
    min_size=1,
    max_size=8,
)


class Written:
    """What was appended, and what is whole after each commit: (offset in the file, cut, messages before it)."""

    def __init__(self, folder: Path, wanted: list[tuple[list[bytes], int, list[bytes]]]) -> None:
        self.spool = new_spool(folder)
        self.path = open_file(folder)
        self.ends = [(self.spool.position[1], START, b"")]
        content, lsn = b"", START
        for whole, step, rest in wanted:
            before, after = (b"".join(message(lsn, b) for b in part) for part in (whole, rest))
            commits = bool(whole) or step > 0
            lsn += step
            self.spool.append(before, lsn if commits else None, after)
            self.spool.sync()
            content += before
            if commits:
                self.ends.append((self.spool.position[1], lsn, content))
            content += after
        self.size = self.spool.position[1] + self.spool.undurable_bytes

    def whole_before(self, offset: int) -> tuple[int, bytes]:
        """What must come back if the byte at `offset` is the first that is wrong."""
        _, lsn, content = max((e for e in self.ends if e[0] <= offset), key=lambda e: e[0])
        return lsn, content


@given(batches, st.data())
def test_any_cut_is_recovered_to_the_last_whole_commit(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[tuple[list[bytes], int, list[bytes]]],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    written = Written(folder, wanted)
    written.spool.close()
    at = data.draw(st.integers(written.ends[0][0], written.size))
    os.truncate(written.path, at)
    assert recovered(folder) == written.whole_before(at)


@given(batches, st.data())
def test_any_flipped_bit_is_recovered_to_the_last_whole_commit_before_it(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[tuple[list[bytes], int, list[bytes]]],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    written = Written(folder, wanted)
    written.spool.close()
    if written.size == written.ends[0][0]:
        return
    at = data.draw(st.integers(written.ends[0][0], written.size - 1))
    with written.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0] ^ (1 << data.draw(st.integers(0, 7)))
        file.seek(at)
        file.write(bytes([byte]))
    assert recovered(folder) == written.whole_before(at)


@given(batches)
def test_a_crash_keeps_everything_that_was_synced(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[list[bytes], int, list[bytes]]]
) -> None:
    folder = tmp_path_factory.mktemp("crash")
    written = Written(folder, wanted)
    durable = written.spool.durable
    written.spool.close()
    lsn, content = recovered(folder)
    assert lsn == durable
    assert content == written.ends[-1][2]
    assert recovered(folder) == (lsn, content)  # a second restart finds the same


@given(batches, batches)
def test_frames_of_another_file_on_the_same_place_are_never_accepted(
    tmp_path_factory: pytest.TempPathFactory,
    older: list[tuple[list[bytes], int, list[bytes]]],
    newer: list[tuple[list[bytes], int, list[bytes]]],
) -> None:
    folder = tmp_path_factory.mktemp("stale")
    old = Written(folder / "old", older)
    new = Written(folder / "new", newer)
    old.spool.close()
    new.spool.close()
    stale = old.path.read_bytes()
    with new.path.open("r+b") as file:
        for start, _, _ in old.ends:  # each place in the old file where a frame begins
            file.seek(new.size)
            file.write(stale[start : old.size])
            file.flush()
            end = Spool(folder / "x", vault_id="v", timeline=1)._find_end(new.path)
            assert (end.end, end.cut) == (new.ends[-1][0], new.spool.durable)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), bodies),
        st.tuples(st.just("nothing happened"), st.just(b"")),
        st.tuples(st.just("half"), bodies),
        st.tuples(st.sampled_from(["sync", "rotate", "gap", "lose connection", "crash", "full"]), st.just(b"")),
    ),
    max_size=30,
)


@given(operations)
def test_files_follow_each_other_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("follow")
    one = new_spool(folder)
    lsn, content, pending, half = START, b"", b"", b""
    gaps: list[tuple[int, int]] = []
    for what, body in wanted:
        lsn += 8
        match what:
            case "commit":
                one.append(half_end := message(lsn, b"c" + body), lsn)
                pending, half = pending + half + half_end, b""
            case "nothing happened" if not half:
                one.append(b"", lsn)
            case "half":
                one.append(b"", None, message(lsn, b"h" + body))
                half += message(lsn, b"h" + body)
            case "sync":
                one.sync()
                content, pending = content + pending, b""
            case "rotate" | "gap" if not half:
                one.sync()
                content, pending = content + pending, b""
                if what == "gap":
                    gaps.append((one.durable, lsn))
                one.rotate(gap_to=lsn if what == "gap" else None)
            case "lose connection":
                one.cut()
                pending = half = b""
            case "full":
                one._leave()
                one.cut()
                pending = half = b""
            case "crash":
                one.close()
                content, pending, half = content + pending, b"", b""
                one = Spool(folder / "spool", vault_id="v", timeline=1)
                one.recover()
    durable = one.sync()
    content += pending
    one.close()
    files = sorted((folder / "spool").iterdir())
    assert [path.suffix for path in files] == [".spool"] * (len(files) - 1) + [".open"]
    at, found, holes = START, b"", []
    for path in files:
        with path.open("rb") as file:
            head, start, seed = frames.read_header(file)
            if head.start_lsn != at:
                assert head.gap_from == at
                holes.append((at, head.start_lsn))
            at, rest = head.start_lsn, b""
            for frame in frames.read_frames(file, start, seed, path.stat().st_size):
                rest += frame.payload
                if frame.committed:
                    at, found, rest = frame.end_lsn, found + rest, b""
    assert at == durable
    assert recovered(folder) == (durable, found)
    assert found == content
    merged: list[tuple[int, int]] = []
    for start_lsn, end_lsn in gaps:  # one right after another is one
        if merged and merged[-1][1] == start_lsn:
            start_lsn = merged.pop()[0]
        merged.append((start_lsn, end_lsn))
    assert holes == merged


def test_what_is_not_synced_is_not_durable(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"a"), START + 10)
    assert one.durable == START
    assert one.sync() == START + 10 == one.durable


def test_a_batch_is_one_write_and_one_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("pwritev", "pwrite", "write", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, _counting(name, getattr(os, name), calls))
    one = new_spool(tmp_path)
    calls.clear()
    one.append(message(1, b"whole"), START + 1, message(2, b"rest"))
    one.sync()
    assert calls == ["pwritev", "fdatasync"]


def _counting(name: str, call: object, calls: list[str]) -> object:
    def counted(*args: object) -> object:
        calls.append(name)
        return call(*args)  # type: ignore[operator]

    return counted


def test_a_file_is_closed_by_size_or_age_and_only_at_a_commit(tmp_path: Path) -> None:
    now = 0.0
    one = new_spool(tmp_path, file_bytes=2000, file_age_s=10, clock=lambda: now)
    one.append(message(1, b"x" * 3000), START + 1, message(2, b"half"))
    one.sync()
    assert one.rotate_if_due() is None  # big enough, but inside a transaction
    one.append(message(3, b"other half"), START + 2)
    assert one.rotate_if_due() is None  # not synced
    one.sync()
    closed = one.rotate_if_due()
    assert closed is not None
    assert closed.suffix == ".spool"
    now = 100.0
    assert one.rotate_if_due() is None  # nothing in it
    one.append(b"", START + 3)
    one.sync()
    assert one.rotate_if_due() is None  # a newer cut alone is nothing to seal
    one.append(message(4, b"y"), START + 4)
    one.sync()
    now = 109.9
    assert one.rotate_if_due() is None
    now = 110.0
    assert one.rotate_if_due() is not None
    headers = [spool.header(path) for path in [*spool.closed_files(one.folder), open_file(tmp_path)]]
    assert [h.start_lsn for h in headers] == [START, START + 2, START + 4]
    assert all(a.number + 1 == b.number for a, b in pairwise(headers))
    assert len({h.nonce for h in headers}) == 3


def test_closed_files_come_in_chunks_of_whole_frames(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    for n in range(10):
        one.append(message(n, b"m" * 50), START + n + 1, message(n, b"r" * 50) if n % 2 else b"")
    one.append(message(11, b"end"), START + 20)
    one.sync()
    closed = one.rotate()
    assert closed is not None
    chunks = list(spool.iter_chunks(closed, 150))
    assert len(chunks) > 3
    assert all(len(c.payload) >= 150 for c in chunks[:-1])
    assert chunks[-1].committed
    assert chunks[-1].end_lsn == START + 20
    bodies = [bytes(b) for c in chunks for _, b in frames.messages(c.payload)]
    assert bodies.count(b"m" * 50) == 10
    assert bodies.count(b"r" * 50) == 5
    assert bodies[-1] == b"end"


@pytest.mark.parametrize("damage", ["flip", "short", "long"])
def test_a_damaged_closed_file_is_never_read_as_if_it_were_whole(tmp_path: Path, damage: str) -> None:
    one = new_spool(tmp_path)
    for n in range(5):
        one.append(message(n, b"m" * 50), START + n + 1)
    one.sync()
    closed = one.rotate()
    assert closed is not None
    data = bytearray(closed.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 4
    closed.write_bytes({"flip": data, "short": data[:-79], "long": data + b"\0"}[damage])
    if damage == "short":  # exactly at a frame boundary: nothing in the file says that one is missing …
        assert [c.end_lsn for c in spool.iter_chunks(closed, 10)][-1] == START + 4
        assert spool.header(open_file(tmp_path)).start_lsn == START + 5  # … but the next file does
    else:
        with pytest.raises(IntegrityError, match="damaged at byte"):
            list(spool.iter_chunks(closed, 10))


def test_half_a_transaction_is_cut_off_when_the_connection_is_lost(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"whole"), START + 1, message(2, b"half"))
    one.sync()
    one.cut()
    assert one.durable == START + 1
    assert one.undurable_bytes == 0
    assert closed_content(tmp_path) == message(1, b"whole")
    one.append(message(2, b"half again") + message(3, b"the rest"), START + 2)
    one.sync()
    one.close()
    assert recovered(tmp_path) == (
        START + 2,
        message(1, b"whole") + message(2, b"half again") + message(3, b"the rest"),
    )


def test_a_large_transaction_begins_a_file_of_its_own_which_is_closed_when_it_is_whole(tmp_path: Path) -> None:
    made = new_spool(tmp_path)
    before, begun, end = message(1, b"order"), [message(2, b"a" * 50), message(3, b"b" * 70)], message(4, b"end")
    made.append(before, START + 1, begun[0])
    made.sync()
    made.append(b"", None, begun[1])
    made.set_apart()
    made.set_apart()  # it begins one by now

    (first,) = spool.closed_files(tmp_path / "spool")
    assert [chunk.payload for chunk in spool.iter_chunks(first, 100)] == [before]
    assert spool.header(open_file(tmp_path)).apart
    assert made.durable == spool.header(open_file(tmp_path)).start_lsn == START + 1
    assert made.cut_bytes == 0
    assert made.rotate_if_due() is None

    made.append(end, START + 9)
    made.sync()
    second = made.rotate_if_due()
    made.close()
    assert second is not None
    assert not spool.header(open_file(tmp_path)).apart
    assert recovered(tmp_path) == (START + 9, b"".join([before, *begun, end]))


def test_a_transaction_that_was_set_apart_and_never_ended_is_cut_off(tmp_path: Path) -> None:
    made = new_spool(tmp_path)
    made.append(message(1, b"order"), START + 1, message(2, b"a" * 50))
    made.sync()
    made.set_apart()
    made.close()
    assert recovered(tmp_path) == (START + 1, message(1, b"order"))


def test_nothing_to_cut_off_leaves_the_file_alone(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"whole"), START + 1)
    one.sync()
    before = open_file(tmp_path)
    one.cut()
    assert open_file(tmp_path) == before


def test_the_position_outlives_the_sealer(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"a"), START + 1)
    one.sync()
    closed = one.rotate()
    assert closed is not None
    spool.remove(closed)
    one.append(b"", START + 7)  # the server said that nothing else happened
    one.sync()
    one.close()
    assert recovered(tmp_path) == (START + 7, b"")
    assert recovered(tmp_path) == (START + 7, b"")


def test_a_gap_is_written_down_and_kept_until_something_comes_after_it(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"a"), START + 1)
    one.sync()
    one.rotate(gap_to=START + 100)
    one.close()
    again = Spool(tmp_path / "spool", vault_id="v", timeline=1)
    assert again.recover() == START + 100
    assert spool.header(open_file(tmp_path)).gap_from == START + 1
    again.append(message(2, b"b"), START + 101)
    again.sync()
    again.rotate()
    gaps = [spool.header(path).gap_from for path in spool.closed_files(again.folder)]
    assert gaps == [None, START + 1]
    assert spool.header(open_file(tmp_path)).gap_from is None


def test_a_folder_of_another_vault_is_refused_and_another_timeline_is_finished(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"a"), START + 1, message(2, b"half"))
    one.sync()
    one.close()
    with pytest.raises(FormatError, match="belongs to vault v"):
        Spool(one.folder, vault_id="other", timeline=1).recover()
    fork = Spool(one.folder, vault_id="v", timeline=2)
    assert fork.is_empty()
    assert fork.recover(50) == 50
    assert not fork.is_empty()
    assert closed_content(tmp_path) == message(1, b"a")


def test_the_vault_may_know_more_than_this_disk(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.close()
    assert Spool(one.folder, vault_id="v", timeline=1).recover(START + 500) == START + 500
    assert recovered(tmp_path)[0] == START + 500


class Disk:
    """Writes that fail as a full disk's do, after so many more bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 40
        self._pwritev = os.pwritev
        monkeypatch.setattr(os, "pwritev", self.pwritev)
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: self.pwritev(fd, [data], at))

    def pwritev(self, fd: int, buffers: list[bytes], at: int) -> int:
        data = b"".join(buffers)[: self.left]
        if not data:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(data)
        return self._pwritev(fd, [data], at)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    return Disk(monkeypatch)


@pytest.mark.parametrize("left", [0, 1, 16, 17, 60, 200])
def test_a_full_disk_costs_nothing_that_was_durable(tmp_path: Path, disk: Disk, left: int) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"kept"), START + 1)
    one.sync()
    disk.left = left
    with pytest.raises(SpoolFull, match="No space left"):
        one.append(message(2, b"x" * 300), START + 2)
    for _ in range(3):  # as often as one tries
        with pytest.raises(SpoolFull):
            one.cut()
        with pytest.raises(SpoolFull):
            one.append(message(2, b"x"), START + 2)
    assert one.durable == START + 1
    disk.left = 1 << 40
    one.cut()
    one.append(message(2, b"y"), START + 2)
    one.sync()
    one.close()
    assert recovered(tmp_path) == (START + 2, message(1, b"kept") + message(2, b"y"))


def test_the_last_of_the_disk_is_for_data_not_for_room(tmp_path: Path, disk: Disk) -> None:
    one = new_spool(tmp_path)
    disk.left = ROOM_BYTES + 5000
    filled = 0
    n = 0
    try:
        while filled < 100 * ROOM_BYTES:
            n += 1
            one.append(message(n, b"z" * 1000), START + n)
            one.sync()
            filled += 1000
    except SpoolFull:
        pass
    assert filled < 100 * ROOM_BYTES, "the disk never was full"
    assert filled > ROOM_BYTES * 0.9
    one.close()
    disk.left = 1 << 40
    assert recovered(tmp_path)[0] == one.durable


def test_a_failed_sync_is_not_tried_again_on_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"kept"), START + 1)
    one.sync()
    one.append(message(2, b"lost"), START + 2)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolFull, match="Input/output error"):
            one.sync()
    one.cut()
    assert one.durable == START + 1
    one.close()
    assert recovered(tmp_path) == (START + 1, message(1, b"kept"))


def test_the_limit_stops_it_only_while_there_is_something_to_drain(tmp_path: Path) -> None:
    one = new_spool(tmp_path, limit_bytes=4 * ROOM_BYTES)
    big = b"t" * ROOM_BYTES
    for n in range(1, 7):  # one transaction larger than the limit
        one.append(b"", None, message(n, big))
    one.append(message(8, b"end"), START + 1)
    one.sync()
    closed = one.rotate()
    assert closed is not None
    with pytest.raises(SpoolFull, match="limit of 4194304 bytes"):
        one.append(message(9, b"more"), START + 2)
    assert not one.has_room()
    assert one.durable == START + 1
    spool.remove(closed)
    assert one.has_room()
    one.append(message(9, b"more"), START + 2)
    assert one.sync() == START + 2


def test_usage_counts_what_lies_there(tmp_path: Path) -> None:
    assert spool.usage(tmp_path / "nothing") == (0, 0)
    one = new_spool(tmp_path)
    one.append(message(1, b"a"), START + 1)
    one.sync()
    one.rotate()
    assert spool.usage(one.folder).files == 2
    assert spool.usage(one.folder).bytes >= ROOM_BYTES


def test_a_file_that_is_no_spool_file_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"something else entirely, longer than a header")
    with pytest.raises(FormatError, match="not a spool file"):
        spool.header(tmp_path / "x")


@pytest.mark.parametrize("at", [0, 3, 8, 10, 11, 14, 40])
def test_a_file_with_a_damaged_header_is_set_aside_and_never_deleted(tmp_path: Path, at: int) -> None:
    one = new_spool(tmp_path)
    one.append(message(1, b"durable"), START + 1)
    one.sync()
    one.close()
    path = open_file(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[at] ^= 0x01
    path.write_bytes(whole)

    again = Spool(tmp_path / "spool", vault_id="v", timeline=1)
    assert again.is_empty(), "the vault is asked where to go on"
    assert again.recover(START) == START
    (aside,) = again.damaged
    assert aside.suffix == ".damaged"
    assert aside.read_bytes() == whole
    assert spool.header(open_file(tmp_path)).number == 2
    again.close()


def test_a_header_that_was_never_synced_is_no_damage(tmp_path: Path) -> None:
    one = new_spool(tmp_path)
    one.close()
    path = open_file(tmp_path)
    path.write_bytes(bytes(path.stat().st_size))

    again = Spool(tmp_path / "spool", vault_id="v", timeline=1)
    assert again.recover(START) == START
    assert not again.damaged
    again.close()
