"""How a shop stands, and where it can go from there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Move, Standing, moved, moves_from, standing

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "until", "closing_at", "stands"),
    [
        ("open", LATER, None, Standing.OPEN),
        ("open", NOW, None, Standing.LAPSED),
        ("suspended", EARLIER, None, Standing.SUSPENDED),
        ("closing", LATER, LATER, Standing.CLOSING),
        ("closing", LATER, NOW, Standing.CLOSED),
        ("closed", LATER, EARLIER, Standing.CLOSED),
    ],
)
def test_a_shop_stands_as_its_line_and_the_clock_say(
    status: str, until: datetime, closing_at: datetime | None, stands: Standing
) -> None:
    assert standing(status, until, closing_at, NOW) is stands


def test_every_move_is_possible_from_where_it_is_offered_and_refused_from_elsewhere() -> None:
    moves: tuple[Move, ...] = ("suspend", "reopen", "close")
    for status in ("open", "suspended", "closing", "closed"):
        for move in moves:
            if move in moves_from(status):
                assert moved(status, move) != status
            else:
                with pytest.raises(Refused):
                    moved(status, move)
    assert moves_from("closed") == ("reopen",)
