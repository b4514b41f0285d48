"""When a webhook that was not heard is sent again, and when its address is given up."""

from __future__ import annotations

from datetime import timedelta

FIRST = timedelta(seconds=10)
LONGEST = timedelta(hours=6)
MOST_ATTEMPTS = 12
"""10 s, 30 s, 90 s, … 6 h: the last attempt comes some 27 hours after the first."""
STOP_AFTER = timedelta(days=3)
"""An address that has heard nothing for so long is turned off."""
_SPREAD = 0.2


def wait(attempts: int, chance: float) -> timedelta | None:
    """How long after the `attempts`-th attempt the next one comes; None: there is none.

    Args:
        chance: between 0 and 1, at random: what failed together is not sent again together (a fifth earlier to a fifth later).
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    # The power is bounded before it is taken: what is killed in the middle counts attempts beyond the usual.
    times: int = 3 ** min(attempts - 1, 10)
    exact = min(FIRST * times, LONGEST)
    return exact * (1 - _SPREAD + 2 * _SPREAD * chance)
