"""Keeping a handful of programs running: started in order, started again when they die, stopped in order.

A `Part` is data: its command, what must be ready before it, how one sees that it is ready itself, and when its turn comes at
the end. `rules` says what follows from what was seen (pure: states and a time in, states and actions out). `processes` starts
and ends real ones, `lines` brings what they say into log files and onto the console, `note` leaves the state for others to
read, and `Supervisor` is the loop that joins these. It knows neither databases nor shops.
"""

from __future__ import annotations

from ballast.supervise.note import Note, PartNote, look
from ballast.supervise.part import Part
from ballast.supervise.supervisor import Supervisor

__all__ = ["Note", "Part", "PartNote", "Supervisor", "look"]
