"""A merchant's products: made, changed, offered in a matrix of SKUs, put on sale and off. What shoppers see is in `catalog`.

Every change holds the product's row first, raises its `version`, and leaves a line in the shop's record. A form carries the
version that it showed: who has seen an older one is told so, and overwrites nothing. Nothing is deleted: an archived product
is in nobody's way, and the orders that name it stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from psycopg import errors

from ballast.mall import audit, queries, richtext, stock
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.product_record import STATUSES, Deed, Facts, Product, Sku, Terms
from ballast.mall.rules import bigrams, repricing, specs
from ballast.mall.rules.pictures import MOST_OF_PRODUCT
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec

_SQL = queries.load("products")


async def get(connection: Connection, product_id: UUID) -> Product | None:
    """A product, whatever its status; None: the shop has none of that id."""
    return (await of_ids(connection, [product_id])).get(product_id)


async def of_ids(connection: Connection, products: Sequence[UUID]) -> dict[UUID, Product]:
    """Products by their ids; those that the shop does not have are missing."""
    rows = await (await connection.execute(_SQL.get, {"products": list(products)})).fetchall()
    skus: dict[UUID, list[Sku]] = {}
    for row in await (await connection.execute(_SQL.skus, {"products": list(products)})).fetchall():
        skus.setdefault(row["product_id"], []).append(msgspec.convert(row, Sku))
    return {
        row["product_id"]: Product(
            facts=msgspec.convert(row, Facts),
            specs=specs.read(row["specs"]),
            skus=tuple(skus.get(row["product_id"], ())),
            pictures=tuple(row["pictures"]),
            **{
                name: row[name]
                for name in (
                    "product_id",
                    "status",
                    "min_price_fen",
                    "max_price_fen",
                    "sold",
                    "version",
                    "created_at",
                    "updated_at",
                )
            },
        )
        for row in rows
    }


async def make(
    connection: Connection,
    product_id: UUID,
    facts: Facts,
    matrix: Sequence[Spec],
    terms: Sequence[Terms] | Terms,
    deed: Deed,
    *,
    pieces: Sequence[int] | int = 0,
) -> bool:
    """A new product, a draft, with all SKUs of its matrix.

    Args:
        product_id: made by the form, so that sending it twice makes one product.
        terms: of each SKU in the order of `specs.texts`, or of all of them.
        pieces: on hand, likewise.

    Returns:
        False: it was there already, and nothing was done.

    Raises:
        Refused: `product.full` (the plan), `product.code_taken`, what `Facts.checked` and `specs.check` refuse.
    """
    facts.checked()
    specs.check(matrix)
    await one_at_a_time(connection)
    if await _is_there(connection, product_id):
        return False
    await _room(connection, 1)
    values = {**_values(facts), "product_id": product_id, "specs": specs.written(matrix), "now": deed.now}
    try:
        row = await (await connection.execute(_SQL.make, values)).fetchone()
    except errors.UniqueViolation:
        raise _code_taken(facts) from None
    if row is None:
        return False
    await _set_categories(connection, product_id, facts)
    texts = specs.texts(matrix)
    each = [terms] * len(texts) if isinstance(terms, Terms) else list(terms)
    count = [pieces] * len(texts) if isinstance(pieces, int) else list(pieces)
    await _add_skus(connection, product_id, [(text, n) for n, text in enumerate(texts)], each, count, deed)
    await _refresh(connection, [product_id], deed)
    await note(connection, deed, "product.made", product_id, title=facts.title, skus=len(texts))
    return True


async def change(connection: Connection, product_id: UUID, version: int | None, facts: Facts, deed: Deed) -> None:
    """Say something else about a product. Refused: `product.unknown`, `product.changed`, as `make`."""
    facts.checked()
    await hold(connection, product_id, version)
    try:
        await connection.execute(_SQL.change, {**_values(facts), "product_id": product_id, "now": deed.now})
    except errors.UniqueViolation:
        raise _code_taken(facts) from None
    await _set_categories(connection, product_id, facts)
    await note(connection, deed, "product.changed", product_id, title=facts.title)


async def set_options(
    connection: Connection, product_id: UUID, version: int | None, matrix: Sequence[Spec], terms: Terms, deed: Deed
) -> None:
    """Other options: SKUs stay with their values, new combinations get `terms` and no stock, what has no combination is
    offered no longer. Nothing is deleted, and no stock changes."""
    specs.check(matrix)
    await hold(connection, product_id, version)
    product = await get(connection, product_id)
    assert product is not None
    had = [specs.Had(one.sku_id, one.options, one.active) for one in product.skus]
    arranged = specs.arrange(product.specs, matrix, had)
    await _arrange(connection, product, arranged)
    await connection.execute(_SQL.set_specs, {"product_id": product_id, "specs": specs.written(matrix)})
    await _add_skus(connection, product_id, arranged.added, [terms] * len(arranged.added), [], deed)
    await _refresh(connection, [product_id], deed)
    await note(
        connection, deed, "product.options", product_id, added=len(arranged.added), retired=len(arranged.retired)
    )


async def set_terms(
    connection: Connection,
    product_id: UUID,
    version: int | None,
    terms: Mapping[UUID, Terms],
    offered: frozenset[UUID],
    deed: Deed,
) -> None:
    """Prices, weights and codes of SKUs, and which of those are offered. An id that is no SKU of the product changes nothing."""
    for one in terms.values():
        _checked(one)
    await hold(connection, product_id, version)
    await connection.execute(
        _SQL.set_terms,
        {
            "product_id": product_id,
            "skus": list(terms),
            "codes": [one.code for one in terms.values()],
            "prices": [one.price_fen for one in terms.values()],
            "compare_at": [one.compare_at_fen for one in terms.values()],
            "weights": [one.weight_g for one in terms.values()],
            "active": [sku_id in offered for sku_id in terms],
        },
    )
    await _refresh(connection, [product_id], deed)
    await note(connection, deed, "product.terms", product_id, skus=len(terms))


async def set_pictures(
    connection: Connection, product_id: UUID, version: int | None, pictures: Sequence[str], deed: Deed
) -> None:
    """The product's pictures in this order; the first stands for it in lists. Refused: too many, or one that the shop has not."""
    wanted = list(dict.fromkeys(pictures))
    if len(wanted) > MOST_OF_PRODUCT:
        raise Refused(
            "product.pictures",
            f"A product has {MOST_OF_PRODUCT} pictures at most.",
            "Take some out.",
            most=MOST_OF_PRODUCT,
        )
    await hold(connection, product_id, version)
    found = await connection.execute(queries.load("pictures").known, {"pictures": wanted})
    known = {row["picture"] for row in await found.fetchall()}
    if not known.issuperset(wanted):
        raise Refused("picture.unknown", "The shop has no such picture.", "Send it first.")
    await connection.execute(_SQL.set_pictures, {"product_id": product_id, "pictures": wanted, "now": deed.now})
    await note(connection, deed, "product.pictures", product_id, pictures=len(wanted))


async def set_status(connection: Connection, products: Sequence[UUID], status: str, deed: Deed) -> int:
    """Put products on sale, off sale or away. How many stood elsewhere before.

    Raises:
        Refused: `product.nothing_offered` (one has no SKU to buy), `product.full` (out of the archive, and the plan is full).
    """
    if status not in STATUSES:
        raise Refused("product.status", f"There is no status {status!r}.", f"Known are: {', '.join(STATUSES)}.")
    if status != "archived":
        await one_at_a_time(connection)
    chosen = {"products": list(products)}
    await connection.execute(_SQL.hold, chosen)
    if status == "on_sale":
        empty = await (await connection.execute(_SQL.nothing_offered, chosen)).fetchone()
        if empty:
            raise Refused(
                "product.nothing_offered",
                f"{empty['title']!r} has no SKU that is offered.",
                "Offer one of its SKUs first.",
                title=empty["title"],
            )
    if status != "archived":
        row = await (await connection.execute(_SQL.archived, chosen)).fetchone()
        await _room(connection, int(row["products"]) if row else 0)
    rows = await (await connection.execute(_SQL.set_status, {**chosen, "status": status, "now": deed.now})).fetchall()
    for row in rows:
        await note(connection, deed, f"product.{_SAYS[status]}", row["product_id"])
    return len(rows)


async def one_at_a_time(connection: Connection) -> None:
    """Nobody else adds a product to the shop until this transaction ends. Comes before any product is held."""
    await connection.execute(_SQL.one_at_a_time)


async def hold(connection: Connection, product_id: UUID, version: int | None) -> None:
    """Nobody else changes the product until this transaction ends. Refused where it is not the shop's, or has changed since
    `version`; None takes it as it is."""
    row = await (await connection.execute(_SQL.hold, {"products": [product_id]})).fetchone()
    if row is None:
        raise unknown()
    if version is not None and row["version"] != version:
        raise Refused(
            "product.meanwhile",
            "The product was changed meanwhile.",
            "Look at it as it is now, and change it again.",
        )


async def note(connection: Connection, deed: Deed, action: str, subject: object, **detail: str | int | None) -> None:
    """A line in the shop's record."""
    await audit.note_in_shop(
        connection, deed.by, action, deed.now, shop_id=deed.shop_id, subject=str(subject), **detail
    )


class Shipping(msgspec.Struct, frozen=True):
    """A way of sending."""

    shipping_id: UUID
    name: str
    is_default: bool


async def shippings(connection: Connection) -> tuple[Shipping, ...]:
    """The ways of sending that a product can have, the shop's own default first."""
    return tuple(Shipping(**row) for row in await (await connection.execute(_SQL.shippings)).fetchall())


async def refresh(connection: Connection, products: Sequence[UUID], deed: Deed) -> None:
    """After prices of SKUs changed: what lists show of their products."""
    await _refresh(connection, products, deed)


def unknown() -> Refused:
    """There is no such product in this shop."""
    return Refused("product.unknown", "The shop has no such product.", "Look at the list of its products.")


_SAYS: dict[str, str] = {"on_sale": "on_sale", "off_sale": "off_sale", "draft": "drafted", "archived": "archived"}


async def _is_there(connection: Connection, product_id: UUID) -> bool:
    return await (await connection.execute(_SQL.hold, {"products": [product_id]})).fetchone() is not None


async def _room(connection: Connection, more: int) -> None:
    if not more:
        return
    row = await (await connection.execute(_SQL.room)).fetchone()
    most = row["max_products"] if row else 0
    if row is None or row["products"] + more > most:
        raise Refused(
            "product.full",
            f"The shop's plan allows {most} products.",
            "Archive some, or take a larger plan.",
            most=most,
        )


async def _set_categories(connection: Connection, product_id: UUID, facts: Facts) -> None:
    await connection.execute(_SQL.set_categories, {"product_id": product_id, "categories": list(facts.categories)})


async def _add_skus(
    connection: Connection,
    product_id: UUID,
    texts: Sequence[tuple[tuple[str, ...], int]],
    terms: Sequence[Terms],
    pieces: Sequence[int],
    deed: Deed,
) -> None:
    if not texts:
        return
    for one in terms:
        _checked(one)
    ids = [new_id() for _ in texts]
    await connection.execute(
        _SQL.add_skus,
        {
            "product_id": product_id,
            "skus": ids,
            "codes": [one.code for one in terms],
            "options": [msgspec.json.encode(text).decode() for text, _ in texts],
            "prices": [one.price_fen for one in terms],
            "compare_at": [one.compare_at_fen for one in terms],
            "weights": [one.weight_g for one in terms],
            "positions": [position for _, position in texts],
        },
    )
    first = {sku_id: count for sku_id, count in zip(ids, pieces, strict=False) if count}
    await stock.receive(connection, first, actor=deed.by.login, now=deed.now, reason="")


async def _arrange(connection: Connection, product: Product, arranged: specs.Arranged) -> None:
    was = {one.sku_id: one for one in product.skus}
    rows = {one.sku_id: (one.options, one.position, one.active) for one in arranged.stays}
    for sku_id in (*arranged.retired, *arranged.aside):
        rows[sku_id] = (arranged.aside.get(sku_id, was[sku_id].options), was[sku_id].position, False)
    renamed = [sku_id for sku_id, (options, _, _) in rows.items() if options != was[sku_id].options]
    await connection.execute(_SQL.unname, {"product_id": product.product_id, "skus": renamed})
    await connection.execute(
        _SQL.arrange,
        {
            "product_id": product.product_id,
            "skus": list(rows),
            "options": [msgspec.json.encode(options).decode() for options, _, _ in rows.values()],
            "positions": [position for _, position, _ in rows.values()],
            "active": [active for _, _, active in rows.values()],
        },
    )


async def _refresh(connection: Connection, products: Sequence[UUID], deed: Deed) -> None:
    await connection.execute(_SQL.refresh, {"products": list(products), "now": deed.now})


def _values(facts: Facts) -> dict[str, object]:
    description, description_en = richtext.clean(facts.description), richtext.clean(facts.description_en)
    return {
        **{
            name: getattr(facts, name)
            for name in ("title", "title_en", "subtitle", "subtitle_en", "external_code", "position", "shipping_id")
        },
        "description": description,
        "description_en": description_en,
        "search": search_text(facts, description, description_en),
    }


def search_text(facts: Facts, description: str, description_en: str) -> str:
    """By which words shoppers find it: the text of a tsvector."""
    return bigrams.document(
        (facts.title, "A"),
        (facts.title_en, "A"),
        (facts.subtitle, "B"),
        (facts.subtitle_en, "B"),
        (richtext.plain(description), "D"),
        (richtext.plain(description_en), "D"),
    )


def _checked(terms: Terms) -> None:
    repricing.checked(terms.price_fen)
    if terms.compare_at_fen is not None and not terms.price_fen < terms.compare_at_fen <= repricing.MOST_PRICE_FEN:
        raise Refused(
            "sku.compare_at",
            f"The crossed-out price of {terms.compare_at_fen} fen is not above the price of {terms.price_fen} fen.",
            "Leave it empty, or raise it.",
        )
    if not 0 <= terms.weight_g <= 10**9 or len(terms.code) > 64:
        raise Refused(
            "sku.terms", "A weight is 0 g or more, and a code has 64 characters at most.", "Correct the SKU's line."
        )


def _code_taken(facts: Facts) -> Refused:
    return Refused(
        "product.code_taken",
        f"Another product has the code {facts.external_code!r}.",
        "Take another code.",
        code=facts.external_code,
    )
