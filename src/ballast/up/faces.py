"""The applications as Granian loads them here: as `ballast.mall` has them, in processes that end with the one that started them.

Granian's workers outlive a Granian that was killed, and would go on answering with nobody to look after them.
"""

from __future__ import annotations

import os

from litestar.types import ASGIApp

from ballast.vault.lifeline import end_with_parent


def web() -> ASGIApp:
    """The web face."""
    end_with_parent(os.getppid())
    from ballast.mall.web.serve import application

    return application()


def sandbox() -> ASGIApp:
    """The sandbox payment provider."""
    end_with_parent(os.getppid())
    from ballast.mall.sandbox.serve import application

    return application()
