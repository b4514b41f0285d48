"""A product as its merchant has it: everything about it, on sale or not."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall.audit import By
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec

Status = Literal["draft", "on_sale", "off_sale", "archived"]
STATUSES: tuple[Status, ...] = ("draft", "on_sale", "off_sale", "archived")
_LONGEST = {"title": 120, "title_en": 200, "subtitle": 200, "subtitle_en": 300, "external_code": 64}


class Deed(msgspec.Struct, frozen=True):
    """Who of the staff changes something, in which shop, when."""

    shop_id: UUID
    by: By
    now: datetime


class Facts(msgspec.Struct, frozen=True):
    """What is said about a product, in two languages; its place in the shop."""

    title: str
    title_en: str = ""
    subtitle: str = ""
    subtitle_en: str = ""
    description: str = ""
    """As it was written; sanitised on the way into the database."""
    description_en: str = ""
    external_code: str = ""
    """The merchant's own code of it; no two products of a shop have the same."""
    position: int = 0
    shipping_id: UUID | None = None
    categories: tuple[UUID, ...] = ()

    def checked(self) -> Facts:
        """Refused: no title, or something that is too long."""
        if not self.title:
            raise Refused("product.title", "The product has no name.", "Give it one.")
        for name, most in _LONGEST.items():
            if len(getattr(self, name)) > most:
                raise Refused(
                    "product.long", f"{name} has more than {most} characters.", "Shorten it.", name=name, most=most
                )
        if abs(self.position) > 10**9:
            raise Refused("product.position", "The place is no number of the list.", "Take a smaller one.")
        return self


class Terms(msgspec.Struct, frozen=True):
    """What a SKU costs and weighs. `compare_at_fen`: the crossed-out price, None for none."""

    price_fen: int
    compare_at_fen: int | None = None
    weight_g: int = 0
    code: str = ""


class Sku(msgspec.Struct, frozen=True):
    """A SKU with its stock."""

    sku_id: UUID
    code: str
    options: tuple[str, ...]
    price_fen: int
    compare_at_fen: int | None
    weight_g: int
    active: bool
    position: int
    on_hand: int
    reserved: int


class Product(msgspec.Struct, frozen=True):
    """All of it."""

    product_id: UUID
    status: Status
    facts: Facts
    specs: tuple[Spec, ...]
    pictures: tuple[str, ...]
    min_price_fen: int
    max_price_fen: int
    sold: int
    version: int
    created_at: datetime
    updated_at: datetime
    skus: tuple[Sku, ...]
    """Those of the matrix and those that are offered no longer."""

    @property
    def offered(self) -> tuple[Sku, ...]:
        """What can be bought of it, stock or not."""
        return tuple(one for one in self.skus if one.active)
