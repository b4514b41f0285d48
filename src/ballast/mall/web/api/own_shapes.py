"""What a shop's own software says and hears, beside `shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from ballast.mall.product_record import Status as ProductStatus
from ballast.mall.richtext import MOST_CHARACTERS
from ballast.mall.rules.pictures import MOST_OF_PRODUCT
from ballast.mall.rules.skus import MOST_OPTIONS
from ballast.mall.web.api.shapes import Asked, CategoryInfo, OrderInfo, Shown, SpecInfo

_Price = Annotated[int, Meta(ge=0, le=100_000_000_000)]
_Reason = Annotated[str, Meta(max_length=200)]
_Title = Annotated[str, Meta(min_length=1, max_length=120)]
_TitleEnglish = Annotated[str, Meta(max_length=200)]
_Subtitle = Annotated[str, Meta(max_length=200)]
_SubtitleEnglish = Annotated[str, Meta(max_length=300)]
_Description = Annotated[str, Meta(max_length=MOST_CHARACTERS)]
_ExternalCode = Annotated[str, Meta(max_length=64)]
_Position = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]
_Categories = Annotated[tuple[UUID, ...], Meta(max_length=100)]
_Picture = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Pictures = Annotated[tuple[_Picture, ...], Meta(max_length=MOST_OF_PRODUCT)]
_SkuOptions = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=40)], ...], Meta(max_length=MOST_OPTIONS)]
_SkuCode = Annotated[str, Meta(max_length=64)]
_Weight = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_Stock = Annotated[int, Meta(ge=0, le=1_000_000_000)]


class KeyInfo(Shown, frozen=True):
    """What a key opens."""

    shop: str
    name: str
    scopes: list[str]
    standing: str


class OfferItem(Shown, frozen=True):
    """A product in a list, whatever its status."""

    product_id: UUID
    status: ProductStatus
    title: str
    title_en: str
    min_price_fen: int
    max_price_fen: int
    sold: int
    external_code: str | None
    created_at: datetime
    updated_at: datetime


class OfferPage(Shown, frozen=True):
    """A page of products, the newest first."""

    items: tuple[OfferItem, ...]
    next: str | None


class OfferedSkuInfo(Shown, frozen=True):
    """A SKU of one's own, with its stock in pieces."""

    sku_id: UUID
    code: str
    options: list[str]
    price_fen: int
    compare_at_fen: int | None
    weight_g: int
    active: bool
    on_hand: int
    reserved: int


class OfferInfo(OfferItem, frozen=True):
    """A product of one's own. `skus`: those of its options, then those that are offered no longer."""

    subtitle: str
    subtitle_en: str
    description: str
    description_en: str
    position: int
    shipping_id: UUID | None
    categories: list[UUID]
    pictures: list[str]
    options: tuple[SpecInfo, ...]
    skus: tuple[OfferedSkuInfo, ...]


class OptionValue(Asked, frozen=True):
    """One value that can be chosen."""

    value: Annotated[str, Meta(min_length=1, max_length=40)]
    value_en: Annotated[str, Meta(max_length=60)] = ""


class OptionRequest(Asked, frozen=True):
    """One thing to choose: a size, a colour."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    values: Annotated[tuple[OptionValue, ...], Meta(min_length=1, max_length=600)]
    name_en: Annotated[str, Meta(max_length=60)] = ""


_Options = Annotated[tuple[OptionRequest, ...], Meta(max_length=MOST_OPTIONS)]


class SkuRequest(Asked, frozen=True):
    """A SKU of a new product, named by a value of each option in their order; without options there is one, named by none."""

    price_fen: _Price
    options: _SkuOptions = ()
    compare_at_fen: _Price | None = None
    weight_g: _Weight = 0
    code: _SkuCode = ""
    stock: _Stock = 0
    active: bool = True


class SkuChange(Asked, frozen=True, omit_defaults=True):
    """What of a SKU is to be another, named by its options; what is left out stays. A SKU that comes with new options needs a
    price and may have a `stock`; the stock of one that is there is changed by itself."""

    options: _SkuOptions = ()
    price_fen: _Price | UnsetType = UNSET
    compare_at_fen: _Price | UnsetType | None = UNSET
    weight_g: _Weight | UnsetType = UNSET
    code: _SkuCode | UnsetType = UNSET
    stock: _Stock | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class ProductRequest(Asked, frozen=True):
    """A new product. Every combination of the options' values is a SKU; one that `skus` does not name is not offered.
    `pictures` are names that `POST …/pictures` gave; the first stands for the product in lists. `description` is HTML (what
    could run is taken out) or plain text."""

    title: _Title
    skus: Annotated[tuple[SkuRequest, ...], Meta(min_length=1, max_length=600)]
    options: _Options = ()
    title_en: _TitleEnglish = ""
    subtitle: _Subtitle = ""
    subtitle_en: _SubtitleEnglish = ""
    description: _Description = ""
    description_en: _Description = ""
    external_code: _ExternalCode = ""
    position: _Position = 0
    shipping_id: UUID | None = None
    categories: _Categories = ()
    pictures: _Pictures = ()
    status: Literal["draft", "on_sale", "off_sale"] = "draft"


class ProductChange(Asked, frozen=True, omit_defaults=True):
    """What is to be another; what is left out stays, what is given is given whole (`categories`, `pictures`, `options`). Options
    and values under the same names keep their SKUs; what has no combination any more is offered no longer, and nothing is
    deleted."""

    title: _Title | UnsetType = UNSET
    title_en: _TitleEnglish | UnsetType = UNSET
    subtitle: _Subtitle | UnsetType = UNSET
    subtitle_en: _SubtitleEnglish | UnsetType = UNSET
    description: _Description | UnsetType = UNSET
    description_en: _Description | UnsetType = UNSET
    external_code: _ExternalCode | UnsetType = UNSET
    position: _Position | UnsetType = UNSET
    shipping_id: UUID | UnsetType | None = UNSET
    categories: _Categories | UnsetType = UNSET
    pictures: _Pictures | UnsetType = UNSET
    options: _Options | UnsetType = UNSET
    skus: Annotated[tuple[SkuChange, ...], Meta(max_length=600)] = ()
    status: ProductStatus | UnsetType = UNSET


class PictureInfo(Shown, frozen=True):
    """A picture of the shop, as WebP. `picture` is the SHA-256 of what is kept, and its name."""

    picture: str
    url: str
    width: int
    height: int
    size_bytes: int


class PicturePage(Shown, frozen=True):
    """A page of pictures, the newest first."""

    items: tuple[PictureInfo, ...]
    next: str | None


class OwnCategoryInfo(CategoryInfo, frozen=True):
    """A category, shown to shoppers or not; `products`: how many are in it."""

    visible: bool
    products: int


class OwnCategoryList(Shown, frozen=True):
    """All categories, in the shop's order."""

    items: tuple[OwnCategoryInfo, ...]


class ShippingInfo(Shown, frozen=True):
    """A way of sending."""

    shipping_id: UUID
    name: str
    is_default: bool


class ShippingList(Shown, frozen=True):
    """The shop's default comes first."""

    items: tuple[ShippingInfo, ...]


class SkuPatch(Asked, frozen=True, omit_defaults=True):
    """What is to be another; what is left out stays. `compare_at_fen` null: no price is crossed out."""

    price_fen: _Price | UnsetType = UNSET
    compare_at_fen: _Price | UnsetType | None = UNSET
    weight_g: _Weight | UnsetType = UNSET
    code: _SkuCode | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class StockInfo(Shown, frozen=True):
    """Pieces of a SKU; `reserved` of them wait for the payment of an order, `free` can be bought."""

    sku_id: UUID
    on_hand: int
    reserved: int
    free: int


class StockCount(Asked, frozen=True):
    """So many were counted."""

    on_hand: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    reason: _Reason = ""


class StockChange(Asked, frozen=True):
    """So many pieces more, or (negative) fewer."""

    pieces: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
    reason: _Reason = ""


class MovementInfo(Shown, frozen=True):
    """By how much stock changed, and why."""

    movement_id: UUID
    sku_id: UUID
    kind: str
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    at: datetime


class MovementPage(Shown, frozen=True):
    """A page of movements, the newest first."""

    items: tuple[MovementInfo, ...]
    next: str | None


class OwnOrderInfo(OrderInfo, frozen=True):
    """An order as the shop's people see it."""

    customer_id: UUID | None
    merchant_note: str
    source: Literal["web", "api", "import", "intake"]


class ShippedLine(Asked, frozen=True):
    """Pieces of a line in a parcel."""

    line: Annotated[int, Meta(ge=1, le=1000)]
    quantity: Annotated[int, Meta(ge=1, le=999)]


class ShipmentRequest(Asked, frozen=True):
    """A parcel. Without `lines`: all that is still to be sent."""

    carrier: Annotated[str, Meta(min_length=1, max_length=60)]
    tracking: Annotated[str, Meta(max_length=80)] = ""
    lines: Annotated[tuple[ShippedLine, ...], Meta(min_length=1, max_length=100)] | None = None


class CancelRequest(Asked, frozen=True):
    """Why."""

    reason: Annotated[str, Meta(min_length=1, max_length=200)]


class NoteRequest(Asked, frozen=True):
    """What the shop's people write about it."""

    note: Annotated[str, Meta(max_length=2000)]


class RefundAnswer(Asked, frozen=True):
    """What the shopper is told."""

    answer: Annotated[str, Meta(max_length=500)] = ""


class RefundRefusal(Asked, frozen=True):
    """Why the shop does not agree."""

    answer: Annotated[str, Meta(min_length=1, max_length=500)]


class GoodsBack(Asked, frozen=True):
    """`restock`: they can be sold again."""

    restock: bool


class MemberInfo(Shown, frozen=True):
    """A customer. `level` is counted from 1; 0: none."""

    customer_id: UUID
    name: str
    phone: str | None
    email: str | None
    level: int
    points: int
    spent_fen: int
    external_code: str | None
    created_at: datetime


class MemberPage(Shown, frozen=True):
    """A page of customers, the newest first."""

    items: tuple[MemberInfo, ...]
    next: str | None
