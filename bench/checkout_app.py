"""Temporary thin face over checkout.place (until the API is there)."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from litestar import Litestar, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import checkout, settings
from ballast.mall.db import Database
from ballast.mall.owner import Owner
from ballast.mall.quoting import Address, Wanted
from ballast.mall.web.app import create_app, faces
from ballast.mall.web.store.visit import entry_of


class Asked(msgspec.Struct):
    lines: tuple[Wanted, ...]
    address: Address
    shown_fen: int | None = None


@post("/api/x/{slug:str}/orders", opt={"exclude_from_csrf": True})
async def order(
    request: Request[Any, Any, Any], slug: FromPath[str], data: Asked, db: NamedDependency[Database]
) -> checkout.Placed:
    found = await entry_of(db, slug)
    async with db.shop(found.shop_id) as connection:
        return await checkout.place(
            connection,
            Owner(visitor_id=UUID(request.headers["x-visitor"])),
            data.lines,
            key=request.headers["idempotency-key"],
            address=data.address,
            shown_fen=data.shown_fen,
            now=datetime.now(UTC),
            source="api",
        )


def application() -> Litestar:
    import gc

    app = create_app(settings.load(Path(os.environ.get("BALLAST_CONFIG", "ballast.toml"))), [*faces(), order])
    gc.collect()
    gc.freeze()
    return app
