"""The course as every process reads it, whatever has become of the file."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity.board import Board, Told
from ballast.continuity.course import Course
from ballast.continuity.signs import Sign

LOST = Course(7).lost(Sign.REFUSED, datetime(2020, 2, 23, 12, tzinfo=UTC))


@pytest.mark.parametrize("content", [b"", b'{"number":8,"mo', b'{"mode":"sunk"}', b"\x00" * 40])
def test_what_cannot_be_read_changes_nothing_until_it_is_told_anew(tmp_path: Path, content: bytes) -> None:
    told, board = Told(tmp_path), Board(tmp_path)
    told.tell(LOST)
    assert board.course() == LOST
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    damaged.rename(tmp_path / "course.json")
    assert board.course() == LOST
    assert Board(tmp_path).course() == Course()
    told.tell(LOST)
    assert board.course() == LOST
    told.close()
    assert board.course() == Course()


def test_it_may_go_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, board = Told(tmp_path), Board(tmp_path)
    told.tell(LOST)
    look = os.stat

    def look_and_lose(path: Path) -> os.stat_result:
        found = look(path)
        told.close()
        return found

    with monkeypatch.context() as patched:
        patched.setattr("ballast.continuity.board.os.stat", look_and_lose)
        assert board.course() == Course()
