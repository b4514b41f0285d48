"""What lists of a shop's admin have in common: a page that leads to the next, days that were typed, who sees whose data."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Request
from litestar.exceptions import NotFoundException

from ballast.mall.dashboard import midnight
from ballast.mall.rules.permissions import Permission, may
from ballast.mall.web.guard import ShopVisit

A_PAGE = 50
MOST_TYPED = 100


def typed(request: Request[Any, Any, Any], name: str) -> str:
    """A text of the query, without the blanks around it."""
    return request.query_params.get(name, "").replace("\x00", "").strip()[:MOST_TYPED]


def read_id(text: str) -> UUID:
    """An id that came in a text. NotFoundException for what is none."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundException from None


def read_day(text: str) -> date | None:
    """A day that came in a text, such as 2026-11-27; None for what is none."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if date(2000, 1, 1) <= day <= date(2999, 12, 31) else None


def from_day(day: date | None) -> datetime | None:
    """When it begins in China."""
    return midnight(day) if day else None


def through_day(day: date | None) -> datetime | None:
    """When it is over in China."""
    return midnight(day + timedelta(days=1)) if day else None


def sees_people(shop_visit: ShopVisit) -> bool:
    """Whether this one needs names, phone numbers and streets: who sends parcels does, whatever the shop's standing."""
    return may(shop_visit.shop.role, Permission.FULFIL_ORDERS)
