"""Serving and selling while the database is away.

What a shop accepts meanwhile goes into the `intake`: durable on this machine before anybody is told so, one after the other,
chained by hashes, each key once. When the database is back, `recovery.merge` takes it through the application's own rules.
"""

from __future__ import annotations

from ballast.continuity.entries import Closed, Entry, IntakeFull, Offered, Taken
from ballast.continuity.intake import Intake

__all__ = ["Closed", "Entry", "Intake", "IntakeFull", "Offered", "Taken"]
