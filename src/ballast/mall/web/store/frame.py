"""Pages in a shop's frame, redirects after forms, and what is shown where a rule says no."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import nh3
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.response import Redirect
from markupsafe import Markup

from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.traffic import Step, Traffic
from ballast.mall.web.guard import address_in
from ballast.mall.web.render import page
from ballast.mall.web.store.visit import NotOpen, Visit, host_of
from ballast.mall.web.texts import Language, language_of, texts, translator

_MISSING = {"order.unknown", "refund.unknown", "address.unknown"}
SAID = frozenset(
    {
        "added",
        "placed",
        "cancelled",
        "received",
        "requested",
        "withdrawn",
        "sent_back",
        "no_provider",
        "by_card",
        "taken",
        "saved",
        "deleted",
        "password",
    }
)
"""What a page may say at its top after a form: ``?said=``."""


async def shown(
    request: Request[Any, Any, Any],
    visit: Visit,
    template: str,
    *,
    tab: str = "",
    status: int = 200,
    problem: str = "",
    headers: dict[str, str] | None = None,
    **context: object,
) -> Response[str]:
    """A page of the shop.

    Args:
        tab: which of the bar's tabs it belongs to: home, categories, cart, me.
        problem: what went wrong, shown at the top.
    """
    if request.method == "GET" and status == 200:
        seen(request, visit)
    said = request.query_params.get("said", "")
    answer = page(
        request,
        f"store/{template}",
        language=visit.language,
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        shop=visit.look,
        shop_id=visit.entry.shop_id,
        base=visit.base,
        say=_sayer(visit.language),
        rich=rich,
        member=visit.member,
        pieces=await visit.pieces(),
        tab=tab,
        problem=problem,
        said=said if said in SAID else "",
        **context,
    )
    _keep(request, visit, answer)
    return answer


def go(request: Request[Any, Any, Any], visit: Visit, path: str) -> Redirect:
    """After a form: on to this page of the shop (a path below its base)."""
    answer = Redirect(f"{visit.base}{path}", status_code=303)
    _keep(request, visit, answer)
    return answer


def seen(request: Request[Any, Any, Any], visit: Visit, step: Step | None = None) -> None:
    """Count a page that is shown, or a step towards an order."""
    traffic: Traffic = request.app.state.traffic
    if step:
        traffic.step(visit.entry.shop_id, step, visit.now)
    else:
        viewed(traffic, visit.entry.shop_id, request, request.app.state.settings, visit.now)


def viewed(
    traffic: Traffic, shop_id: UUID, connection: ASGIConnection[Any, Any, Any, Any], settings: Settings, now: datetime
) -> None:
    """Count a page that was shown, also one that was given out before the application had the request."""
    headers = connection.headers
    agent, language = headers.get("user-agent", ""), headers.get("accept-language", "")
    traffic.view(shop_id, address_in(connection, settings), agent, language, now)


def why(language: Language, error: Refused) -> str:
    """What a shopper reads where a rule says no."""
    name = f"store.refused.{error.key}"
    t = translator(language)
    return t(name, **error.params) if name in texts() else t("store.refused.other")


def refused(request: Request[Any, Any, Any], error: Refused) -> Response[str]:
    """For refusals that no form shows itself."""
    language = language_of(request)
    slug = request.path_params.get("slug", "")
    missing = error.key in _MISSING
    return page(
        request,
        "store/refused.html",
        language=language,
        status=404 if missing else 409,
        text=translator(language)("common.error.missing") if missing else why(language, error),
        base="" if host_of(request) else f"/s/{slug}",
    )


def not_open(request: Request[Any, Any, Any], error: NotOpen) -> Response[str]:
    """A shop that is suspended or closed."""
    return page(
        request,
        "store/not_open.html",
        status=410 if error.entry.status == "closed" else 403,
        name=error.entry.name,
        closed=error.entry.status == "closed",
    )


def rich(html: str) -> Markup:
    """A merchant's HTML. It was sanitised when it was written; once more costs little, and imports may have come another way."""
    return Markup(nh3.clean(html))  # noqa: S704 - nh3 leaves nothing that runs


def _sayer(language: Language) -> Callable[[str, str], str]:
    def say(zh: str, en: str) -> str:
        return en if language == "en" and en else zh

    return say


def _keep(request: Request[Any, Any, Any], visit: Visit, answer: Response[Any]) -> None:
    settings: Settings = request.app.state.settings
    if cookie := visit.cookie(settings):
        answer.set_cookie(cookie)
