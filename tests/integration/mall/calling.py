"""Callers of the API in the tests' words: a shopper's program, and a shop's own software."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

from ballast.mall import keys
from ballast.mall.audit import By
from ballast.mall.keys import SCOPES
from tests.fix_mall import Shop
from tests.integration.mall.ordering import in_shop

ADDRESS = {
    "name": "Lin",
    "phone": "13800000000",
    "province": "广东省",
    "city": "深圳市",
    "district": "南山区",
    "street": "1 Road",
}


@dataclass
class Caller:
    """A program with a token or a key."""

    client: httpx.Client
    root: str
    token: str = ""

    def call(
        self, method: str, path: str, body: object = None, *, status: int = 200, key: str = "", **headers: str
    ) -> Any:
        """What it is answered, as JSON."""
        return self.ask(method, path, body, status=status, key=key, **headers).json()

    def ask(
        self, method: str, path: str, body: object = None, *, status: int = 200, key: str = "", **headers: str
    ) -> httpx.Response:
        """The answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Accept-Language"] = "en"
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if key:
            sent["Idempotency-Key"] = key
        url = path if path.startswith("/api/") else self.root + path
        answer = self.client.request(method, url, json=body, headers=sent)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text[:600])
        return answer

    def order(self, sku: UUID, quantity: int = 1, *, key: str = "", status: int = 201, **changes: Any) -> Any:
        """An order at the price that a quote gives."""
        lines = [{"sku_id": str(sku), "quantity": quantity}]
        quoted = self.call("POST", "/quotes", {"lines": lines, "address": ADDRESS})
        body = {"lines": lines, "address": ADDRESS, "agreed_fen": quoted["total_fen"], **changes}
        return self.call("POST", "/orders", body, status=status, key=key or str(uuid4()))


def shopper_of(client: httpx.Client, shop: Shop) -> Caller:
    """A guest's program."""
    caller = Caller(client, f"/api/v1/shops/{shop.slug}")
    caller.token = caller.call("POST", "/visitors", status=201)["token"]
    return caller


def software_of(client: httpx.Client, shop: Shop, scopes: Collection[str] = SCOPES) -> Caller:
    """A shop's own software, with a key."""
    return Caller(client, "/api/v1/merchant", key_of(shop, scopes))


def key_of(
    shop: Shop, scopes: Collection[str] = SCOPES, *, days: int | None = None, now: datetime | None = None
) -> str:
    """A new key of a shop."""
    at = now or datetime.now(UTC)
    return in_shop(
        shop,
        lambda connection: keys.make(
            connection, shop.shop_id, name="till", scopes=scopes, days=days, by=By(None, "owner"), now=at
        ),
    )
