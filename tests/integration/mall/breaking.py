"""What a break-in needs: every route of the application, a value for each of its parameters, a body that it would take."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from ballast.mall.ids import new_id
from tests.fix_mall import MallDatabase, Shop

MARK = "victim7f3a"
"""Stands in every text of the shop that is broken into, and must be seen nowhere."""


@dataclass(frozen=True)
class Way:
    """A handler under one path and method."""

    method: str
    parts: tuple[str | PathParameterDefinition, ...]
    handler: HTTPRouteHandler

    @property
    def names(self) -> list[str]:
        """Of its path parameters."""
        return [part.name for part in self.parts if isinstance(part, PathParameterDefinition)]

    @property
    def ids(self) -> list[str]:
        """Those that name a thing: neither a shop's address nor a word."""
        return [name for name in self.names if name not in WORDS and not self._words(name)]

    def _words(self, name: str) -> tuple[str, ...]:
        field = self.handler.parsed_fn_signature.parameters.get(name)
        kind = field.annotation if field else None
        kind = getattr(kind, "__value__", kind)
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()

    @property
    def face(self) -> str:
        """The first part of its path."""
        return str(self.parts[0]) if self.parts and isinstance(self.parts[0], str) else ""

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method not in ("GET", "HEAD", "OPTIONS")

    @property
    def ends_a_session(self) -> bool:
        """After it nobody would be signed in, and the rest of a test would try nothing."""
        return "out" in re.split(r"\W|_|(?<=sign)|(?<=log)", str(self.parts[-1])) if self.parts else False

    @property
    def data(self) -> Any:
        """The type of its body; None where it has none, or reads a form itself."""
        field = self.handler.parsed_fn_signature.parameters.get("data")
        return field.annotation if field else None

    def paths(self, values: dict[str, Any]) -> list[str]:
        """Its path with these values, once for each word that a parameter takes. KeyError for a parameter that has no value:
        give it a row in `furnish`, or a line in `OTHERS`."""
        choices = [
            (self._words(part.name) or (str(values[part.name]),))
            if isinstance(part, PathParameterDefinition)
            else (part,)
            for part in self.parts
        ]
        return ["/" + "/".join(parts) for parts in product(*choices)]

    def __str__(self) -> str:
        shown = [part.full if isinstance(part, PathParameterDefinition) else part for part in self.parts]
        return f"{self.method} /" + "/".join(f"{{{one}}}" if ":" in one else one for one in shown)


def ways(app: Litestar) -> list[Way]:
    """Every route of every face."""
    found = []
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS":
                    found.append(Way(str(method), tuple(route.path_components), handler))
    return found


BLOCK = UUID("01a2b3c4-0000-7000-8000-00000000b10c")
WORDS = {"slug", "day", "kind", "turn"}
"""Path parameters that name no thing of a shop."""
# Parameters that are no column of a shop's table.
OTHERS: dict[str, Any] = {
    "block_id": BLOCK,
    "day": "2026-01-01",
    "kind": "text",
    "turn": "stop",
    "provider": "sandbox",
    "token": "x" * 43,
    "file_path": "../settings.py",
    "page": MARK,
    "hashed": "00" * 32,
    "deed": "suspend",
}


def values_of(database: MallDatabase, shop: Shop) -> dict[str, Any]:
    """A value of this shop for every column of its tables, by the column's name; keys are taken from the table they name."""
    found: dict[str, Any] = {**OTHERS, "shop": shop.shop_id}
    tables = database.run(
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'mall'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        " GROUP BY 1 HAVING 'shop_id' = ANY(array_agg(a.attname::text)) ORDER BY c.relname IN ('audit', 'account_link'), 1"
    )
    for table, columns in tables:
        rows = database.run(f"SELECT {', '.join(columns)} FROM mall.{table} WHERE shop_id = %s LIMIT 1", shop.shop_id)
        for column, value in zip(columns, rows[0], strict=True) if rows else []:
            if value is not None and (column not in found or column.removesuffix("_id") == table):
                found[column] = value
    return found | {name: OTHERS[name] for name in WORDS & OTHERS.keys()} | {"slug": shop.slug}


DRAFT = f'[{{"type": "text", "id": "{BLOCK}", "heading": "{MARK}", "text": "{MARK}"}}]'


def furnish(database: MallDatabase, shop: Shop, account_id: UUID) -> None:
    """A row in every table whose key somebody could name."""
    this = shop.shop_id
    database.run("UPDATE mall.shop SET name = %s, intro = %s WHERE shop_id = %s", MARK, MARK, this)
    product_id = shop.add_product(MARK, skus=2).product_id
    sku = shop.goods[-1].sku_ids[0]
    customer, order, payment, coupon, claim, event, hook, apart, card = (new_id() for _ in range(9))
    rows: list[tuple[str, dict[str, Any]]] = [
        ("staff", {"account_id": account_id, "role": "owner"}),
        ("category", {"category_id": new_id(), "name": MARK}),
        ("picture", {"picture": "ab" * 32, "media_type": "image/png", "width": 1, "height": 1, "size_bytes": 1}),
        ("page", {"page_id": new_id(), "slug": MARK, "title": MARK, "draft": DRAFT, "published": DRAFT}),
        ("customer", {"customer_id": customer, "name": MARK, "phone": "13500000000"}),
        ("visitor", {"visitor_id": new_id(), "token_hash": b"1" * 32, "customer_id": customer, "expires_at": "2040-01-01"}),
        ("address", {"address_id": new_id(), "customer_id": customer, "name": MARK, "phone": "1", "province": "x", "street": MARK}),
        ("reset_code", {"customer_id": customer, "code_hash": MARK, "expires_at": "2040-01-01"}),
        ("cart_line", {"owner_id": customer, "sku_id": sku, "quantity": 1}),
        ("coupon", {"coupon_id": coupon, "name": MARK, "kind": "fixed", "amount_fen": 1, "starts_at": "2020-01-01", "ends_at": "2040-01-01"}),
        ("coupon_claim", {"claim_id": claim, "coupon_id": coupon, "owner_id": customer}),
        ("full_reduction", {"promotion_id": new_id(), "name": MARK, "tiers": "[]", "starts_at": "2020-01-01", "ends_at": "2040-01-01"}),
        ("limited_price", {"promotion_id": new_id(), "sku_id": sku, "name": MARK, "price_fen": 1, "starts_at": "2020-01-01", "ends_at": "2040-01-01"}),
        ("orders", {"order_id": order, "number": f"{MARK}-1", "status": "paid", "customer_id": customer, "owner_id": customer, "buyer_name": MARK, "delivery": "pickup", "items_fen": 1000, "discount_fen": 0, "shipping_fen": 0, "total_fen": 1000, "paid_fen": 1000, "source": "web", "placed_at": "2026-01-01", "pay_by": "2026-01-02"}),
        ("order_line", {"order_id": order, "line": 1, "product_id": product_id, "sku_id": sku, "title": MARK, "list_fen": 1000, "price_fen": 1000, "quantity": 1, "total_fen": 1000}),
        ("payment", {"payment_id": payment, "order_id": order, "provider": "sandbox", "amount_fen": 1000, "status": "succeeded", "succeeded_at": "2026-01-01"}),
        ("gift_card", {"card_id": card, "code_hash": b"3" * 32, "last4": "7F3A", "initial_fen": 1000, "balance_fen": 1000, "note": MARK, "issued_by": MARK}),
        ("gift_card_movement", {"movement_id": new_id(), "card_id": card, "kind": "issued", "amount_fen": 1000, "actor": MARK, "reason": MARK}),
        ("shipment", {"shipment_id": new_id(), "order_id": order, "carrier": MARK, "lines": "[]"}),
        ("refund", {"refund_id": new_id(), "order_id": order, "payment_id": payment, "status": "requested", "with_return": False, "lines": '[{"line":1,"quantity":1,"amount_fen":1000}]', "amount_fen": 1000, "reason": MARK, "requested_by": "x"}),
        ("outbox", {"event_id": event, "kind": "order.paid", "body": "{}"}),
        ("webhook", {"webhook_id": hook, "url": f"https://example.com/{MARK}", "secret": MARK, "kinds": ["order.paid"]}),
        ("webhook_delivery", {"delivery_id": new_id(), "webhook_id": hook, "event_id": event, "status": "given_up"}),
        ("api_key", {"key_id": new_id(), "name": MARK, "secret_hash": b"2" * 32, "scopes": ["orders.read"]}),
        ("exception", {"exception_id": apart, "kind": "checkout", "order_id": apart, "owner_id": customer, "customer_id": customer, "reason": "stock.short", "kept_at": "2026-01-01"}),
        ("exception_deed", {"exception_id": apart, "number": 1, "key": MARK, "kind": "checkout", "payload": "{}", "at": "2026-01-01"}),
        ("audit", {"audit_id": new_id(), "actor": MARK, "action": "shop.opened"}),
    ]  # fmt: skip
    for table, row in rows:
        columns = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        database.run(f"INSERT INTO mall.{table} (shop_id, {columns}) VALUES (%s, {places})", this, *row.values())


def checksum(database: MallDatabase, shop: Shop) -> dict[str, str]:
    """What every table holds of a shop."""
    tables = database.run(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shop_id'"
        " WHERE c.relnamespace = 'mall'::regnamespace AND c.relkind = 'r'"
    )
    return {
        table: str(
            database.run(
                f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM mall.{table} t WHERE shop_id = %s",
                shop.shop_id,
            )[0][0]
        )
        for (table,) in tables
    }


def body_of(kind: Any, values: dict[str, Any]) -> Any:
    """The smallest body that fits, with the shop's ids where it wants ids."""
    schema = msgspec.json.schema(kind)
    return _fill(schema, schema.get("$defs", {}), "", values)


def _fill(schema: dict[str, Any], defs: dict[str, Any], name: str, values: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _fill(defs[schema["$ref"].rpartition("/")[2]], defs, name, values)
    if options := schema.get("anyOf"):
        return _fill(next(one for one in options if one.get("type") != "null"), defs, name, values)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            wanted = schema.get("required", []) or [one for one in schema.get("properties", {}) if one in values]
            return {one: _fill(schema["properties"][one], defs, one, values) for one in wanted}
        case "array":
            items = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
            return [_fill(items, defs, name, values)] * max(1, schema.get("minItems", 0))
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return False
        case "string" if schema.get("format") == "uuid":
            return str(values.get(name, new_id()))
        case "string" if "pattern" in schema:
            return str(values["picture"])  # the only names that have one
        case "string" if schema.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        case _:
            return (
                str(values[name])
                if name.endswith("_id") and name in values
                else "x" * max(1, schema.get("minLength", 1))
            )


def form_of(values: dict[str, Any]) -> dict[str, str]:
    """The fields that forms of ours have, with the shop's ids."""
    ids = {name: str(value) for name, value in values.items() if name.endswith("_id")}
    return {
        **ids,
        "sku": ids.get("sku_id", ""),
        "key": str(new_id()),
        "quantity": "1",
        "what": "all",
        "line": "1",
        "pieces-1": "1",
        "name": "x",
        "carrier": "x",
        "code": "x",
        "status": "draft",
        "reason": "x",
        "answer": "x",
        "act": "quote",
    }


def query_names(handler: HTTPRouteHandler) -> list[str]:
    """The query parameters of a handler: of its signature, and those that its module reads by name."""
    signature = handler.parsed_fn_signature.parameters
    own = [
        name for name in signature if name not in ("request", "data", "db", "settings", "call", "visit", "shop_visit")
    ]
    module = inspect.getmodule(handler.fn)
    source = inspect.getsource(module) if module else ""
    read = re.findall(r'query_params(?:\.get\(|\[)"(\w+)"', source)
    return sorted({*own, *read, "lang", "said"})
