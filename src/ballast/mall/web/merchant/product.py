"""A product's pages: made, and changed part by part: what is said about it, its options, its SKUs, where it stands."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import categories, product_record, products
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.product_record import Facts, Terms
from ballast.mall.richtext import MOST_CHARACTERS
from ballast.mall.rules import skus, specs
from ballast.mall.rules.money import parse_yuan, plain_yuan
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.pictures import MOST_BYTES, MOST_OF_PRODUCT
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec, SpecValue
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, ids, optional_id, optional_yuan, root, whole
from ballast.mall.web.merchant.frame import merchant_page

_EDIT = needs(Permission.EDIT_PRODUCTS)


@get("/products/new", opt=_EDIT)
async def new_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """The form of a new product."""
    return await _new(request, shop_visit, db, Facts(""), (), {})


@post("/products/new", opt=_EDIT)
async def make(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new product, a draft; its page shows what it needs before it goes on sale."""
    sent = await form(request)
    product_id, facts, matrix = sent.id("product_id"), _facts(sent), _matrix(sent, ())

    async def work(connection: Connection) -> None:
        pieces = whole(sent.text("stock"), "stock")
        await products.make(connection, product_id, facts, matrix, _terms(sent), deed_of(shop_visit), pieces=pieces)

    typed = {name: sent.text(name) for name in ("price", "compare_at", "weight", "stock")}
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _new(request, shop_visit, db, facts, matrix, typed, error),
        f"{root(shop_visit)}/products/{product_id}?said=product_made",
    )


@get("/products/{product_id:uuid}", opt=needs(Permission.SEE_PRODUCTS))
async def product_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """All of a product."""
    return await show(request, shop_visit, db, product_id)


@post("/products/{product_id:uuid}", opt=_EDIT)
async def change(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """What is said about it."""
    sent = await form(request)
    facts = _facts(sent)
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        lambda c: products.change(c, product_id, sent.number("version"), facts, deed_of(shop_visit)),
        lambda error: show(request, shop_visit, db, product_id, error, facts=facts),
        _back(shop_visit, product_id),
    )


@post("/products/{product_id:uuid}/options", opt=_EDIT)
async def set_options(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Its options. New combinations cost what the form says, or as much as the dearest that is there."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        product = await products.get(connection, product_id)
        if product is None:
            raise NotFoundException
        terms = _terms(sent) if sent.text("price") else Terms(product.max_price_fen)
        matrix = _matrix(sent, product.specs)
        await products.set_options(connection, product_id, sent.number("version"), matrix, terms, deed_of(shop_visit))

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: show(request, shop_visit, db, product_id, error),
        _back(shop_visit, product_id, "skus"),
    )


@post("/products/{product_id:uuid}/skus", opt=_EDIT)
async def set_terms(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Prices, weights and codes of its SKUs, and which are offered."""
    sent = await form(request)
    rows = list(
        zip(
            ids(sent.texts("sku")),
            *(sent.texts(name) for name in ("price", "compare_at", "weight", "code")),
            strict=False,
        )
    )
    offered = frozenset(ids(sent.texts("offered")))

    async def work(connection: Connection) -> None:
        terms = {
            sku: Terms(parse_yuan(price.strip()), optional_yuan(compare_at), whole(weight, "weight"), code.strip())
            for sku, price, compare_at, weight, code in rows
        }
        await products.set_terms(connection, product_id, sent.number("version"), terms, offered, deed_of(shop_visit))

    typed = {sku: (*row, sku in offered) for sku, *row in rows}
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: show(request, shop_visit, db, product_id, error, typed=typed),
        _back(shop_visit, product_id, "skus"),
    )


@post("/products/{product_id:uuid}/status", opt=_EDIT)
async def set_status(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """On sale, off sale, away."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await products.hold(connection, product_id, None)
        await products.set_status(connection, [product_id], sent.text("status"), deed_of(shop_visit))

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: show(request, shop_visit, db, product_id, error),
        _back(shop_visit, product_id),
    )


async def show(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    product_id: UUID,
    refused: Refused | None = None,
    *,
    facts: Facts | None = None,
    typed: dict[UUID, tuple[Any, ...]] | None = None,
) -> Response[str]:
    """A product's page; with what was typed where it was refused."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        product = await products.get(connection, product_id)
        if product is None:
            raise NotFoundException
        found = await categories.all_of(connection)
        shippings = await products.shippings(connection)
    return merchant_page(
        request,
        "product.html",
        shop_visit,
        refused,
        product=product,
        facts=facts or product.facts,
        rows=[
            _row(one, (typed or {}).get(one.sku_id)) for one in product.skus if specs.fits(product.specs, one.options)
        ],
        english={value.value: value.value_en for one in product.specs for value in one.values},
        tree=categories.tree(found),
        shippings=shippings,
        statuses=product_record.STATUSES,
        most_options=skus.MOST_OPTIONS,
        most_pictures=MOST_OF_PRODUCT,
        most_megabytes=MOST_BYTES >> 20,
        most_characters=MOST_CHARACTERS,
        may_edit=shop_visit.may(Permission.EDIT_PRODUCTS),
    )


async def _new(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    facts: Facts,
    matrix: tuple[Spec, ...],
    typed: dict[str, str],
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await categories.all_of(connection)
        shippings = await products.shippings(connection)
    return merchant_page(
        request,
        "product_new.html",
        shop_visit,
        refused,
        product_id=new_id(),
        facts=facts,
        matrix=matrix,
        typed=typed,
        tree=categories.tree(found),
        shippings=shippings,
        most_options=skus.MOST_OPTIONS,
        most_characters=MOST_CHARACTERS,
    )


def _row(sku: product_record.Sku, typed: tuple[Any, ...] | None) -> dict[str, Any]:
    price, compare_at, weight, code, offered = typed or (
        plain_yuan(sku.price_fen),
        "" if sku.compare_at_fen is None else plain_yuan(sku.compare_at_fen),
        sku.weight_g,
        sku.code,
        sku.active,
    )
    return {
        "sku": sku,
        "price": price,
        "compare_at": compare_at,
        "weight": weight,
        "code": code,
        "offered": offered,
    }


def _back(shop_visit: ShopVisit, product_id: UUID, place: str = "") -> str:
    return f"{root(shop_visit)}/products/{product_id}?said=saved{'#' if place else ''}{place}"


def _facts(sent: Form) -> Facts:
    return Facts(
        title=sent.text("title", 1000),
        title_en=sent.text("title_en", 1000),
        subtitle=sent.text("subtitle", 1000),
        subtitle_en=sent.text("subtitle_en", 1000),
        description=sent.text("description", MOST_CHARACTERS + 1),
        description_en=sent.text("description_en", MOST_CHARACTERS + 1),
        external_code=sent.text("external_code"),
        position=sent.number("position"),
        shipping_id=optional_id(sent.text("shipping")),
        categories=tuple(ids(sent.texts("category"))),
    )


def _terms(sent: Form) -> Terms:
    return Terms(
        parse_yuan(sent.text("price")),
        optional_yuan(sent.text("compare_at")),
        whole(sent.text("weight"), "weight"),
    )


def _matrix(sent: Form, before: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """The options of a form: those without a name are left out, values without one too; more values a line each."""
    found: list[Spec] = []
    taken = [one.id for one in before]
    for n in range(skus.MOST_OPTIONS):
        name = sent.text(f"option{n}_name")
        if not name:
            continue
        option = optional_id(sent.text(f"option{n}_id")) or specs.option_id(name, [*taken, *(one.id for one in found)])
        values = _values(sent, n)
        known = [one.id for spec in before if spec.id == option for one in spec.values]
        for line in sent.text(f"option{n}_more", 20_000).splitlines():
            zh, _, en = line.partition("/")
            if zh.strip():
                # A value that was there once and went comes back; one that is there under another name stays apart.
                value_id = specs.value_id(option, zh.strip(), [*known, *(one.id for one in values)])
                values.append(SpecValue(value_id, zh.strip(), en.strip()))
        found.append(Spec(option, name, sent.text(f"option{n}_name_en"), tuple(values)))
    return tuple(found)


def _values(sent: Form, n: int) -> list[SpecValue]:
    sent_ids = ids(sent.texts(f"option{n}_value_id"))
    names = (sent.texts(f"option{n}_value"), sent.texts(f"option{n}_value_en"))
    return [
        SpecValue(value_id, zh.strip(), en.strip())
        for value_id, zh, en in zip(sent_ids, *names, strict=False)
        if zh.strip()
    ]


HANDLERS = [new_page, make, product_page, change, set_options, set_terms, set_status]
