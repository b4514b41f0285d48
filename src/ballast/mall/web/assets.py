"""Scripts and styles of others (htmx, weui, Tabler, …): pinned in package.json, copied here at set-up, none of them committed."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "static"


def folder() -> Path:
    """What is served under ``/static``: ``own/`` is ours, ``vendor/`` the others'."""
    return _FOLDER
