"""``/merchant/<slug>/exceptions``: what was accepted while the database was away and cannot be kept as it is, orders that came
about by data that was wrong, and what to do about each."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import answering, audit, exceptions, remedies
from ballast.mall.db import Connection, Database
from ballast.mall.exceptions import UnknownException
from ballast.mall.rules import masking
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web import marks
from ballast.mall.web.address import with_query
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_about
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.listing import A_PAGE, read_id, sees_people, typed
from ballast.mall.web.merchant.orders import actor_of, names_of

_DETAILS = ("order_id", "refund_id", "reason", "carrier", "code")
_OF_PEOPLE = ("name", "phone", "email")


@get("/exceptions", opt=needs(Permission.SEE_ORDERS))
async def exception_list(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """Those to be settled, or with ``?state=settled`` those that are."""
    state = "settled" if typed(request, "state") == "settled" else "open"
    at = marks.read(request.query_params.get("before", ""), marks.moment)
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await exceptions.page(
            connection,
            settled=state == "settled",
            before=exceptions.Cursor(*at) if at else None,
            most=A_PAGE + 1,
        )
        counted = await exceptions.counts(connection)
    shown = found[:A_PAGE]
    return merchant_page(
        request,
        "exceptions.html",
        shop_visit,
        found=shown,
        buyer=_buyer(shop_visit),
        state=state,
        tabs=[
            (name, counted[name], with_query(request, state=name, before=None, said=None))
            for name in ("open", "settled")
        ],
        counted=exceptions.COUNTED,
        newest=with_query(request, before=None, said=None) if at else "",
        older=with_query(request, before=marks.mark(shown[-1].kept_at, shown[-1].exception_id), said=None)
        if len(found) > A_PAGE
        else "",
    )


@get("/exceptions/{exception_id:uuid}", opt=needs(Permission.SEE_ORDERS))
async def exception_page(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[str]:
    """One, and what may be done about it."""
    return await _page(request, exception_id, shop_visit, db)


@post("/exceptions/{exception_id:uuid}/accept", opt=needs(Permission.FULFIL_ORDERS))
async def accept(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The order is kept; what is missing of its goods is taken into stock first."""

    async def work(connection: Connection) -> None:
        order = await remedies.accept(connection, exception_id, actor=actor_of(shop_visit), now=shop_visit.visit.now)
        await _note(connection, shop_visit, "exception.accepted", order.number)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_accepted")


@post("/exceptions/{exception_id:uuid}/substitute", opt=needs(Permission.FULFIL_ORDERS))
async def substitute(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The order is kept with other goods."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        order, back_fen = await remedies.substitute(
            connection, exception_id, _instead(sent), actor=actor_of(shop_visit), now=shop_visit.visit.now
        )
        await _note(connection, shop_visit, "exception.substituted", order.number, back_fen=back_fen)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_substituted")


@post("/exceptions/{exception_id:uuid}/refund", opt=needs(Permission.DECIDE_REFUNDS))
async def refund(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """The order is not kept; its money goes back."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        kept = await exceptions.one(connection, exception_id)
        amount = await remedies.refund(
            connection,
            exception_id,
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            answer=sent.text("answer", 500),
        )
        subject = kept.order.number if kept.order else str(kept.order_id)
        await _note(connection, shop_visit, "exception.refunded", subject, amount_fen=amount)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_refunded")


@post("/exceptions/{exception_id:uuid}/note", opt=needs(Permission.FULFIL_ORDERS))
async def note(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """What is no order: what was done about it."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        answer = sent.text("answer", 500)
        await remedies.note(
            connection, exception_id, actor=actor_of(shop_visit), now=shop_visit.visit.now, answer=answer
        )
        await _note(connection, shop_visit, "exception.noted", str(exception_id), answer=answer)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_noted")


@post("/exceptions/{exception_id:uuid}/stand", opt=needs(Permission.FULFIL_ORDERS))
async def stand(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """An order that came about by what was wrong stays as it is."""

    async def work(connection: Connection) -> None:
        found = await answering.let_stand(
            connection, exception_id, actor=actor_of(shop_visit), now=shop_visit.visit.now
        )
        await _note(connection, shop_visit, "exception.accepted", found.number)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_stands")


@post("/exceptions/{exception_id:uuid}/address", opt=needs(Permission.FULFIL_ORDERS))
async def address(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """It goes where it was to go."""

    async def work(connection: Connection) -> None:
        found = await answering.put_address_right(
            connection, exception_id, actor=actor_of(shop_visit), now=shop_visit.visit.now
        )
        await _note(connection, shop_visit, "exception.readdressed", found.number)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_readdressed")


@post("/exceptions/{exception_id:uuid}/give-back", opt=needs(Permission.DECIDE_REFUNDS))
async def give_back(
    request: Request[Any, Any, Any],
    exception_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """It is cancelled, or its money goes back; with ``remedy=ask`` the shopper is asked to order again at the right price."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        found, amount = await answering.give_back(
            connection,
            exception_id,
            "ask" if sent.text("remedy") == "ask" else "refund",
            actor=actor_of(shop_visit),
            now=shop_visit.visit.now,
            answer=sent.text("answer", 500),
        )
        await _note(connection, shop_visit, "exception.refunded", found.number, amount_fen=amount)

    return await _deed(request, exception_id, shop_visit, db, work, "exception_given_back")


def _instead(sent: Form) -> dict[int, UUID]:
    """Line → SKU, where one was chosen."""
    lines = [int(one) for one in sent.texts("line") if one.isdecimal() and len(one) < 6]
    return {line: read_id(chosen) for line in lines if (chosen := sent.text(f"instead-{line}"))}


def _buyer(shop_visit: ShopVisit) -> Any:
    """How a buyer is named to this reader."""
    return (lambda name: name) if sees_people(shop_visit) else masking.name


def _details(kept: exceptions.Kept, shop_visit: ShopVisit) -> list[tuple[str, str]]:
    """What a deed that is no order says of itself, for whom it may concern."""
    if kept.order is not None or kept.questioned is not None:
        return []
    told = kept.deeds[0].payload
    shown = (*_DETAILS, *_OF_PEOPLE) if sees_people(shop_visit) else _DETAILS
    return [(name, str(told[name])) for name in shown if told.get(name)]


async def _note(connection: Connection, shop_visit: ShopVisit, action: str, subject: str, **detail: str | int) -> None:
    await audit.note_in_shop(
        connection,
        shop_visit.by,
        action,
        shop_visit.visit.now,
        shop_id=shop_visit.shop.shop_id,
        subject=subject,
        **detail,
    )


async def _page(
    request: Request[Any, Any, Any],
    exception_id: UUID,
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
) -> Response[str]:
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            kept = await exceptions.one(connection, exception_id)
            lines = await remedies.lines_now(connection, kept)
    except UnknownException:
        raise NotFoundException from None
    is_open = kept.settled_at is None
    fulfils, decides = shop_visit.may(Permission.FULFIL_ORDERS), shop_visit.may(Permission.DECIDE_REFUNDS)
    return merchant_page(
        request,
        "exception.html",
        shop_visit,
        refused,
        kept=kept,
        order=kept.order,
        lines=lines,
        missing=sum(line.missing for line in lines),
        gone=any(line.now is None for line in lines),
        buyer=_buyer(shop_visit),
        sees_people=sees_people(shop_visit),
        details=_details(kept, shop_visit),
        names=await names_of(db, shop_visit),
        may_accept=is_open and fulfils and kept.order is not None,
        may_refund=is_open and decides and kept.is_order,
        may_note=is_open and fulfils and not (kept.is_order or kept.questioned),
        may_stand=is_open and fulfils and kept.questioned is not None,
        may_give_back=is_open and decides and kept.questioned is not None,
        is_there=kept.questioned is not None or kept.remedy in ("accept", "substitute", "refund"),
    )


_deed = partial(deed_about, _page, "exceptions")

HANDLERS = [exception_list, exception_page, accept, substitute, refund, note, stand, address, give_back]
