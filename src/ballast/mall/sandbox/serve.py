"""The sandbox provider as a process: ``granian --interface asgi --factory ballast.mall.sandbox.serve:application``.

It reads the mall's settings; its file is `Settings.sandbox_file`. One process of one worker: it holds the deliveries.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

from litestar.types import ASGIApp

from ballast.mall import settings
from ballast.mall.sandbox.app import create_sandbox
from ballast.mall.sandbox.delivery import Behaviour


def application() -> ASGIApp:
    """From ``ballast.toml`` (or the file that BALLAST_CONFIG names) and the environment."""
    found = settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml")))
    behaviour = Behaviour(
        delay_s=found.sandbox_delay_s,
        spread_s=found.sandbox_spread_s,
        copies=found.sandbox_copies,
        redirect_wait_s=found.sandbox_redirect_wait_s,
    )
    app = create_sandbox(found.secret, found.sandbox_url, found.sandbox_file, behaviour)
    gc.collect()  # see `web.serve`
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return app
