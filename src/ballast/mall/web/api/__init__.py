"""The API, `/api/v1`: for shoppers' programs (mini-programs) and for the shops' own software.

`calls` says who calls, `limits` how often, `problems` what every error looks like, `answers` ETags and pages; `shapes` and
`own_shapes` are what is promised to callers; `document` describes it all. The rest is a file for each part.
"""

from __future__ import annotations

from litestar import Router
from litestar.types import ControllerRouterHandler

from ballast.mall.payments import ProviderAway
from ballast.mall.rules.refused import Refused
from ballast.mall.web.api import (
    browsing,
    buying,
    document,
    my_account,
    my_coupons,
    my_orders,
    own_orders,
    own_pictures,
    own_products,
    own_stock,
    problems,
    visitors,
)
from ballast.mall.web.api.answers import Answers
from ballast.mall.web.api.calls import Strict, key_call, keyed
from ballast.mall.web.api.lean import Lean
from ballast.mall.web.api.limits import admitted, asked, readable
from ballast.mall.web.store.visit import NotOpen

__all__ = ["ROOT", "callers", "routes"]

ROOT = "/api/v1"


def routes() -> list[ControllerRouterHandler]:
    """For `web.app.faces`."""
    return [
        *callers(),
        Router(ROOT, route_handlers=document.HANDLERS, guards=[admitted], middleware=[Answers()]),
    ]


def callers() -> list[ControllerRouterHandler]:
    """What programs call, without the document that describes it."""
    parts = (browsing, visitors, my_account, my_coupons, buying, my_orders)
    own = (own_stock, own_products, own_pictures, own_orders)
    return [
        Router(
            f"{ROOT}/shops/{{slug:str}}",
            route_handlers=[handler for part in parts for handler in part.HANDLERS],
            before_request=asked,
            middleware=[Answers()],
            request_class=Strict,
            response_class=Lean,
            exception_handlers={
                NotOpen: problems.not_open,
                Refused: problems.refused,
                ProviderAway: problems.provider_away,
                Exception: problems.broken,
            },
            tags=["shopper"],
        ),
        Router(
            f"{ROOT}/merchant",
            route_handlers=[handler for part in own for handler in part.HANDLERS],
            guards=[admitted, keyed, readable],
            request_class=Strict,
            middleware=[Answers()],
            dependencies=key_call(),
            exception_handlers={Refused: problems.refused, Exception: problems.broken},
            security=[{"key": []}],
            tags=["merchant"],
        ),
    ]
