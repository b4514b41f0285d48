"""The web face as a process: ``granian --interface asgi --factory ballast.mall.web.serve:application``. It may be many."""

from __future__ import annotations

import os
from pathlib import Path

from litestar import Litestar

from ballast.mall import settings
from ballast.mall.web.app import create_app


def application() -> Litestar:
    """From ``ballast.toml`` (or the file that BALLAST_CONFIG names) and the environment."""
    return create_app(settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml"))))
