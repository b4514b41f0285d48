"""The intake's copy in a store: everything, once, also over an end in the middle and over files that were closed."""

from __future__ import annotations

import fcntl
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity import Intake, Offered
from ballast.continuity.duplicate import Duplicate, incarnations, read
from ballast.errors import IntegrityError, StoreError
from ballast.vault.store import open_store

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def take(intake: Intake, *keys: str) -> None:
    intake.take([Offered("lin", key, "checkout", {"body": "x" * 50}, NOON) for key in keys])


def test_it_has_everything_that_was_accepted(tmp_path: Path) -> None:
    store, folder = open_store(tmp_path / "store"), tmp_path / "intake"
    store.begin()
    intake = Intake(folder)
    take(intake, "a", "b")
    copy = Duplicate(store, folder, 0)
    assert (copy.bring(), copy.copied, copy.bring()) == (2, 2, 0)
    take(intake, "c")
    intake.retire(3)
    take(intake, "d")
    (folder / "copied").write_text("2")  # killed before it noted what it had put
    again = Duplicate(store, folder, 0)
    assert (again.bring(), again.copied) == (2, 4)
    again.copied = 2
    again.bring()
    (name,) = incarnations(store)
    assert [entry.key for entry in read(store, name)] == ["a", "b", "c", "d"]
    assert Duplicate(store, tmp_path / "another", 1).copied == 0


def test_a_chunk_that_is_missing_or_was_changed_is_found(tmp_path: Path) -> None:
    store, folder = open_store(tmp_path / "store"), tmp_path / "intake"
    store.begin()
    intake, copy = Intake(folder), Duplicate(store, folder, 0)
    for key in "abc":
        take(intake, key)
        copy.bring()
    (name,) = incarnations(store)
    chunks = sorted((tmp_path / "store" / "intake" / name).iterdir())
    whole = chunks[1].read_bytes()
    chunks[1].write_bytes(whole.replace(b"xxx", b"yyy"))
    with pytest.raises(IntegrityError, match="entry 2"):
        read(store, name)
    chunks[1].unlink()
    with pytest.raises(IntegrityError, match="entry 2"):
        read(store, name)


def test_while_the_store_is_away_nothing_is_noted_as_copied(tmp_path: Path) -> None:
    store, folder = open_store(tmp_path / "store"), tmp_path / "intake"
    store.begin()
    intake, copy = Intake(folder), Duplicate(store, folder, 0)
    take(intake, "a")
    (tmp_path / "store").rename(tmp_path / "unmounted")
    with pytest.raises(StoreError):
        copy.bring()
    assert copy.copied == 0
    (tmp_path / "unmounted").rename(tmp_path / "store")
    assert copy.bring() == 1


def test_what_is_taken_back_because_the_disk_was_full_is_not_copied(tmp_path: Path) -> None:
    store, folder = open_store(tmp_path / "store"), tmp_path / "intake"
    store.begin()
    intake, copy = Intake(folder), Duplicate(store, folder, 0)
    take(intake, "a")
    with (folder / "intake.jsonl").open("ab") as file:  # as a process that writes while the copy is made
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        file.write((folder / "intake.jsonl").read_bytes().replace(b'"number":1', b'"number":2'))
        file.flush()
        copying = threading.Thread(target=copy.bring)
        copying.start()
        copying.join(0.3)
        file.truncate(size)
    copying.join(10)
    assert copy.copied == 1
    take(intake, "b")
    assert copy.bring() == 1
    (name,) = incarnations(store)
    assert [entry.key for entry in read(store, name)] == ["a", "b"]
