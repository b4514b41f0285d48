"""Every error as application/problem+json (RFC 9457): `code` for programs, `title` and `detail` in the caller's language.

What a rule refuses keeps its key as `code` and its parameters as `params`; the status says of what kind it is.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ballast.mall.aftersales import UnknownRefund
from ballast.mall.attempts import TooOften
from ballast.mall.checkout import PriceChanged
from ballast.mall.rules.refused import Refused
from ballast.mall.stock import OutOfStock
from ballast.mall.web.store.visit import NotOpen
from ballast.mall.web.texts import language_of, texts, translator

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_BEARER = 'Bearer realm="ballast"'

_CODES = {
    400: "request.unreadable",
    401: "auth.needed",
    403: "auth.forbidden",
    404: "not_found",
    405: "method.not_allowed",
    413: "request.too_large",
    415: "request.media_type",
    428: "version.needed",
    429: "too_many_requests",
    500: "fault",
    503: "busy",
}
_STATUS = {
    "cursor.unreadable": 400,
    "login.wrong": 401,
    "member.needed": 403,
    "password.wrong": 403,
    "reset.wrong": 403,
    "login.disabled": 403,
    "shop.not_open": 403,
    "signin.often": 429,
    "version.outdated": 412,
}
_UNFIT = frozenset(
    {
        "cart.quantity",
        "checkout.address",
        "checkout.lines",
        "checkout.quantity",
        "address.long",
        "coupon.which",
        "idempotency.differs",
        "login.unreadable",
        "order.ship_nothing",
        "password.length",
        "product.foreign_picture",
        "picture.large",
        "picture.unreadable",
        "price.range",
        "product.long",
        "product.long_description",
        "product.pictures",
        "product.position",
        "product.title",
        "refund.answer",
        "sku.bad_name",
        "sku.compare_at",
        "sku.long_english",
        "sku.name_twice",
        "sku.needed",
        "sku.no_value",
        "sku.price_needed",
        "sku.stock_by_itself",
        "sku.terms",
        "sku.too_many",
        "sku.too_many_options",
        "sku.twice",
        "sku.unknown_options",
        "stock.receive_nothing",
    }
)
"""What cannot be right, however the shop stands: 422. The rest of what is refused is a conflict with how it stands: 409."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong."""

    type: str
    """A URN that ends with `code`."""
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[Fault, ...] = ()
    params: dict[str, Any] = {}


def respond(
    request: Request[Any, Any, Any],
    status: int,
    *,
    code: str = "",
    detail: str = "",
    headers: dict[str, str] | None = None,
    errors: tuple[Fault, ...] = (),
    params: dict[str, Any] | None = None,
) -> Response[Problem]:
    """A problem as an answer. Without a `detail` the text of its status is taken."""
    language = language_of(request)
    code = code or _CODES.get(status, "request.refused")
    known = texts()
    title = known.get(f"api.title.s{status}", known["api.title.other"])[language]
    said = known.get(f"api.problem.{code}")
    found = Problem(
        f"urn:ballast:problem:{code}",
        title,
        status,
        code,
        detail or (said[language] if said else title),
        errors,
        params or {},
    )
    return Response(
        found,
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "Content-Language": language, **(headers or {})},
    )


def http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """What Litestar refuses, and what handlers and guards raise."""
    errors: tuple[Fault, ...] = ()
    code = ""
    if isinstance(error, ValidationException):
        code = "request.invalid"
        found = error.extra if isinstance(error.extra, list) else []
        errors = tuple(Fault(str(one.get("key", "")), str(one.get("message", ""))) for one in found)
        if not errors and error.detail:
            errors = (Fault("", error.detail),)
    headers = dict(error.headers or {})
    if error.status_code == 401:
        headers.setdefault("WWW-Authenticate", _BEARER)
    return respond(request, error.status_code, code=code, headers=headers, errors=errors)


def refused(request: Request[Any, Any, Any], error: Refused) -> Response[Problem]:
    """What a rule refuses."""
    params: dict[str, Any] = dict(error.params)
    headers: dict[str, str] = {}
    if isinstance(error, OutOfStock):
        params["free"] = {str(sku): left for sku, left in error.free.items()}
    if isinstance(error, PriceChanged):
        params["coupon_reason"] = error.quote.coupon_reason
    if status_of(error) == 401:
        headers["WWW-Authenticate"] = _BEARER
    if isinstance(error, TooOften):
        headers["Retry-After"] = str(error.wait_s)
    return respond(
        request, status_of(error), code=error.key, detail=_text(request, error), headers=headers, params=params
    )


def status_of(error: Refused) -> int:
    """Which status a refusal has."""
    if error.key.endswith(".unknown") or error.key == "stock.unknown_sku" or isinstance(error, UnknownRefund):
        return 404
    if error.key in _STATUS:
        return _STATUS[error.key]
    return 422 if error.key in _UNFIT else 409


def not_open(request: Request[Any, Any, Any], error: NotOpen) -> Response[Problem]:
    """A shop that is suspended, or closed for good."""
    return respond(request, 410 if error.entry.status == "closed" else 403, code="shop.not_open")


def provider_away(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The payment provider is not there: the order stays as it is, and can be paid later."""
    return respond(request, 503, code="payment.provider_away", headers={"Retry-After": "5"})


def broken(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """A fault of ours; the log has it."""
    _log.exception("%s %s broke", request.method, request.url.path, exc_info=error)
    return respond(request, 500)


def _text(request: Request[Any, Any, Any], error: Refused) -> str:
    language = language_of(request)
    for area in ("api.problem", "store.refused", "admin.refused"):
        name = f"{area}.{error.key}"
        if name in texts():
            return translator(language)(name, **error.params)
    return str(error)
