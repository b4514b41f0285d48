"""For a shop's own software: its products, made and changed, with what they are sorted into and how they are sent."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET

from ballast.mall import categories, idempotency, offers, product_wanted, products
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.product_record import Deed, Facts, Product, Status
from ballast.mall.product_wanted import Wanted, WantedOption, WantedSku
from ballast.mall.web.api.answers import cursor_of, cut, etag, if_match, needs_match, next_link, read_cursor
from ballast.mall.web.api.calls import Cursor, Key, KeyCall, Limit
from ballast.mall.web.api.own_shapes import (
    OfferedSkuInfo,
    OfferInfo,
    OfferItem,
    OfferPage,
    OptionRequest,
    OwnCategoryInfo,
    OwnCategoryList,
    ProductChange,
    ProductRequest,
    ShippingInfo,
    ShippingList,
    SkuChange,
    SkuPatch,
    SkuRequest,
)
from ballast.mall.web.api.shapes import SpecInfo, shaped


@get("/products", opt={"scope": "products.read"})
async def list_own_products(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    status: Annotated[Status | None, QueryParameter(description="Only these.")] = None,
    cursor: Cursor = None,
    limit: Limit = 20,
) -> OfferPage:
    """All products, the newest first."""
    place = read_cursor(cursor, tuple[UUID])
    async with db.shop(call.holder.shop_id) as connection:
        found = await offers.listed(connection, status=status, before=place[0] if place else None, most=limit + 1)
    page, last = cut(found, limit)
    cursor = cursor_of(last.product_id) if last else None
    return OfferPage(tuple(shaped(one, OfferItem) for one in page), next_link(request, cursor))


@post("/products", opt={"scope": "products.write"})
async def create_product(
    call: NamedDependency[KeyCall], db: NamedDependency[Database], data: JSONBody[ProductRequest], key: Key
) -> Response[OfferInfo]:
    """A new product with its SKUs, whole or not at all. A key that is to bring stock along must be good for stock, too."""
    _may_stock(call, data.skus)
    async with db.shop(call.holder.shop_id) as connection:

        async def make() -> OfferInfo:
            wanted = Wanted(
                options=_options(data.options),
                skus=tuple(_sku(one) for one in data.skus),
                pictures=data.pictures,
                status=UNSET if data.status == "draft" else data.status,
            )
            facts = msgspec.convert(_facts_in(data), Facts)
            return _shown(await product_wanted.make(connection, new_id(), facts, wanted, _deed(call)))

        made = await idempotency.once(connection, call.holder.actor, key, ("product", data), OfferInfo, make, call.now)
        now = await products.get(connection, made.product_id)
    headers = {"Location": f"/api/v1/merchant/products/{made.product_id}"}
    if now is not None and _shown(now) == made:
        headers["ETag"] = etag(now.version)
    return Response(made, headers=headers)


@get("/products/{product_id:uuid}", opt={"scope": "products.read"})
async def get_own_product(
    product_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database]
) -> Response[OfferInfo]:
    """A product with its SKUs and their stock."""
    async with db.shop(call.holder.shop_id) as connection:
        found = await products.get(connection, product_id)
    if found is None:
        raise products.unknown()
    return _offer(found)


@patch("/products/{product_id:uuid}", opt={"scope": "products.write"})
async def change_product(
    request: Request[Any, Any, Any],
    product_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[ProductChange],
) -> Response[OfferInfo]:
    """Its texts, categories, pictures, options, SKUs; put it on sale, take it off, put it away. Needs If-Match: the ETag that was
    read, or ``*``."""
    needs_match(request)
    _may_stock(call, data.skus)
    async with db.shop(call.holder.shop_id) as connection:
        if data.status not in (UNSET, "archived"):
            await products.one_at_a_time(connection)
        was = await _held(request, connection, product_id)
        given = _facts_in(data)
        wanted = Wanted(
            facts=msgspec.structs.replace(was.facts, **given) if given else UNSET,
            options=UNSET if data.options is UNSET else _options(data.options),
            skus=tuple(_sku(one) for one in data.skus),
            pictures=data.pictures,
            status=data.status,
        )
        changed = await product_wanted.change(connection, product_id, wanted, _deed(call))
    return _offer(changed)


@patch("/products/{product_id:uuid}/skus/{sku_id:uuid}", opt={"scope": "products.write"})
async def change_sku(
    request: Request[Any, Any, Any],
    product_id: FromPath[UUID],
    sku_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[SkuPatch],
) -> Response[OfferInfo]:
    """Another price, weight, code or offer of a SKU. Needs If-Match: the ETag that was read, or ``*``."""
    needs_match(request)
    async with db.shop(call.holder.shop_id) as connection:
        await _held(request, connection, product_id)
        changed = await product_wanted.change_sku(connection, product_id, sku_id, _sku(data), _deed(call))
    return _offer(changed)


@get("/categories", opt={"scope": "products.read"})
async def list_own_categories(call: NamedDependency[KeyCall], db: NamedDependency[Database]) -> OwnCategoryList:
    """All categories, also those that shoppers do not see."""
    async with db.shop(call.holder.shop_id) as connection:
        found = await categories.all_of(connection)
    return OwnCategoryList(tuple(shaped(one, OwnCategoryInfo) for one in found))


@get("/shippings", opt={"scope": "products.read"})
async def list_shippings(call: NamedDependency[KeyCall], db: NamedDependency[Database]) -> ShippingList:
    """The ways of sending that a product can have; without one it is sent as the shop does by default."""
    async with db.shop(call.holder.shop_id) as connection:
        found = await products.shippings(connection)
    return ShippingList(tuple(shaped(one, ShippingInfo) for one in found))


async def _held(request: Request[Any, Any, Any], connection: Connection, product_id: UUID) -> Product:
    """The product, which nobody else changes until the transaction ends, in the version that the caller has read."""
    await products.hold(connection, product_id, None)
    was = await products.get(connection, product_id)
    if was is None:
        raise products.unknown()
    if_match(request, etag(was.version))
    return was


def _facts_in(data: ProductRequest | ProductChange) -> dict[str, Any]:
    """What of a product's facts the body gives, without the blanks around it."""
    found = {name: getattr(data, name) for name in Facts.__struct_fields__}
    return {
        name: value.strip() if isinstance(value, str) else value for name, value in found.items() if value is not UNSET
    }


def _options(asked: tuple[OptionRequest, ...]) -> tuple[WantedOption, ...]:
    return tuple(shaped(one, WantedOption) for one in asked)


def _sku(asked: SkuRequest | SkuChange | SkuPatch) -> WantedSku:
    return WantedSku(**msgspec.structs.asdict(asked))


def _may_stock(call: KeyCall, skus: tuple[SkuRequest, ...] | tuple[SkuChange, ...]) -> None:
    if any(one.stock for one in skus if one.stock is not UNSET) and not call.holder.may("stock.write"):
        raise PermissionDeniedException


def _deed(call: KeyCall) -> Deed:
    return Deed(call.holder.shop_id, call.holder.by(call.address), call.now)


def _offer(found: Product) -> Response[OfferInfo]:
    return Response(_shown(found), headers={"ETag": etag(found.version)})


def _shown(found: Product) -> OfferInfo:
    facts = msgspec.structs.asdict(found.facts)
    said = {name: getattr(found, name) for name in OfferInfo.__struct_fields__ if hasattr(found, name)}
    skus = tuple(shaped(one, OfferedSkuInfo) for one in found.skus)
    options = tuple(shaped(one, SpecInfo) for one in found.specs)
    code = found.facts.external_code or None
    return msgspec.convert({**said, **facts, "external_code": code, "skus": skus, "options": options}, OfferInfo)


HANDLERS = [
    list_own_products,
    create_product,
    get_own_product,
    change_product,
    change_sku,
    list_own_categories,
    list_shippings,
]
