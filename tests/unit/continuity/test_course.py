"""Where tenants are, through a loss and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from ballast.continuity.board import Board, Told
from ballast.continuity.course import Course
from ballast.continuity.signs import Sign

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def test_a_loss_of_all_takes_everybody_into_the_lifeboat_and_home_one_by_one() -> None:
    course = Course().lost(Sign.GONE, NOON)
    assert course.place("lin") == "nowhere"
    course = course.launched("host=/boat", NOON)
    assert (course.mode, course.place("lin")) == ("afloat", "lifeboat")
    course = course.home_is_open().came_home("lin")
    assert (course.place("lin"), course.place("wang")) == ("home", "lifeboat")
    assert course.all_home().place("wang") == "home"


def test_a_loss_of_some_leaves_the_others_at_home_and_a_second_one_adds_to_it() -> None:
    course = Course().lost(Sign.EMPTY, NOON, frozenset({"lin"})).launched("host=/boat", NOON)
    assert (course.place("lin"), course.place("wang")) == ("lifeboat", "home")
    course = course.lost(Sign.EMPTY, NOON, frozenset({"wang"}))
    assert (course.place("lin"), course.place("wang"), course.place("zhao")) == ("lifeboat", "lifeboat", "home")
    assert course.lost(Sign.GONE, NOON).place("zhao") == "lifeboat"


def test_a_loss_in_the_middle_of_the_return_takes_those_who_were_back_out_again() -> None:
    course = Course().lost(Sign.GONE, NOON).launched("host=/boat", NOON).home_is_open().came_home("lin")
    course = course.lost(Sign.REFUSED, NOON)
    assert (course.mode, course.place("lin")) == ("afloat", "lifeboat")


def test_a_loss_of_all_while_some_come_home_concerns_all() -> None:
    course = Course().lost(Sign.EMPTY, NOON, frozenset({"lin"})).launched("host=/boat", NOON).home_is_open()
    assert course.lost(Sign.GONE, NOON).place("wang") == "lifeboat"
    more = course.lost(Sign.EMPTY, NOON, frozenset({"wang"}))
    assert (more.place("lin"), more.place("wang"), more.place("zhao")) == ("lifeboat", "lifeboat", "home")


def test_a_lifeboat_in_anothers_place_changes_the_address_alone() -> None:
    course = Course().lost(Sign.GONE, NOON).launched("host=/boat", NOON).home_is_open().came_home("lin")
    other = course.launched("host=/boat2", NOON, vault_away=True)
    assert (other.mode, other.back, other.lifeboat, other.vault_away) == (
        "returning",
        frozenset({"lin"}),
        "host=/boat2",
        True,
    )


def test_every_change_has_a_number_of_its_own_also_the_end() -> None:
    courses = [Course()]
    for change in (
        lambda c: c.lost(Sign.GONE, NOON),
        lambda c: c.launched("x", NOON),
        lambda c: c.home_is_open(),
        lambda c: c.came_home("lin"),
        lambda c: c.all_home(),
    ):
        courses.append(change(courses[-1]))
    assert [course.number for course in courses] == [0, 1, 2, 3, 4, 5]


def test_what_the_sentinel_tells_is_read_by_others_and_without_it_all_are_at_home(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert board.course() == Course()
    assert not board.ring("lost")

    told = Told(tmp_path)
    course = Course().lost(Sign.GONE, NOON, frozenset({"lin"}))
    told.tell(course)
    assert board.course() == course
    told.tell(course.launched("host=/boat", NOON))
    assert board.course().lifeboat == "host=/boat"

    assert board.ring("refused")
    assert board.ring("gone")
    assert told.hear(5) == ["refused", "gone"]
    assert told.hear(0.01) == []

    told.close()
    assert board.course() == Course()


def test_home_at_another_address_is_found_by_who_was_given_a_former_one() -> None:
    first, second, third = (f"host=db{n} port=5432 dbname=shop" for n in (1, 2, 3))
    course = Course().with_home(f"{first} user=owner")
    assert (course.moved, course.with_home(first)) == ({}, course)
    course = course.with_home(f"{second} user=owner password=x").with_home(third)
    mine = conninfo_to_dict(course.at_home(f"{first} user=app password=secret"))
    assert mine == conninfo_to_dict(third, user="app", password="secret")
    assert conninfo_to_dict(course.at_home(second)) == conninfo_to_dict(third)
    assert course.at_home("host=pooler port=6432 dbname=shop") == "host=pooler port=6432 dbname=shop"
    assert course.lost(Sign.GONE, NOON).launched("host=boat", NOON).home_is_open().all_home().moved == course.moved
    assert conninfo_to_dict(course.with_home(first).at_home(first)) == conninfo_to_dict(first)


def test_a_loss_ends_that_nothing_can_be_changed() -> None:
    course = Course().with_room(False)
    assert course.no_room
    assert course.place("a") == "home"
    assert not course.lost(Sign.GONE, NOON).no_room
    assert not course.with_room(True).no_room
