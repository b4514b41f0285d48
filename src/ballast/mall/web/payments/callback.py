"""`POST /pay/callback/{provider}/{shop}`: 2xx is "heard", anything else makes the provider say it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import MediaType, Request, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall.db import Database
from ballast.mall.order_life import Unknown
from ballast.mall.payments.callbacks import UnknownReference, take
from ballast.mall.payments.provider import Forged
from ballast.mall.payments.providers import providers
from ballast.mall.rules.refused import Refused


@post("/pay/callback/{provider:str}/{shop:uuid}", status_code=200, media_type=MediaType.TEXT)
async def callback(
    request: Request[Any, Any, Any],
    provider: FromPath[str],
    shop: FromPath[UUID],
) -> str:
    """Verified by its signature; the answer says what was made of it."""
    db: Database = request.app.state.db
    found = providers(request.app.state.settings).get(provider)
    if found is None:
        raise NotFoundException
    try:
        return await take(db, shop, found, request.headers, await request.body(), datetime.now(UTC))
    except Forged as error:
        raise HTTPException(error.what, status_code=401) from error
    except (UnknownReference, Unknown) as error:
        raise NotFoundException(error.what) from error
    except Refused as error:
        raise HTTPException(error.what, status_code=409) from error


def routes() -> list[ControllerRouterHandler]:
    """For `web.app.faces`."""
    return [callback]
