"""What an application's handler of a merge works with: the item, the way to say no, and the asynchronous face."""

from __future__ import annotations

from ballast.continuity.asyncface import AsyncFace, run_through
from ballast.recovery import CannotApply, MergeItem

__all__ = ["AsyncFace", "CannotApply", "MergeItem", "run_through"]
