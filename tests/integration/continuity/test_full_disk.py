"""A server of our own whose disk is full: data and log, on a disk of its own, or on one with all that continuity writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ballast.continuity.board import Board
from ballast.continuity.course import Course
from ballast.continuity.helm import BOARD
from ballast.continuity.room import RESERVE_BYTES
from ballast.continuity.signs import Sign
from tests.fix_sentinel import idle_sentinel
from tests.folders import a_folder
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost
from tests.small_disk import Hog, small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@contextlib.contextmanager
def on_a_small_disk(megabytes: int, *under: str) -> Iterator[Sea]:
    """A platform of which this folder is on a disk of its own."""
    with a_folder() as folder, small_disk(folder.joinpath(*under), megabytes):
        folder.joinpath(*under).chmod(0o755)
        sea = Sea(folder)
        try:
            yield sea
        finally:
            sea.discard()


def fill_log(sea: Sea) -> None:
    """The server begins a piece of its log for which there is no room, and ends; it may come up once more with what it has."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(sea.dsn, autocommit=True, connect_timeout=2) as conn:
        conn.execute("SET synchronous_commit = off")
        for _ in range(100):
            conn.execute("SELECT pg_logical_emit_message(false, 'ballast-test', 'x'), pg_switch_wal()")


@pytest.mark.timeout(240)
def test_a_server_that_ends_for_want_of_room_is_home_again_when_there_is_some() -> None:
    with on_a_small_disk(384, "server") as sea:
        sea.ensure()
        before, number = sea.identifier, sea.course.number
        with Shoppers(sea) as shoppers:
            sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
            hog = Hog(sea.folder / "server")
            sea.until(lambda: [fill_log(sea), sea.course.mode != "home"][1], "the loss to be noticed")
            sea.until(lambda: shoppers.taken("lifeboat") > 10, "orders in the lifeboat")
            assert sea.course.why is Sign.FULL
            sea.until(lambda: "room on the disk of" in sea.health.waits_for, "it to be told what is waited for")
            hog.unlink()
            sea.came_home(number)
            home = shoppers.taken("home")
            sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
        assert (sea.identifier, sea.kept) == (before, [])
        nothing_is_lost(sea, shoppers)


@pytest.mark.timeout(240)
def test_where_everything_is_on_the_full_disk_shops_stay_and_it_is_told_until_there_is_room() -> None:
    with on_a_small_disk(640) as sea:
        sea.ensure()
        before = sea.identifier
        with Shoppers(sea) as shoppers:
            sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
            hog = Hog(sea.folder)
            sea.until(lambda: sea.course.no_room, "it to be told that nothing can be changed")
            sea.until(lambda: "going over would not help" in sea.health.waits_for, "`ballast status` to say so")
            assert sea.query("SELECT count(*) > 0 FROM orders") == [(True,)]
            assert sea.course.mode == "home"
            hog.unlink()
            # The recorder may find that there is room a moment later than others: then shops are in the lifeboat until it does.
            sea.until(lambda: sea.course.mode == "home" and not sea.course.no_room, "home to take writes")
            home = shoppers.taken("home")
            sea.until(lambda: shoppers.taken("home") > home + 5, "orders at home again")
        assert sea.identifier == before
        nothing_is_lost(sea, shoppers)


def test_where_shops_are_is_told_with_room_that_was_kept_for_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "continuity", 24):
        sentinel = idle_sentinel(tmp_path)
        with (tmp_path / "continuity" / "hog").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass
        course = Course(
            mode="returning", back=frozenset(f"{n:036}" for n in range(1000))
        )  # more than the file has room for
        sentinel._tell(course)
        assert Board(tmp_path / "continuity" / BOARD).course() == course
        assert (tmp_path / "continuity" / "reserve").stat().st_size < RESERVE_BYTES
        sentinel._end()
