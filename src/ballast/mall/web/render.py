"""HTML from templates. Autoescape is on for all of them: what a merchant or a shopper wrote is text, never markup."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.utils.empty import value_or_default
from litestar.utils.scope.state import ScopeState

from ballast.mall.rules.carriers import carrier_name
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.numbers import spoken
from ballast.mall.web.texts import Language, language_of, translator

_CHINA = ZoneInfo("Asia/Shanghai")
AFLOAT = "ballast.afloat"
"""In the scope of a request whose shop is served without its own database: `fresh`, or `vault_away` where what is shown is older
than its last commit."""


@cache
def environment() -> Environment:
    """One for the process; a name that a template uses and nobody gave is an error."""
    jinja = Environment(
        loader=PackageLoader("ballast.mall.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Templates are a part of the program: nobody changes them while it runs, and looking costs each page a stat or two.
        auto_reload=False,
        cache_size=-1,
    )
    jinja.filters["yuan"] = yuan
    jinja.filters["when"] = when
    jinja.filters["plain"] = plain_yuan
    jinja.filters["carrier"] = carrier_name
    jinja.filters["spoken"] = spoken
    jinja.filters["facts"] = facts
    jinja.filters["share"] = share
    jinja.filters["tenths"] = tenths
    return jinja


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    language: Language | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: object,
) -> Response[str]:
    """A rendered page.

    Args:
        template: its path under ``templates``.
        language: where it is known already; else ``language_of``.
        context: what the template may use, besides ``t``, ``language``, ``csrf_token``, ``path`` and ``afloat``.
    """
    chosen = language or language_of(request)
    body = (
        environment()
        .get_template(template)
        .render(
            t=translator(chosen),
            language=chosen,
            csrf_token=_csrf(request),
            path=request.url.path,
            afloat=request.scope.get(AFLOAT, ""),
            **context,
        )
    )
    return Response(body, media_type=MediaType.HTML, status_code=status, headers=headers)


def yuan(fen: int) -> str:
    """Fen as yuan for people: 123456 is ``1,234.56``. The sign of the currency stands in the template."""
    sign, fen = ("-", -fen) if fen < 0 else ("", fen)
    return f"{sign}{fen // 100:,}.{fen % 100:02d}"


def facts(detail: str) -> str:
    """A JSON object as a line for people: ``{"role": "clerk", "days": 3}`` is ``role: clerk · days: 3``."""
    told = msgspec.json.decode(detail, type=dict[str, Any])
    return " · ".join(
        f"{name}: {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in told.items()
    )


def share(bp: int) -> str:
    """Basis points as percent: 2000 is ``20``, 1250 is ``12.5``."""
    return f"{bp / 100:.2f}".rstrip("0").rstrip(".")


def tenths(bp: int) -> str:
    """Basis points as a Chinese discount is named, in tenths of the price: 8000 is ``8`` (8 折)."""
    return f"{bp / 1000:.3f}".rstrip("0").rstrip(".")


def when(moment: datetime | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """A moment on a Chinese clock."""
    return moment.astimezone(_CHINA).strftime(form) if moment else ""


def _csrf(request: Request[Any, Any, Any]) -> str:
    """The token that a form must carry as ``_csrf_token``, an htmx request as header X-CSRFToken."""
    return value_or_default(ScopeState.from_scope(request.scope).csrf_token, "")
