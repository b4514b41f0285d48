"""``/merchant/<slug>/books``: what days moved, how accounts stand, every posting, and all of it as CSV."""

from __future__ import annotations

import csv
import io
import tempfile
from datetime import date, timedelta
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Stream

from ballast.mall import audit, statements
from ballast.mall.bookkeeping import day_of
from ballast.mall.db import Database
from ballast.mall.rules.books import Account
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.numbers import spoken as spoken_number
from ballast.mall.rules.permissions import Permission
from ballast.mall.web.address import with_query
from ballast.mall.web.attachment import attachment
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import read_day, typed
from ballast.mall.web.render import when
from ballast.mall.web.shell import spoken
from ballast.mall.web.texts import translator

_DAYS = 31
_MOST_DAYS = 366
_MOST_POSTINGS = 200


@get("/books", opt=needs(Permission.SEE_BOOKS))
async def books_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """A statement of some days: 31 if none are named, a year at most."""
    first, last = _days(request, shop_visit)
    async with db.shop(shop_visit.shop.shop_id) as connection:
        statement = await statements.statement(connection, first, last)
    return merchant_page(
        request,
        "books.html",
        shop_visit,
        statement=statement,
        accounts=list(Account),
        total=sum(statement.closing.values()),
        csv=with_query(request, first=first.isoformat(), last=last.isoformat(), said=None).replace(
            "/books", "/books/postings.csv", 1
        ),
    )


@get("/books/{day:str}", opt=needs(Permission.SEE_BOOKS))
async def day_page(
    request: Request[Any, Any, Any],
    day: FromPath[str],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """The postings of a day; ``?after=`` leads on."""
    chosen = read_day(day)
    if chosen is None:
        raise NotFoundException
    after = statements.read_place(request.query_params.get("after", ""))
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await statements.postings(connection, chosen, chosen, after=after, most=_MOST_POSTINGS + 1)
        statement = await statements.statement(connection, chosen, chosen)
    shown = found[:_MOST_POSTINGS]
    return merchant_page(
        request,
        "books_day.html",
        shop_visit,
        day=chosen,
        postings=shown,
        statement=statement,
        accounts=list(Account),
        first=with_query(request, after=None, said=None) if after else "",
        more=with_query(request, after=shown[-1].place.text, said=None) if len(found) > _MOST_POSTINGS else "",
    )


@get("/books/postings.csv", opt=needs(Permission.SEE_BOOKS))
async def export(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Stream:
    """Every posting of these days, amounts in yuan, in UTF-8 with the mark by which spreadsheets know it."""
    first, last = _days(request, shop_visit)
    t = translator(spoken(request, shop_visit.visit.session))
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is sent
    try:
        out = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=False)
        table = csv.writer(out)
        columns = ("day", "at", "number", "account", "debit", "credit", "transaction")
        table.writerow([t(f"trade.books.{name}") for name in columns])
        async with db.shop(shop_visit.shop.shop_id) as connection:
            async for one in statements.all_postings(connection, first, last):
                debit = plain_yuan(one.amount_fen) if one.amount_fen > 0 else ""
                credit = plain_yuan(-one.amount_fen) if one.amount_fen < 0 else ""
                account = t(f"trade.account.{one.account.value}")
                # In groups: spreadsheets round a number of 18 digits.
                row = (one.day, when(one.at), spoken_number(one.number), account, debit, credit, one.transaction_id)
                table.writerow(row)
            await audit.note_in_shop(
                connection,
                shop_visit.by,
                "books.exported",
                shop_visit.visit.now,
                shop_id=shop_visit.shop.shop_id,
                first=first.isoformat(),
                last=last.isoformat(),
            )
        out.flush()
        out.detach()
    except BaseException:
        file.close()
        raise
    return attachment(file, f"postings-{shop_visit.shop.slug}-{first}-{last}.csv", "text/csv; charset=utf-8")


def _days(request: Request[Any, Any, Any], shop_visit: ShopVisit) -> tuple[date, date]:
    last = read_day(typed(request, "last")) or day_of(shop_visit.visit.now)
    first = read_day(typed(request, "first")) or last - timedelta(days=_DAYS - 1)
    first = min(first, last)
    return max(first, last - timedelta(days=_MOST_DAYS - 1)), last


HANDLERS = [books_page, export, day_page]
