"""Addresses that lead back into this site."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from litestar import Request

from ballast.mall.rules.blocks import is_safe_url


def inside(address: str, otherwise: str) -> str:
    """The address if it is a path of this site, else the other: nobody is led elsewhere by a link to the sign-in."""
    return address if address.startswith("/") and is_safe_url(address) else otherwise


def next_of(request: Request[Any, Any, Any]) -> str:
    """Where the request was to, as the value of a ``next`` parameter."""
    query = request.url.query
    return quote(request.url.path + (f"?{query}" if query else ""), safe="/")


def with_query(request: Request[Any, Any, Any], **changes: str | int | None) -> str:
    """This page's address with some parameters changed, or without those that are None."""
    there = dict(parse_qsl(request.url.query))
    there |= {key: str(value) for key, value in changes.items() if value is not None}
    query = urlencode({key: value for key, value in there.items() if changes.get(key, "") is not None})
    return request.url.path + (f"?{query}" if query else "")
