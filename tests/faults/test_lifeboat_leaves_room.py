"""A lifeboat that fills its disk makes way for a smaller one, as long as the intake still has room there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ballast.continuity import boats as module
from ballast.continuity.boats import Boats
from ballast.continuity.lifeboat import Lifeboat
from ballast.errors import ServerError
from ballast.vault.logbook import Logbook
from tests.small_disk import small_disk

MB = 1 << 20
NOTHING: Any = None

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


def test_it_counts_as_lost_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "continuity"
    with small_disk(disk, 64):
        boats = Boats(disk, 18, Logbook("sentinel"), leave_bytes=20 * MB)

        def holds(number: int, size: int) -> None:
            folder = disk / "lifeboat" / str(number)
            folder.mkdir(exist_ok=True)
            (folder / "data").write_bytes(bytes(size))
            boats.measure()

        boats.board(1, boat := Lifeboat(disk / "lifeboat" / "1"), is_new=True)
        monkeypatch.setattr(boats, "_measure_at", 0.0)
        holds(1, 30 * MB)
        assert not boat.outgrown_bytes, "30 MB are left"
        holds(1, 50 * MB)  # long before it would be measured again
        assert boat.outgrown_bytes >= 50 * MB
        assert module.free(disk) > 10 * MB, "what is accepted meanwhile has room"
        with pytest.raises(ServerError, match="must leave"):
            boats.resume(1, NOTHING, NOTHING)
        holds(1, 51 * MB)
        assert not boat.outgrown_bytes, "another could not be launched: it is not tried all the time"

        (disk / "lifeboat" / "1" / "data").rename(disk / "somebodys")  # another would not be better off
        boats.board(2, boat := Lifeboat(disk / "lifeboat" / "2"), is_new=True)
        monkeypatch.setattr(boats, "_measure_at", 0.0)
        holds(2, MB)
        assert not boat.outgrown_bytes
        holds(2, 8 * MB)
        assert boat.outgrown_bytes
        boats.afloat = None
        boats.close(keep=False)
