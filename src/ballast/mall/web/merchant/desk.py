"""What the pages about goods have in common: who does it, what a form sent, where it goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from litestar import Request, Response
from litestar.datastructures import UploadFile
from litestar.exceptions import NotFoundException

from ballast.mall.db import Connection, Database
from ballast.mall.product_record import Deed
from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.guard import ShopVisit


def deed_of(shop_visit: ShopVisit) -> Deed:
    """Who of the staff does something now."""
    return Deed(shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now)


def root(shop_visit: ShopVisit) -> str:
    """The path of the shop's admin."""
    return f"/merchant/{shop_visit.shop.slug}"


Page = Callable[[Request[Any, Any, Any], UUID, ShopVisit, Database, Refused], Awaitable[Response[Any]]]


async def deed_about(
    page: Page,
    place: str,
    request: Request[Any, Any, Any],
    key: UUID,
    shop_visit: ShopVisit,
    db: Database,
    work: Callable[[Connection], Awaitable[Any]],
    said: str = "saved",
) -> Response[Any]:
    """Something is done with an order, a refund, a customer: then its page is shown, which says so, or why it was refused.

    Args:
        page: of the one with this key.
        place: where such pages are, such as ``orders``.
        said: what it says (``admin.said.…``).
    """
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: page(request, key, shop_visit, db, error),
        f"{root(shop_visit)}/{place}/{key}?said={said}",
    )


def ids(texts: list[str]) -> list[UUID]:
    """Ids of a form. NotFoundException for what is none."""
    try:
        return [UUID(one) for one in texts]
    except ValueError:
        raise NotFoundException from None


def optional_id(text: str) -> UUID | None:
    """An id, or none where nothing is chosen."""
    return ids([text])[0] if text else None


def optional_yuan(text: str) -> int | None:
    """Fen, or None where nothing is written."""
    return parse_yuan(text.strip()) if text.strip() else None


def whole(text: str, name: str) -> int:
    """A whole number that somebody typed; an empty field is 0. Refused: it is none."""
    typed = text.strip()
    if not typed:
        return 0
    digits = typed.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise Refused(
            "number.unreadable", f"{typed!r} in {name} is no whole number.", "Write one like 30.", text=typed[:60]
        )
    return int(typed)


def files(found: list[object]) -> list[UploadFile]:
    """The files that were chosen; a file field that was left empty sends none."""
    return [one for one in found if isinstance(one, UploadFile) and one.filename]
