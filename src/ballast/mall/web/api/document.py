"""The OpenAPI 3.1 document, made from the handlers themselves, and the page that shows it.

What all routes have in common (problems, 304, limits) is put in here once, instead of at every handler.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.types import ControllerRouterHandler, Method

import ballast
from ballast.mall.web.api import examples, own_pictures, own_shapes, problems, shapes
from ballast.mall.web.api.problems import MEDIA_TYPE
from ballast.mall.web.render import page

_DESCRIPTION = """\
Two kinds of callers:

* **A mini-program** (or any program of a shopper) under `/api/v1/shops/{slug}`. Whoever puts the first goods into a cart without
  a token (`PUT …/cart/lines/{sku_id}`) finds that of a new guest in the answer (`POST …/visitors` gives one beforehand): keep it,
  send it as `Authorization: Bearer …`. Signing up or in gives another token. An order is a quote, `POST …/orders` with `pay`, and
  the `pay_url` of its answer; or with a `gift_card`, and it is paid.
* **A shop's own software** under `/api/v1/merchant`, with a key that the shop's owner makes in the admin
  (`Authorization: Bearer bk_…`). The key says which shop, and what it is good for.

Amounts are in fen (1/100 yuan), moments in UTC. Lists have `next`, the address of the next page. What is read has an `ETag`:
send it as `If-None-Match` and unchanged answers are 304; where two may change the same, it is needed as `If-Match` (428, 412).
Creating takes an `Idempotency-Key`. HEAD is answered wherever GET is. Errors are `application/problem+json` with a `code`;
texts are in the language of `Accept-Language` (Chinese or English). How often one may call say the `RateLimit-…` headers;
after 429 and 503 wait as `Retry-After` says.
"""
_PROBLEMS = {
    "400": "The request cannot be read, or is not as it must be.",
    "401": "No token or key, or one that does not hold.",
    "403": "The key is not good for this, or the shop is not open.",
    "404": "There is no such thing, or it is somebody else's.",
    "405": "Not with this method.",
    "409": "As things stand it cannot be done.",
    "410": "The shop is closed.",
    "412": "It was changed since it was read.",
    "413": "The body is too large.",
    "415": "The body is not of a type that is taken here: JSON, or where it says so a picture.",
    "422": "It can be read, but not meant.",
    "428": "If-Match is needed.",
    "429": "Too many requests; Retry-After says when again.",
    "500": "A fault of ours.",
    "503": "Too busy, or the database or the payment provider is away; Retry-After says when again.",
}
_PICTURES = "/api/v1/merchant/pictures"
_PAYMENTS = "/api/v1/shops/{slug}/orders/{order_id}/payments"
_UNCHANGED = {"description": "Unchanged since the ETag of If-None-Match."}


@cache
def document() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(built())


@cache
def built() -> dict[str, Any]:
    """The document."""
    # An application that serves nothing: Litestar makes the document for one.
    from ballast.mall.web.api import callers

    config = OpenAPIConfig(
        title="Ballast Mall",
        version=ballast.__version__,
        description=_DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        render_plugins=[JsonRenderPlugin()],
        tags=[
            Tag(name="shopper", description="For a shopper's program: `/api/v1/shops/{slug}`"),
            Tag(name="merchant", description="For a shop's own software, with a key: `/api/v1/merchant`"),
        ],
        components=Components(
            security_schemes={
                "visitor": SecurityScheme(type="http", scheme="bearer", description="A visitor's token"),
                "key": SecurityScheme(type="http", scheme="bearer", description="An API key of the shop"),
            },
        ),
    )
    routes: list[ControllerRouterHandler] = callers()
    # What handlers depend on must have a name here; none of them is called.
    given = {name: Provide(lambda: None, sync_to_thread=False) for name in ("db", "settings", "pictures")}
    found = Litestar(route_handlers=routes, openapi_config=config, dependencies=given).openapi_schema.to_schema()
    components = found["components"]
    components["schemas"] = _schemas()
    components["responses"] = {
        f"p{status}": {
            "description": text,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, text in _PROBLEMS.items()
    }
    # A picture is sent as it is, which no handler's signature says.
    found["paths"][_PICTURES]["post"]["requestBody"] = {
        "required": True,
        "content": {one: {"schema": {"type": "string", "format": "binary"}} for one in own_pictures.TAKES},
    }
    # … nor that a body may be left out.
    found["paths"][_PAYMENTS]["post"]["requestBody"] = {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PaymentRequest"}}},
    }
    for methods in found["paths"].values():
        for method, operation in methods.items():
            if isinstance(operation, dict):
                _common(method, operation)
    return found


@get("/openapi.json", media_type=MediaType.JSON, include_in_schema=False)
async def openapi() -> Response[bytes]:
    """The document."""
    return Response(document(), media_type=MediaType.JSON, headers={"Cache-Control": "public, max-age=300"})


@get("/docs", media_type=MediaType.HTML, include_in_schema=False)
async def docs(request: Request[Any, Any, Any]) -> Response[str]:
    """The document for people, who can try it out."""
    return page(request, "api/docs.html")


def _common(method: str, operation: dict[str, Any]) -> None:
    operation["summary"] = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", operation["operationId"]).capitalize()
    responses = operation["responses"]
    for status in _PROBLEMS:
        responses[status] = {"$ref": f"#/components/responses/p{status}"}
    if method == "get":
        responses["304"] = _UNCHANGED
    if "Needs If-Match" in operation.get("description", ""):
        parameter = {"name": "If-Match", "in": "header", "required": True, "schema": {"type": "string", "minLength": 1}}
        operation.setdefault("parameters", []).append(parameter)


def _schemas() -> dict[str, Any]:
    """Of all that is said and heard, as msgspec itself reads it: Litestar's own lose bounds of 0 and forbidden fields."""
    kinds = [
        kind
        for module in (shapes, own_shapes, problems)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]
    found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")[1]
    for kind, one in examples.by_kind().items():
        found[kind.__name__]["examples"] = [msgspec.to_builtins(one)]
    return found


def _operation_id(handler: HTTPRouteHandler, _: Method, __: list[Any]) -> str:
    first, *more = handler.fn.__name__.split("_")
    return first + "".join(part.capitalize() for part in more)


HANDLERS = [openapi, docs]
