"""Every text that a person sees, in Chinese and English side by side, so that neither can be missing.

``texts/<area>.toml`` has lines such as ``cart.empty = { zh = "购物车是空的", en = "Your cart is empty" }``. A text's name is the
area, a dot and the key: ``storefront.cart.empty``. ``{name}`` stands for a parameter.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from litestar import Request

Language = Literal["zh", "en"]
LANGUAGE_COOKIE = "lang"


@cache
def texts() -> Mapping[str, Mapping[Language, str]]:
    """All texts by name.

    Raises:
        ValueError: a text lacks a language, or has one that is not known.
    """
    found: dict[str, Mapping[Language, str]] = {}
    for file in sorted(files(__package__).joinpath("texts").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".toml"):
            _flatten(file.name.removesuffix(".toml"), tomllib.loads(file.read_text(encoding="utf-8")), found)
    return found


def _flatten(prefix: str, node: Mapping[str, Any], found: dict[str, Mapping[Language, str]]) -> None:
    for key, value in node.items():
        name = f"{prefix}.{key}"
        if set(value) == {"zh", "en"} and all(isinstance(text, str) for text in value.values()):
            found[name] = value
        elif "zh" in value or "en" in value:
            raise ValueError(f"text {name} must have zh and en, and nothing else")
        else:
            _flatten(name, value, found)


def translator(language: Language) -> Callable[..., str]:
    """``t("storefront.cart.items", n=3)``. A name that is not there raises KeyError: a page with a hole is a fault."""
    known = texts()

    def t(name: str, /, **parameters: object) -> str:
        text = known[name][language]
        return text.format(**parameters) if parameters else text

    return t


def language_of(request: Request[Any, Any, Any], default: Language = "zh") -> Language:
    """What the reader chose (``?lang=``, then the cookie), else what the browser prefers, else the shop's own."""
    chosen = prefers(request.query_params.get("lang")) or prefers(request.cookies.get(LANGUAGE_COOKIE))
    return chosen or prefers(None, request.headers.get("accept-language", "")) or default


def prefers(chosen: str | None, accepted: str = "") -> Language | None:
    """The language that was chosen, else the first of ours that a browser's Accept-Language names; None: neither is ours."""
    if chosen == "zh" or chosen == "en":
        return "zh" if chosen == "zh" else "en"
    for part in accepted.lower().split(",") if accepted else ():
        if part.strip().startswith("zh"):
            return "zh"
        if part.strip().startswith("en"):
            return "en"
    return None
