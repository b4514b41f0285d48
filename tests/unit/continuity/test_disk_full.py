"""The sentinel where its disk is full: room that it kept is there for what it must write."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.continuity import incident
from ballast.continuity.incident import Incident
from ballast.continuity.room import RESERVE_BYTES
from ballast.continuity.signs import Sign
from tests.fix_sentinel import idle_sentinel


def test_a_loss_that_cannot_be_noted_gives_up_some_of_it(tmp_path: Path) -> None:
    sentinel = idle_sentinel(tmp_path)
    reserve = tmp_path / "continuity" / "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError) as full:
            incident.write(tmp_path / "continuity", Incident(datetime.now(UTC), Sign.FULL))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sentinel._in_trouble(full.value)
    assert reserve.stat().st_size < RESERVE_BYTES
    sentinel._in_trouble(OSError(13, "something else"))
    left = reserve.stat().st_size
    sentinel._tell(sentinel._course.all_home())
    assert (left, reserve.stat().st_size) == (RESERVE_BYTES - (1 << 20), RESERVE_BYTES)
    sentinel._end()
