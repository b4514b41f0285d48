"""Remove, change, add, cut short or reorder anything in a vault, and `verify` names that and nothing else."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ballast.errors import IntegrityError, StoreError
from ballast.vault import signing
from ballast.vault.batch import Batch
from ballast.vault.fault import Kind, Report
from ballast.vault.ledger import Ledger, decode, encode, entry_name, sha256, signed_part
from ballast.vault.records import Body, Entry, Genesis, Image, Merge, RunRef, Segment
from ballast.vault.store import open_store
from ballast.vault.vault import Vault
from ballast.vault.verify import verify
from tests import handmade
from tests.deep import mostly_deep
from tests.fix_vault import Place
from tests.handmade import HandmadeVault

on_a_folder = pytest.mark.parametrize("vault_store", mostly_deep(["folder", "s3"], "folder"), indirect=True)
"""For tests that walk through all of a vault again and again, which in a bucket takes ten times as long. What is changed is
the same there; that `verify` reads from buckets as it does from folders the other tests show."""


@pytest.fixture
def made(vault_store: Place, tmp_path: Path) -> HandmadeVault:
    return handmade.make(vault_store.url, tmp_path)


@pytest.fixture
def local(folder_place: Place, tmp_path: Path) -> HandmadeVault:
    return handmade.make(folder_place.url, tmp_path)


def named(report: Report) -> list[tuple[Kind, str]]:
    return [(fault.kind, fault.what) for fault in report.faults]


def check(made: HandmadeVault, **options: object) -> Report:
    return verify(open_store(made.vault.store.url), state_dir=made.state_dir, **options)  # type: ignore[arg-type]


def bodies(made: HandmadeVault, kind: type) -> list[tuple[int, Body]]:
    return [(e.number, e.body) for e in made.vault.ledger.read() if isinstance(e.body, kind)]


def test_a_sound_vault_has_no_faults(made: HandmadeVault) -> None:
    seen: list[tuple[int, int]] = []
    report = check(made, progress=lambda done, total: seen.append((done, total)))
    assert report.sound, report.faults
    assert report.counts["objects"] == len(made.vault.index.objects)
    assert report.counts["merges compared"] == len(made.vault.index.merges) == 6
    assert report.counts["rows"] > 100
    assert seen[-1][0] == seen[-1][1] == report.counts["bytes"]
    assert check(made, deep=False).sound
    assert verify(made.vault).sound


@on_a_folder
def test_every_object_removed_is_named(made: HandmadeVault, vault_store: Place) -> None:
    for name, ref in sorted(made.vault.index.objects.items()):
        data = vault_store.store.get(name)
        vault_store.remove(name)
        assert named(check(made)) == [(Kind.MISSING, name)]
        vault_store.write(name, data)
        assert sha256(vault_store.store.get(name)) == ref.sha256
    assert check(made).sound


@on_a_folder
def test_any_byte_changed_is_named(made: HandmadeVault, vault_store: Place) -> None:
    dice = random.Random(1)
    for name in sorted(made.vault.index.objects):
        data = vault_store.store.get(name)
        places = {0, len(data) - 1, *(dice.randrange(len(data)) for _ in range(3))}
        for place in places:
            changed = bytearray(data)
            changed[place] ^= 1 << dice.randrange(8)
            vault_store.write(name, bytes(changed))
            assert named(check(made, deep=False)) == [(Kind.CHANGED, name)], (name, place)
        vault_store.write(name, data)


@on_a_folder
def test_any_byte_of_any_entry_changed_is_named(made: HandmadeVault, vault_store: Place) -> None:
    dice = random.Random(2)
    for name in vault_store.names("ledger/"):
        data = vault_store.store.get(name)
        for _ in range(3):
            changed = bytearray(data)
            changed[dice.randrange(len(data))] ^= 1 << dice.randrange(7)
            vault_store.write(name, bytes(changed))
            faults = named(check(made, deep=False))
            assert faults in ([(Kind.ENTRY_CHANGED, name)], [(Kind.KEY, name)]), changed
        vault_store.write(name, data)


@on_a_folder
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_an_object_cut_short_is_named(made: HandmadeVault, vault_store: Place, kept: float) -> None:
    for name in sorted(made.vault.index.objects):
        data = vault_store.store.get(name)
        vault_store.write(name, data[: min(len(data) - 1, int(len(data) * kept))])
        assert named(check(made, deep=False)) == [(Kind.CUT_SHORT, name)]
        vault_store.write(name, data)


def test_an_object_that_grew_is_named(made: HandmadeVault, vault_store: Place) -> None:
    name = min(made.vault.index.objects)
    vault_store.write(name, vault_store.store.get(name) + b"\0")
    assert named(check(made)) == [(Kind.CHANGED, name)]


def test_two_swapped_objects_are_named_with_what_they_are(made: HandmadeVault, vault_store: Place) -> None:
    one, two = (body.runs[0].object.name for _, body in bodies(made, Segment)[:2])  # type: ignore[union-attr]
    first, second = vault_store.store.get(one), vault_store.store.get(two)
    vault_store.write(one, second)
    vault_store.write(two, first)
    report = check(made)
    assert named(report) == sorted([(Kind.MISPLACED, one), (Kind.MISPLACED, two)], key=lambda f: f[1])
    explained = {fault.what: fault.explanation for fault in report.faults}
    assert two in explained[one]
    assert one in explained[two]


def test_an_added_object_is_named(made: HandmadeVault, vault_store: Place) -> None:
    added = ["data/1-0-1-segment-00000000/0-run-aaaa.parquet", "ledger/extra", "readme.txt"]
    for name in added:
        vault_store.write(name, b"anything")
    assert sorted(named(check(made))) == sorted((Kind.STRAY, name) for name in added)


@on_a_folder
def test_a_removed_entry_is_named_with_what_it_was_about(made: HandmadeVault, vault_store: Place) -> None:
    for number in range(1, 17):
        data = vault_store.store.get(entry_name(number))
        body = decode(data, "").body
        vault_store.remove(entry_name(number))
        report = check(made)
        assert named(report) == [(Kind.ENTRY_MISSING, entry_name(number))]
        if isinstance(body, Segment):
            harm = report.faults[0].harm
            assert (harm.timeline, harm.from_lsn, harm.to_lsn) == (1, body.first_lsn, body.last_lsn)
            assert "segment" in report.faults[0].explanation
        vault_store.write(entry_name(number), data)
    assert check(made).sound


def test_entries_put_in_another_order_are_named(made: HandmadeVault, vault_store: Place) -> None:
    first, second = (vault_store.store.get(entry_name(n)) for n in (8, 9))
    vault_store.write(entry_name(8), second)
    vault_store.write(entry_name(9), first)
    assert named(check(made)) == [(Kind.ENTRY_CHANGED, entry_name(8)), (Kind.ENTRY_CHANGED, entry_name(9))]


def edited(place: Place, number: int, change: Callable[[Entry], Entry]) -> None:
    place.write(entry_name(number), encode(change(decode(place.store.get(entry_name(number)), ""))))


def test_an_edited_entry_is_named_with_whom_it_hurts(made: HandmadeVault, vault_store: Place) -> None:
    number, body = bodies(made, Segment)[1]
    assert isinstance(body, Segment)
    shorter = msgspec.structs.replace(body, runs=())
    edited(vault_store, number, lambda entry: msgspec.structs.replace(entry, body=shorter))
    report = check(made)
    assert named(report) == [(Kind.ENTRY_CHANGED, entry_name(number))]
    assert body.runs[0].object.name.rsplit("/", 1)[0] in report.faults[0].explanation
    assert (report.faults[0].harm.from_lsn, report.faults[0].harm.to_lsn) == (body.first_lsn, body.last_lsn)


def rewritten(place: Place, key: signing.SigningKey, start: int, change: Callable[[Entry], Entry]) -> None:
    """Entries from `start` on, chained and signed anew."""
    previous = sha256(place.store.get(entry_name(start - 1))) if start > 1 else ""
    for name in place.names("ledger/")[start - 1 :]:
        entry = msgspec.structs.replace(change(decode(place.store.get(name), "")), previous=previous)
        data = encode(msgspec.structs.replace(entry, signature=key.sign(signed_part(entry))))
        place.write(name, data)
        previous = sha256(data)


def test_a_ledger_rewritten_with_another_key_is_named_from_there_on(
    made: HandmadeVault, vault_store: Place, tmp_path: Path
) -> None:
    forger = signing.create_key(tmp_path / "forger")
    rewritten(vault_store, forger, 9, lambda entry: msgspec.structs.replace(entry, writer="forger"))
    names = vault_store.names("ledger/")
    assert named(check(made)) == [(Kind.ENTRY_CHANGED, name) for name in names[8:]]
    assert named(verify(vault_store.store)) == [(Kind.ENTRY_CHANGED, name) for name in names[8:]]


def test_a_whole_ledger_rewritten_with_another_key_is_known_to_who_wrote_the_first(
    made: HandmadeVault, vault_store: Place, tmp_path: Path
) -> None:
    forger = signing.create_key(tmp_path / "forger")

    def forged(entry: Entry) -> Entry:
        if isinstance(entry.body, Genesis):
            body = msgspec.structs.replace(entry.body, public_key=forger.public)
            return msgspec.structs.replace(entry, body=body)
        return entry

    rewritten(vault_store, forger, 1, forged)
    names = vault_store.names("ledger/")
    assert named(check(made)) == [(Kind.KEY, names[0])] + [(Kind.ENTRY_CHANGED, name) for name in names[1:]]


def test_history_rewritten_with_the_stolen_key_is_known_by_the_head(made: HandmadeVault, vault_store: Place) -> None:
    key = signing.load_key(made.state_dir / signing.KEY_FILE)
    rewritten(vault_store, key, 9, lambda entry: msgspec.structs.replace(entry, written_at="2020-01-01"))
    assert named(check(made)) == [(Kind.CHAIN, vault_store.names("ledger/")[-1])]
    with pytest.raises(IntegrityError, match="not the entry that this recorder wrote"):
        Vault.open(vault_store.url, state_dir=made.state_dir)


def test_an_entry_replaced_with_the_stolen_key_breaks_the_chain(made: HandmadeVault, vault_store: Place) -> None:
    key = signing.load_key(made.state_dir / signing.KEY_FILE)

    def resigned(entry: Entry) -> Entry:
        entry = msgspec.structs.replace(entry, writer="thief")
        return msgspec.structs.replace(entry, signature=key.sign(signed_part(entry)))

    edited(vault_store, 9, resigned)
    assert named(check(made)) == [(Kind.CHAIN, entry_name(9))]


def test_a_cut_off_tail_is_named(made: HandmadeVault, vault_store: Place) -> None:
    names = vault_store.names("ledger/")
    for name in names[-2:]:
        vault_store.remove(name)
    assert named(check(made)) == [(Kind.TAIL_MISSING, names[-2])]
    assert "entries 16 to 17" in check(made).faults[0].explanation or len(names) != 17
    with pytest.raises(IntegrityError, match="tail was removed"):
        Vault.open(vault_store.url, state_dir=made.state_dir)


def test_several_removed_entries_are_one_fault(made: HandmadeVault, vault_store: Place) -> None:
    for number in (5, 6, 7):
        vault_store.remove(entry_name(number))
    report = check(made)
    assert named(report) == [(Kind.ENTRY_MISSING, entry_name(5))]
    assert "no entries 5 to 7" in report.faults[0].explanation


@pytest.mark.parametrize("junk", [b"junk", b"", None])
def test_what_somebody_puts_at_a_far_number_is_a_stray(
    made: HandmadeVault, vault_store: Place, junk: bytes | None
) -> None:
    far = entry_name(999_999_999_999)
    vault_store.write(far, vault_store.store.get(entry_name(5)) if junk is None else junk)
    started = time.monotonic()
    assert named(check(made)) == [(Kind.STRAY, far)]
    assert time.monotonic() - started < 10
    vault_store.remove(entry_name(5))
    assert (Kind.ENTRY_MISSING, entry_name(5)) in named(check(made))


def test_an_emptied_place_is_named(made: HandmadeVault, vault_store: Place) -> None:
    for name in vault_store.names():
        vault_store.remove(name)
    assert {fault.kind for fault in check(made).faults} == {Kind.TAIL_MISSING}
    assert named(verify(vault_store.store)) == [(Kind.ENTRY_MISSING, entry_name(1))]


def test_damage_names_the_tenants_and_positions_that_it_hurts(made: HandmadeVault, vault_store: Place) -> None:
    number, segment = bodies(made, Segment)[0]
    assert isinstance(segment, Segment)
    vault_store.remove(segment.runs[0].object.name)
    fault = check(made).faults[0]
    assert fault.harm.tenants == (None, "eve")
    assert (fault.harm.timeline, fault.harm.from_lsn) == (1, segment.first_lsn)
    assert fault.where == f"1/0/100 to 1/0/{segment.last_lsn:X}; shared rows and tenants up to 'eve'; relations 1, 2"
    assert f"entry {number}" in fault.explanation


def test_several_faults_are_all_named(made: HandmadeVault, vault_store: Place) -> None:
    names = sorted(made.vault.index.objects)
    vault_store.remove(names[3])
    vault_store.write(names[5], b"other")
    vault_store.write("data/x", b"")
    assert sorted(named(check(made))) == sorted(
        [(Kind.MISSING, names[3]), (Kind.CUT_SHORT, names[5]), (Kind.STRAY, "data/x")]
    )


# --- mistakes of whoever wrote the vault: all signed and hashed as it should be


def wrong_run(made: HandmadeVault, change: Callable[[list[dict[str, object]]], object]) -> list[tuple[Kind, str]]:
    """Append a segment whose run is not what its entry says, and look."""
    first = made.at
    made.set_item("ada", 50, "new")
    made.set_item("bob", 50, "new")
    rows = [row for row in made.changes if row["lsn"] >= first]  # type: ignore[operator]
    change(rows)
    with made.batch("segment", first, made.at) as batch:
        runs = made.put(batch, rows, None)
        made.vault.append(Segment(1, first, made.at, None, None, runs, None, (), (), len(rows)))
        batch.done()
    report = check(made)
    assert all(fault.what == runs[0].object.name for fault in report.faults)
    return [(fault.kind, fault.explanation) for fault in report.faults]


def test_rows_outside_the_stretch_are_named(local: HandmadeVault) -> None:
    assert wrong_run(local, lambda rows: rows[0].update(lsn=1)) == [
        (Kind.CONTENT, "it has rows from outside its stretch.")
    ]


def test_rows_of_another_timeline_are_named(local: HandmadeVault) -> None:
    assert wrong_run(local, lambda rows: rows[0].update(timeline=2)) == [
        (Kind.CONTENT, "it has rows of other timelines than 1.")
    ]


def test_a_right_run_is_no_fault(local: HandmadeVault) -> None:
    assert wrong_run(local, lambda rows: None) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows": 7}, "rows, and the ledger says 7"),
        ({"bucket": 1}, "rows of other buckets"),
        ({"min_tenant": "aaa"}, "smallest and largest tenant"),
        ({"max_tenant": "zzz"}, "smallest and largest tenant"),
        ({"relations": (1, 2)}, "relations"),
    ],
)
def test_a_run_that_is_not_what_its_entry_says_is_named(
    local: HandmadeVault, change: dict[str, object], why: str
) -> None:
    first = local.at
    tenant = next(t for t in handmade.TENANTS if handmade.bucket_of(t, handmade.BUCKETS) == 0)
    local.set_item(tenant, 50, "new")
    with local.batch("segment", first, local.at) as batch:
        (run,) = local.put(batch, local.changes[-1:], None)
        wrong = msgspec.structs.replace(run, **change)
        local.vault.append(Segment(1, first, local.at, None, None, (wrong,), None, (), (), 1))
        batch.done()
    (fault,) = check(local).faults
    assert fault.kind == Kind.CONTENT
    assert why in fault.explanation


def append_segment(made: HandmadeVault, first: int, last: int) -> int:
    return made.vault.append(Segment(1, first, last, None, None, (), None, (), (), 0)).number


def test_holes_and_overlaps_between_segments_are_named(local: HandmadeVault) -> None:
    hole = append_segment(local, local.at + 8, local.at + 16)
    assert named(check(local)) == [(Kind.HOLE, entry_name(hole))]
    overlap = append_segment(local, local.at + 8, local.at + 24)
    report = check(local)
    assert named(report) == [(Kind.HOLE, entry_name(hole)), (Kind.OVERLAP, entry_name(overlap))]
    assert (report.faults[0].harm.from_lsn, report.faults[0].harm.to_lsn) == (local.at, local.at + 8)
    assert (report.faults[1].harm.from_lsn, report.faults[1].harm.to_lsn) == (local.at + 8, local.at + 16)


def test_a_hole_that_a_gap_tells_of_is_no_fault(local: HandmadeVault) -> None:
    append_segment(local, local.at + 8, local.at + 16)
    local.vault.append(handmade.Gap("g", 1, local.at, local.at + 8, None, "slot lost", "2026-03-01T13:00:00+00:00"))
    assert check(local).sound


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (Segment(2, 0x100, 0x200, None, None, (), None, (), (), 0), "timeline 2, which never began"),
        (Image(1, 0x10, 1, (), (), (), "early"), "before its timeline began"),
        (Image(1, 0x100, 9, (), (), (), "no schema"), "schema version 9"),
        (Merge(1, "changes", (0,), 1, 0x100, 0x9000, 1, ()), "past what is recorded"),
        (Merge(1, "image", (0,), 1, 0x100, 0x108, 1, ()), "out of order"),
    ],
)
def test_an_entry_that_speaks_of_what_cannot_be_is_named(local: HandmadeVault, body: Body, why: str) -> None:
    number = local.vault.append(body).number
    (fault,) = check(local).faults
    assert (fault.kind, fault.what) == (Kind.POSITION, entry_name(number))
    assert why in fault.explanation


def run_with(made: HandmadeVault, merge: Merge, change: Callable[[list[dict[str, object]]], object]) -> RunRef:
    """A run for the merge, of what it should hold and a mistake."""
    assert merge.buckets is not None
    (bucket,) = merge.buckets
    if merge.kind == "image":
        rows = made.whole_rows(bucket)
    else:
        rows = [
            dict(row)
            for row in made.changes
            if merge.first_lsn <= row["lsn"] < merge.last_lsn  # type: ignore[operator]
            and handmade.bucket_of(row["tenant"], handmade.BUCKETS) == bucket  # type: ignore[arg-type]
        ]
    change(rows)
    with Batch(made.vault.store, made.state_dir, "merge", 1, merge.first_lsn, merge.last_lsn) as batch:
        (run,) = made.put(batch, rows, bucket)
        made.vault.append(msgspec.structs.replace(merge, runs=(run,)))
        batch.done()
    return run


@pytest.mark.parametrize("kind", ["changes", "image"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows.pop(), "rows, and"),
        (lambda rows: rows[-1].update(row=rows[-1]["row"][:-1] + b"x\n"), "but not the same"),
        (lambda rows: None, ""),
    ],
    ids=["one row less", "another value", "right"],
)
def test_a_merge_that_differs_from_its_sources_is_named(
    local: HandmadeVault, kind: str, change: Callable[[list[dict[str, object]]], object], why: str
) -> None:
    first = local.vault.index.segments[0].first_lsn if kind == "changes" else local.at
    run_with(local, Merge(1, kind, (1,), 2, first, local.at, 1, ()), change)  # type: ignore[arg-type]
    faults = check(local).faults
    if not why:
        assert faults == ()
        return
    (fault,) = faults
    assert (fault.kind, fault.what) == (Kind.MERGE, entry_name(local.vault.ledger.head()[0]))
    assert why in fault.explanation
    assert fault.harm.bucket == 1


def test_a_batch_under_way_is_no_fault(local: HandmadeVault) -> None:
    with local.batch("segment", local.at, local.at + 1) as batch:
        ref = batch.put("run", "parquet", b"not yet in the ledger")
        assert check(local).sound
        assert named(verify(local.vault.store)) == [(Kind.STRAY, ref.name)]


def test_a_silent_store_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(StoreError):
        verify(open_store("s3://bucket/x"))


def test_a_ledger_without_its_key_is_still_held_together_by_the_chain(local: HandmadeVault) -> None:
    store = local.vault.store
    root = Path(store.url)
    (root / entry_name(1)).write_bytes(b"{}")
    edited_number = 5
    data = (root / entry_name(edited_number)).read_bytes()
    (root / entry_name(edited_number)).write_bytes(data.replace(b'"writer":"', b'"writer":"x'))
    assert named(verify(store)) == [
        (Kind.ENTRY_CHANGED, entry_name(1)),
        (Kind.CHAIN, entry_name(edited_number)),
    ]
    assert Ledger(store, state_dir=local.state_dir).head()[0] == 17
