"""The frame of every admin page: a menu at the side, language and account above, what was done or refused. The face passes
its menu; templates extend ``common/admin.html`` and fill its blocks.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response

from ballast.mall.rules.refused import Refused
from ballast.mall.sessions import Session
from ballast.mall.web.address import with_query
from ballast.mall.web.render import page
from ballast.mall.web.texts import Language, language_of, texts


class Entry(msgspec.Struct, frozen=True):
    """A line of a menu: the name of its text, its path, its icon of Tabler (without ``ti-``).

    `group`: the name of the text above the line and its neighbours of the same group; none where it is empty.
    """

    text: str
    path: str
    icon: str
    group: str = ""


class Menu(msgspec.Struct, frozen=True):
    """What stands at the side of a face. `title` is shown as it is; `home` is where it leads."""

    title: str
    home: str
    entries: tuple[Entry, ...]

    def current(self, path: str) -> Entry | None:
        """The entry under which a page is: the one whose path it begins with, the longest."""
        above = [one for one in self.entries if path == one.path or path.startswith(one.path.rstrip("/") + "/")]
        return max(above, key=lambda one: len(one.path), default=None)


def admin_page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    menu: Menu,
    session: Session,
    refused: Refused | None = None,
    status: int | None = None,
    warning: str = "",
    **context: object,
) -> Response[str]:
    """A page in the frame.

    Args:
        refused: shown above, in the reader's language; the answer is then 422 where `status` says nothing else.
        warning: a text that is shown on every page of the face, such as that a shop is suspended.
        context: what the template may use besides.
    """
    language = spoken(request, session)
    return page(
        request,
        template,
        language=language,
        status=status or (422 if refused else 200),
        headers={"Cache-Control": "no-store"},
        menu=menu,
        current=menu.current(request.url.path),
        session=session,
        refused=refused_text(refused, language) if refused else "",
        said=_said(request, language),
        warning=warning,
        t_or=lambda name, otherwise: texts()[name][language] if name in texts() else otherwise,
        other_language=other_language(request, menu),
        **context,
    )


def spoken(request: Request[Any, Any, Any], session: Session) -> Language:
    """What the reader chose, else what the account says."""
    chosen = request.query_params.get("lang") or request.cookies.get("lang")
    return language_of(request) if chosen in ("zh", "en") else session.language


def other_language(request: Request[Any, Any, Any], menu: Menu | None = None) -> dict[Language, str]:
    """This page's address in either language; where a form was sent to, which is no page, the menu's entry above it."""
    if request.method != "GET" and menu is not None:
        path = (menu.current(request.url.path) or menu.entries[0]).path
        return {"zh": f"{path}?lang=zh", "en": f"{path}?lang=en"}
    return {"zh": with_query(request, lang="zh", said=None), "en": with_query(request, lang="en", said=None)}


def refused_text(refused: Refused, language: Language) -> str:
    """What a rule said, for people; in English where it has no text of its own here."""
    text = texts().get(f"admin.refused.{refused.key}")
    return text[language].format(**refused.params) if text else str(refused)


def _said(request: Request[Any, Any, Any], language: Language) -> str:
    """What was done before this page was shown, by ``?said=``; only known texts are shown."""
    text = texts().get(f"admin.said.{request.query_params.get('said', '')}")
    return text[language] if text else ""
