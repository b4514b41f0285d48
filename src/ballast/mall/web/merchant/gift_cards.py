"""``/merchant/<slug>/gift-cards``: what is left on which card, a card with its movements; issuing cards, making one void.

Codes are shown in the answer to the form that issues them, or are in the file that it gives, and nowhere afterwards.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery

from ballast.mall import gift_cards
from ballast.mall.db import Connection, Database
from ballast.mall.gift_cards import Issued, Terms, UnknownCard
from ballast.mall.ids import new_id
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import with_query
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_about
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import A_PAGE, read_day, through_day, typed
from ballast.mall.web.merchant.orders import actor_of, names_of
from ballast.mall.web.merchant.typed import filled, whole, yuan
from ballast.mall.web.render import when
from ballast.mall.web.shell import spoken
from ballast.mall.web.texts import translator


@get("/gift-cards", opt=needs(Permission.SEE_GIFT_CARDS))
async def card_list(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """Cards, the newest first; ``?q=`` finds those whose code ends so."""
    q = typed(request, "q")
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await gift_cards.page(connection, last4=q, before=before, most=A_PAGE + 1)
        owed_fen = await gift_cards.owed_fen(connection, shop_visit.visit.now)
    shown = found[:A_PAGE]
    return merchant_page(
        request,
        "gift_cards.html",
        shop_visit,
        cards=[(one, one.state(shop_visit.visit.now)) for one in shown],
        owed_fen=owed_fen,
        q=q,
        may_issue=shop_visit.may(Permission.EDIT_GIFT_CARDS),
        newest=with_query(request, before=None, said=None) if before else "",
        older=with_query(request, before=str(shown[-1].card_id), said=None) if len(found) > A_PAGE else "",
    )


@get("/gift-cards/new", opt=needs(Permission.EDIT_GIFT_CARDS))
async def new_cards(request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit]) -> Response[str]:
    """The empty form."""
    return await _new(request, shop_visit, filled({"cards": 1, "key": str(new_id())}))


@post("/gift-cards/new", opt=needs(Permission.EDIT_GIFT_CARDS), status_code=200)
async def issue(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """Issue them: their codes, this once, as a page or (``as=csv``) as a file."""
    sent = await form(request)
    try:
        terms = Terms(
            whole(sent, "cards"),
            yuan(sent, "amount"),
            through_day(_until(sent)),
            sent.text("note", 200),
        )
        async with db.shop(shop_visit.shop.shop_id) as connection:
            made = await gift_cards.issue(
                connection,
                shop_visit.shop.shop_id,
                terms,
                key=sent.text("key"),
                by=shop_visit.by,
                actor=actor_of(shop_visit),
                now=shop_visit.visit.now,
            )
    except Refused as error:
        return await _new(request, shop_visit, sent, error)
    file = _file(request, shop_visit, made, terms)
    if sent.text("as") == "csv":
        name = f"gift-cards-{shop_visit.shop.slug}-{shop_visit.visit.now:%Y%m%d-%H%M%S}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(file.encode("utf-8-sig"), media_type="text/csv; charset=utf-8", headers=headers)
    return merchant_page(request, "gift_cards_issued.html", shop_visit, made=made, terms=terms, file="\ufeff" + file)


@get("/gift-cards/{card_id:uuid}", opt=needs(Permission.SEE_GIFT_CARDS))
async def card_page(
    request: Request[Any, Any, Any],
    card_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """One, with all that moved on it."""
    return await _page(request, card_id, shop_visit, db)


@post("/gift-cards/{card_id:uuid}/void", opt=needs(Permission.EDIT_GIFT_CARDS))
async def make_void(
    request: Request[Any, Any, Any],
    card_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """It pays nothing any more; what is on it is taken off."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await gift_cards.void(
            connection,
            shop_visit.shop.shop_id,
            card_id,
            sent.text("reason"),
            by=shop_visit.by,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
        )

    return await _deed(request, card_id, shop_visit, db, work, "gift_card_void")


def _until(sent: Form) -> date | None:
    text = sent.text("until")
    day = read_day(text)
    if text and day is None:
        raise Refused("form.moment", f"{text!r} is no date.", "Write 2026-11-11.", text=text)
    return day


def _file(request: Request[Any, Any, Any], shop_visit: ShopVisit, made: Sequence[Issued], terms: Terms) -> str:
    t = translator(spoken(request, shop_visit.visit.session))
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow([t(f"gift.{name}") for name in ("code", "amount", "until")])
    until = when(terms.expires_at) if terms.expires_at else t("gift.no_end")
    table.writerows((one.code, plain_yuan(terms.amount_fen), until) for one in made)
    return out.getvalue()


async def _new(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, sent: Form, refused: Refused | None = None
) -> Response[str]:
    # A key that has issued cards is worth nothing any more.
    key = str(new_id()) if refused and refused.key == "gift_card.issued_before" else sent.text("key")
    return merchant_page(
        request,
        "gift_cards_new.html",
        shop_visit,
        refused,
        sent=sent,
        key=key or str(new_id()),
        most=gift_cards.MOST_AT_ONCE,
    )


async def _page(
    request: Request[Any, Any, Any],
    card_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            card = await gift_cards.one(connection, card_id)
            moved = await gift_cards.movements(connection, card_id)
    except UnknownCard:
        raise NotFoundException from None
    return merchant_page(
        request,
        "gift_card.html",
        shop_visit,
        refused,
        card=card,
        state=card.state(shop_visit.visit.now),
        movements=moved,
        names=await names_of(db, shop_visit),
        sees_orders=shop_visit.may(Permission.SEE_ORDERS),
        may_void=shop_visit.may(Permission.EDIT_GIFT_CARDS) and (card.status == "active" or card.balance_fen > 0),
    )


_deed = partial(deed_about, _page, "gift-cards")
HANDLERS = [card_list, new_cards, issue, card_page, make_void]
