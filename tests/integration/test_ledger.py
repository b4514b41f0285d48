"""The ledger: one chain, one writer, and nothing that was appended is lost or doubled."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from ballast.errors import AlreadyExists, ConfigError, FencedError, FormatError, IntegrityError, StoreError
from ballast.vault import pages, signing
from ballast.vault.batch import Batch, recover_batches
from ballast.vault.fault import Kind
from ballast.vault.ledger import Ledger, encode, entry_name, read_head, sha256, signed_part
from ballast.vault.records import Abandoned, Entry, Gap, Genesis, ObjectRef
from ballast.vault.signing import SigningKey
from ballast.vault.store import Store
from ballast.vault.verify import verify
from tests.fix_vault import Place


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return signing.create_key(tmp_path / "state" / signing.KEY_FILE)


def genesis(key: SigningKey, format: int = 1) -> Genesis:
    return Genesis(format, "vault-1", key.public, 16, "test")


def gap(n: int) -> Gap:
    return Gap(f"gap-{n}", 1, n, n + 1, None, "test", "2026-01-01T00:00:00+00:00")


def new_ledger(place: Place, key: SigningKey) -> Ledger:
    ledger = Ledger(place.store, key)
    ledger.create(genesis(key))
    return ledger


def test_entries_are_read_as_they_were_appended(vault_store: Place, key: SigningKey) -> None:
    ledger = new_ledger(vault_store, key)
    for n in range(2, 12):
        assert ledger.append(gap(n)).number == n
    reader = Ledger(vault_store.store)
    entries = reader.read()
    assert [entry.number for entry in entries] == list(range(1, 12))
    assert entries[5].body == gap(6)
    assert entries[5].previous == sha256(vault_store.store.get(entry_name(5)))
    assert reader.head() == ledger.head() == (11, sha256(vault_store.store.get(entry_name(11))))
    ledger.append(gap(12))
    assert [entry.number for entry in reader.read(after=11)] == [12]
    assert [entry.number for entry in Ledger(vault_store.store).read(after=5)] == list(range(6, 13))
    assert reader.read(after=12) == []


def test_an_empty_place_has_no_entries(vault_store: Place, key: SigningKey) -> None:
    assert Ledger(vault_store.store).read() == []
    assert Ledger(vault_store.store).head() == (0, "")
    with pytest.raises(ConfigError, match="no vault"):
        Ledger(vault_store.store, key).append(gap(1))


def test_a_vault_is_begun_once(vault_store: Place, key: SigningKey) -> None:
    new_ledger(vault_store, key)
    with pytest.raises(ConfigError, match="already"):
        Ledger(vault_store.store, key).create(genesis(key))


def test_appending_needs_the_key(vault_store: Place, key: SigningKey, tmp_path: Path) -> None:
    new_ledger(vault_store, key)
    with pytest.raises(ConfigError, match="signing key"):
        Ledger(vault_store.store).append(gap(2))
    with pytest.raises(ConfigError, match="not the key"):
        Ledger(vault_store.store, signing.create_key(tmp_path / "other")).append(gap(2))


@pytest.mark.parametrize("junk", [b"junk", b"", b'{"body":{"type":"unheard of"}}', None])
def test_junk_far_after_the_end_is_passed_over(
    vault_store: Place, key: SigningKey, tmp_path: Path, junk: bytes | None
) -> None:
    """Whoever may put objects could otherwise keep everybody from opening the vault. None: a genuine entry, moved."""
    state = tmp_path / "state"
    writer = Ledger(vault_store.store, key, state_dir=state)
    writer.create(genesis(key))
    writer.append(gap(2))
    far = [entry_name(300_000), entry_name(999_999_999_999), "ledger/000000000001.json.old", "ledger/extra"]
    for name in far:
        vault_store.write(name, vault_store.store.get(entry_name(2)) if junk is None else junk)
    for reader in (Ledger(vault_store.store), Ledger(vault_store.store, key, state_dir=state)):
        assert [entry.number for entry in reader.read()] == [1, 2]
        assert reader.strays == tuple(sorted(far))
    assert Ledger(vault_store.store).head()[0] == 2
    fresh = Ledger(vault_store.store, key)
    assert fresh.append(gap(3)).number == 3
    assert [entry.number for entry in reader.read(after=2)] == [3]
    assert reader.read(after=3) == []


def test_an_entry_of_ours_after_a_hole_is_no_junk(vault_store: Place, key: SigningKey) -> None:
    ledger = new_ledger(vault_store, key)
    for n in range(2, 6):
        ledger.append(gap(n))
    vault_store.write(entry_name(2), b"junk")
    vault_store.remove(entry_name(2))
    vault_store.write(entry_name(3), b"junk")
    with pytest.raises(IntegrityError, match="lacks ledger/000000000002"):
        Ledger(vault_store.store).read()


@pytest.mark.parametrize("junk", [b"junk", None])
def test_junk_at_the_next_number_is_named_with_the_way_out(
    vault_store: Place, key: SigningKey, tmp_path: Path, junk: bytes | None
) -> None:
    state = tmp_path / "state"
    ledger = Ledger(vault_store.store, key, state_dir=state)
    ledger.create(genesis(key))
    forged = encode(Entry(2, sha256(vault_store.store.get(entry_name(1))), "", "x", gap(2), "00"))
    vault_store.write(entry_name(2), forged if junk is None else junk)
    with pytest.raises(IntegrityError, match=r"000000000002\.json") as told:
        ledger.append(gap(2))
    assert "delete the object ledger/000000000002.json" in told.value.do
    with pytest.raises(IntegrityError, match="none of this vault's"):
        Ledger(vault_store.store, key, state_dir=state).read()
    vault_store.remove(entry_name(2))
    assert ledger.append(gap(2)).number == 2


def test_appending_never_lists(folder_place: Place, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = new_ledger(folder_place, key)
    monkeypatch.setattr(type(folder_place.store), "list", lambda *_: pytest.fail("listed"))
    for n in range(2, 5):
        ledger.append(gap(n))


def test_of_two_writers_the_second_is_fenced(vault_store: Place, key: SigningKey) -> None:
    first = new_ledger(vault_store, key)
    stale = Ledger(vault_store.store, key)
    stale.head()
    first.append(gap(2))
    with pytest.raises(FencedError, match="entry 2"):
        stale.append(gap(3))
    with pytest.raises(FencedError):  # and stays so
        stale.append(gap(3))
    assert [entry.body for entry in Ledger(vault_store.store).read(after=1)] == [gap(2)]


def test_writers_with_their_own_state_folders_fence_each_other(
    vault_store: Place, key: SigningKey, tmp_path: Path
) -> None:
    here = Ledger(vault_store.store, key, state_dir=tmp_path / "here")
    here.create(genesis(key))
    there = Ledger(vault_store.store, key, state_dir=tmp_path / "there")
    there.append(gap(2))
    with pytest.raises(FencedError):
        here.append(gap(3))


def test_a_copy_of_the_state_folder_is_another_writer(vault_store: Place, key: SigningKey, tmp_path: Path) -> None:
    here = Ledger(vault_store.store, key, state_dir=tmp_path / "here")
    here.create(genesis(key))
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    there = Ledger(vault_store.store, key, state_dir=tmp_path / "copy")
    there.append(gap(2))
    with pytest.raises(FencedError, match="entry 2"):
        here.append(gap(3))
    Ledger(vault_store.store, key, state_dir=tmp_path / "copy").append(gap(3))  # itself it knows again


def test_processes_of_one_recorder_write_in_turn(vault_store: Place, key: SigningKey, tmp_path: Path) -> None:
    state = tmp_path / "state"
    Ledger(vault_store.store, key, state_dir=state).create(genesis(key))
    program = (
        "import sys; from ballast.vault import signing, ledger, store, records\n"
        "url, state, who = sys.argv[1:]\n"
        "ledger = ledger.Ledger(store.open_store(url), signing.load_key(state + '/signing.key'), state_dir=state)\n"
        "for n in range(20): ledger.append(records.Gap(f'{who}-{n}', 1, n, n, None, '', ''))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, vault_store.url, str(state), who], env={**os.environ, "PYTHONPATH": "src"}
        )
        for who in "ab"
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    told = [entry.body.gap_id for entry in Ledger(vault_store.store).read(after=1)]  # type: ignore[union-attr]
    assert sorted(told) == sorted(f"{who}-{n}" for who in "ab" for n in range(20))
    assert read_head(state).number == 41  # type: ignore[union-attr]


def test_an_entry_of_ours_whose_anchor_was_not_written_is_taken_over(
    vault_store: Place, key: SigningKey, tmp_path: Path
) -> None:
    """Killed between the entry and `head.json`: the next process of this recorder goes on from that entry."""
    state = tmp_path / "state"
    ledger = Ledger(vault_store.store, key, state_dir=state)
    ledger.create(genesis(key))
    anchor = (state / "head.json").read_bytes()
    ledger.append(gap(2))
    (state / "head.json").write_bytes(anchor)
    assert Ledger(vault_store.store, key, state_dir=state).append(gap(3)).number == 3


class Unlucky(Store):
    """Loses the answers of some puts: after the put took effect, or before."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.url, None)
        self._store = store
        self.lose: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        fate = self.lose.pop(0) if self.lose else ""
        if fate != "before":
            with contextlib.suppress(*[AlreadyExists] if fate else []):
                self._store.put(name, data)
        if fate:
            raise StoreError("the connection broke")

    def get(self, name: str) -> bytes:
        return self._store.get(name)

    def list(self, prefix: str = "", after: str = "") -> list[tuple[str, int]]:
        return self._store.list(prefix, after)


@pytest.mark.parametrize("fates", [["after"], ["before"], ["after", "before"], ["before", "after"], ["after"] * 3])
def test_an_append_whose_answer_was_lost_is_repeated_without_doubling(
    folder_place: Place, key: SigningKey, fates: list[str]
) -> None:
    store = Unlucky(folder_place.store)
    ledger = Ledger(store, key)
    ledger.create(genesis(key))
    store.lose = list(fates)
    for _ in fates:
        with pytest.raises(StoreError):
            ledger.append(gap(2))
    assert ledger.append(gap(2)).number == 2
    ledger.append(gap(3))
    assert [entry.body for entry in Ledger(folder_place.store).read(after=1)] == [gap(2), gap(3)]


@pytest.mark.parametrize(("fate", "expected"), [("after", [2, 3]), ("before", [3])])
def test_another_entry_after_a_lost_answer(
    folder_place: Place, key: SigningKey, fate: str, expected: list[int]
) -> None:
    store = Unlucky(folder_place.store)
    ledger = Ledger(store, key)
    ledger.create(genesis(key))
    store.lose = [fate]
    with pytest.raises(StoreError):
        ledger.append(gap(2))
    ledger.append(gap(3))
    assert [entry.body for entry in Ledger(folder_place.store).read(after=1)] == [gap(n) for n in expected]


def test_a_put_that_the_store_itself_repeated_is_recognised(folder_place: Place, key: SigningKey) -> None:
    """The first attempt took effect, its answer was lost, and the client library's second found the name taken."""

    class Repeating(Unlucky):
        def put(self, name: str, data: bytes) -> None:
            self._store.put(name, data)
            raise AlreadyExists("repeated")

    ledger = Ledger(Repeating(folder_place.store), key)
    assert ledger.create(genesis(key)).number == 1
    assert ledger.append(gap(2)).number == 2
    assert len(Ledger(folder_place.store).read()) == 2


def entry_at(place: Place, number: int) -> Entry:
    return msgspec.json.decode(place.store.get(entry_name(number)), type=Entry)


def test_reading_refuses_what_does_not_hold_together(folder_place: Place, key: SigningKey, tmp_path: Path) -> None:
    ledger = new_ledger(folder_place, key)
    for n in range(2, 6):
        ledger.append(gap(n))
    good = folder_place.store.get(entry_name(3))

    def refused(data: bytes, why: str, error: type[Exception] = IntegrityError) -> None:
        folder_place.write(entry_name(3), data)
        with pytest.raises(error, match=why):
            Ledger(folder_place.store).read()

    entry = entry_at(folder_place, 3)
    refused(encode(msgspec.structs.replace(entry, written_at="2020-01-01")), "not signed")
    refused(encode(msgspec.structs.replace(entry, number=4)), "says that it is entry 4")
    refused(good + b" ", "spelled")
    refused(good[:-9], "not a ledger entry")
    refused(good.replace(b'"gap"', b'"purge"'), "kind that this version", FormatError)
    other = signing.create_key(tmp_path / "other")
    forged = msgspec.structs.replace(entry, body=gap(99))
    refused(encode(msgspec.structs.replace(forged, signature=other.sign(signed_part(forged)))), "not signed")
    resigned = msgspec.structs.replace(forged, previous="0" * 64)
    refused(encode(msgspec.structs.replace(resigned, signature=key.sign(signed_part(resigned)))), "not follow from")
    folder_place.remove(entry_name(3))
    with pytest.raises(IntegrityError, match="lacks ledger/000000000003"):
        Ledger(folder_place.store).read()
    folder_place.write(entry_name(3), good)
    assert len(Ledger(folder_place.store).read()) == 5


def test_a_newer_vault_is_refused_with_advice(folder_place: Place, key: SigningKey) -> None:
    Ledger(folder_place.store, key).create(genesis(key, format=2))
    with pytest.raises(FormatError, match="Update Ballast"):
        Ledger(folder_place.store).read()


def test_a_cut_off_tail_is_noticed_by_who_wrote_it(folder_place: Place, key: SigningKey, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(folder_place.store, key, state_dir=state)
    ledger.create(genesis(key))
    ledger.append(gap(2))
    folder_place.remove(entry_name(2))
    assert len(Ledger(folder_place.store).read()) == 1
    with pytest.raises(IntegrityError, match="tail was removed"):
        Ledger(folder_place.store, state_dir=state).read()


def test_reading_while_another_appends(folder_place: Place, key: SigningKey, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ledger = Ledger(folder_place.store, key, state_dir=state)
    ledger.create(genesis(key))
    writer = threading.Thread(target=lambda: [ledger.append(gap(n)) for n in range(2, 202)])
    writer.start()
    reader, seen = Ledger(folder_place.store, state_dir=state), 0
    while writer.is_alive() or seen < 201:
        entries = reader.read(after=seen)
        assert [entry.number for entry in entries] == list(range(seen + 1, seen + 1 + len(entries)))
        seen += len(entries)
    writer.join()


# --- batches


def test_a_finished_batch_leaves_no_note(vault_store: Place, key: SigningKey, tmp_path: Path) -> None:
    ledger = new_ledger(vault_store, key)
    (tmp_path / "file").write_bytes(b"content of a file")
    with Batch(vault_store.store, tmp_path / "state", "segment", 1, 0x10, 0x20) as batch:
        first = batch.put("run", "parquet", b"abc")
        second = batch.put("run", "parquet", tmp_path / "file")
        assert list((tmp_path / "state" / "intents").iterdir())
        ledger.append(Abandoned((first, second)))
        batch.done()
    assert first == ObjectRef(f"data/{batch.name}/0-run-{sha256(b'abc')[:16]}.parquet", 3, sha256(b"abc"))
    assert batch.name.startswith("1-0000000000000010-0000000000000020-segment-")
    assert second.bytes == 17
    assert not list((tmp_path / "state" / "intents").iterdir())
    assert recover_batches(ledger, vault_store.store, tmp_path / "state") == []


def test_what_an_interrupted_batch_left_is_told_to_the_ledger_once(
    vault_store: Place, key: SigningKey, tmp_path: Path
) -> None:
    ledger = new_ledger(vault_store, key)
    Batch(vault_store.store, tmp_path / "state", "segment", 1, 0, 1).close()
    batch = Batch(vault_store.store, tmp_path / "state", "segment", 1, 0, 1)
    ref = batch.put("run", "parquet", b"abc")
    assert recover_batches(ledger, vault_store.store, tmp_path / "state") == []  # it is still held
    batch.close()
    assert recover_batches(ledger, vault_store.store, tmp_path / "state") == [ref]
    assert recover_batches(ledger, vault_store.store, tmp_path / "state") == []
    assert [entry.body for entry in ledger.read(after=1)] == [Abandoned((ref,))]


def test_a_batch_whose_entry_was_written_is_not_abandoned(vault_store: Place, key: SigningKey, tmp_path: Path) -> None:
    ledger = new_ledger(vault_store, key)
    batch = Batch(vault_store.store, tmp_path / "state", "segment", 1, 0, 1)
    ledger.append(Abandoned((batch.put("run", "parquet", b"abc"),)))
    batch.close()
    assert recover_batches(ledger, vault_store.store, tmp_path / "state") == []
    assert not list((tmp_path / "state" / "intents").iterdir())


def test_a_batch_put_whose_answer_was_lost_counts(folder_place: Place, tmp_path: Path) -> None:
    class Repeating(Unlucky):
        def put(self, name: str, data: bytes) -> None:
            self._store.put(name, data)
            raise AlreadyExists("repeated")

        def stream(self, name: str):  # type: ignore[no-untyped-def]
            return self._store.stream(name)

    batch = Batch(Repeating(folder_place.store), tmp_path / "state", "segment", 1, 0, 1)
    assert folder_place.store.get(batch.put("run", "parquet", b"abc").name) == b"abc"


def test_many_entries_become_a_page_and_are_read_from_it(
    vault_store: Place, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ENTRIES", 20)
    ledger = new_ledger(vault_store, key)
    for n in range(2, 46):
        ledger.append(gap(n))
    store = vault_store.store
    assert [name for name, _ in store.list(pages.PREFIX)] == [pages.page_name(1), pages.page_name(2)]
    assert [entry.number for entry in Ledger(store).read()] == list(range(1, 46))
    assert [entry.number for entry in Ledger(store).read(after=17)] == list(range(18, 46))
    assert [entry.number for entry in Ledger(store).read(after=20)] == list(range(21, 46))
    assert not [fault for fault in verify(store).faults if fault.what.startswith(pages.PREFIX)]


def test_a_page_that_is_not_its_entries_is_passed_over_and_named(
    vault_store: Place, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(vault_store, key)
    for n in range(2, 23):
        ledger.append(gap(n))
    monkeypatch.setattr(pages, "ENTRIES", 20)
    store = vault_store.store
    lines = [store.get(entry_name(n)) for n in range(1, 21)]
    store.put(pages.page_name(1), pages.encode(lines).replace(b"gap-7", b"gap-8"))
    assert [entry.body for entry in Ledger(store).read()][6] == gap(7)
    assert [fault.what for fault in verify(store).faults if fault.kind == Kind.CONTENT] == [pages.page_name(1)]
