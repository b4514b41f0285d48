"""A web process: ``granian --interface asgi --factory --loop uvloop ballast.mall.web.serve:application``."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Scope

from ballast.mall import settings
from ballast.mall.catalog import Entry
from ballast.mall.settings import Settings
from ballast.mall.traffic import Traffic
from ballast.mall.web.app import create_app
from ballast.mall.web.shared import SharedPages
from ballast.mall.web.shedding import Shedding
from ballast.mall.web.store.frame import viewed


def application() -> ASGIApp:
    """From ``ballast.toml`` (or the file that BALLAST_CONFIG names) and the environment."""
    found = settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml")))
    mall = create_app(found)
    app = SharedPages(
        Shedding(mall, found.max_inside, lambda: mall.state.db.away or mall.state.db.recovering),
        mall,
        secret=found.secret,
        secure_cookies=found.secure_cookies,
        shown=partial(_count, mall.state.traffic, found),
    )
    # What is there now stays: to look through it again and again would cost each request its part. Requests leave few
    # circles behind, so that the collector need not come so often either.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return app


def _count(traffic: Traffic, found: Settings, scope: Scope, entry: Entry) -> None:
    """A page that was given out without being made is a page that was shown."""
    viewed(traffic, entry.shop_id, ASGIConnection(scope), found, datetime.now(UTC))
