"""Room that is kept for when the disk is full, and what a lifeboat takes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ballast.continuity import boats as module
from ballast.continuity.boats import Boats
from ballast.continuity.lifeboat import Lifeboat
from ballast.continuity.room import Reserve, taken
from ballast.errors import ServerError
from ballast.vault.logbook import Logbook

MB = 1 << 20


def test_a_reserve_is_given_up_piece_by_piece_and_filled_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")
    reserve.fill(2 * MB)
    assert taken(tmp_path) >= 2 * MB
    assert [reserve.give_up() for _ in range(3)] == [True, True, False]
    assert taken(tmp_path) < MB
    reserve.fill(2 * MB)
    assert taken(tmp_path) >= 2 * MB


def test_a_lifeboat_that_takes_too_much_is_replaced_and_floats_on_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEASURE_EVERY_S", 0.0)
    boats = Boats(tmp_path, 18, Logbook("sentinel"), most_bytes=4 * MB)
    nothing: Any = None

    def holds(number: int, size: int) -> None:
        folder = tmp_path / "lifeboat" / str(number)
        folder.mkdir(exist_ok=True)
        (folder / "data").write_bytes(b"x" * size)
        boats.measure()

    boats.board(1, boat := Lifeboat(tmp_path / "lifeboat" / "1"))
    holds(1, MB)
    assert not boat.outgrown_bytes
    holds(1, 5 * MB)
    assert boat.outgrown_bytes >= 5 * MB
    with pytest.raises(ServerError, match="lifeboat_bytes"):
        boats.resume(1, nothing, nothing)
    holds(1, 9 * MB)
    assert not boat.outgrown_bytes, "another could not be launched: it is not tried all the time"
    holds(1, 11 * MB)
    assert boat.outgrown_bytes
    boats.board(2, boat := Lifeboat(tmp_path / "lifeboat" / "2"), is_new=True)
    holds(2, 3 * MB)
    holds(2, 5 * MB)
    assert not boat.outgrown_bytes, "it took as much from its beginning"
    holds(2, 7 * MB)
    assert boat.outgrown_bytes
    boats.afloat = None
    boats.close(keep=False)
