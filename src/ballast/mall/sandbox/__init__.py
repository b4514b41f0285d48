"""The sandbox payment provider: a program of its own that behaves as a real one does, with no money in it.

A shopper's browser comes to its pay page and pays or declines; the shop is told later, by signed callbacks over HTTP that come
late, twice, in another order, and again until they are heard. What it knows is in a SQLite file and outlives a restart.
"""

from __future__ import annotations

from ballast.mall.sandbox.app import create_sandbox
from ballast.mall.sandbox.delivery import Behaviour

__all__ = ["Behaviour", "create_sandbox"]
