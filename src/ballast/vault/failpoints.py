"""Places where tests kill the process: `BALLAST_FAIL="sealer.run_put"` or, at the third time, `sealer.run_put:3`.

A crash at a named instant is the only way to prove what a restart finds. Several places are separated by
commas. Without the variable a place costs one look into a dictionary.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Die here by SIGKILL if the environment says so; otherwise do nothing."""
    wanted = os.environ.get("BALLAST_FAIL")
    if not wanted:
        return
    _reached[name] += 1
    for place in wanted.split(","):
        place_name, _, nth = place.strip().partition(":")
        if place_name == name and _reached[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)
