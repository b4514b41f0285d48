"""A decorated page as data: a list of blocks, as the editor sends it, the database keeps it and the storefront shows it.

Text is text: never markup. Links lead to http(s) or into the shop; whatever else a browser would follow (`javascript:`,
`//elsewhere`, `/\\elsewhere`) is refused when the page is read, so that no template needs to know of it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Meta

from ballast.mall.rules.refused import Refused

MOST_BYTES = 256 * 1024
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\<>\"'`\s]")

Url = Annotated[str, Meta(max_length=500)]
Title = Annotated[str, Meta(max_length=60)]
Alt = Annotated[str, Meta(max_length=120)]
Columns = Annotated[int, Meta(ge=1, le=5)]


class Block(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True):
    """What every block has: a `type`, and `id`, by which the editor knows it when it is moved."""

    id: UUID


class Slide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture that may lead somewhere; `alt` says what is on it to who does not see it."""

    picture: Url
    alt: Alt = ""
    link: Url = ""

    def __post_init__(self) -> None:
        _check_url("picture", self.picture)
        _check_url("link", self.link, may_be_empty=True)


class Cell(Slide, frozen=True, forbid_unknown_fields=True):
    """A field of a grid."""

    label: Title = ""


class Banner(Block, frozen=True, tag="banner", forbid_unknown_fields=True):
    """Pictures in turn, full width. `seconds` each; 0: only by hand."""

    slides: Annotated[tuple[Slide, ...], Meta(min_length=1, max_length=10)]
    seconds: Annotated[int, Meta(ge=0, le=30)] = 5


class Grid(Block, frozen=True, tag="grid", forbid_unknown_fields=True):
    """Small pictures with labels: ways into the shop."""

    cells: Annotated[tuple[Cell, ...], Meta(min_length=1, max_length=20)]
    columns: Columns = 4


class ProductList(Block, frozen=True, tag="product_list", forbid_unknown_fields=True):
    """Products: chosen ones, of a category, the newest or those that sell best."""

    source: Literal["chosen", "category", "newest", "bestselling"]
    product_ids: Annotated[tuple[UUID, ...], Meta(max_length=50)] = ()
    category_id: UUID | None = None
    title: Title = ""
    columns: Columns = 2
    most: Annotated[int, Meta(ge=1, le=50)] = 10

    def __post_init__(self) -> None:
        if (self.source == "chosen") != bool(self.product_ids):
            raise ValueError("a product list names products if, and only if, its source is chosen")
        if (self.source == "category") != (self.category_id is not None):
            raise ValueError("a product list names a category if, and only if, its source is category")


class Text(Block, frozen=True, tag="text", forbid_unknown_fields=True):
    """Paragraphs, parted by empty lines, under a heading."""

    text: Annotated[str, Meta(min_length=1, max_length=5_000)]
    heading: Title = ""
    align: Literal["start", "center", "end"] = "start"


class Picture(Block, frozen=True, tag="picture", forbid_unknown_fields=True):
    """One picture, full width."""

    slide: Slide


class VideoLink(Block, frozen=True, tag="video_link", forbid_unknown_fields=True):
    """A picture that leads to a video elsewhere."""

    url: Url
    poster: Url = ""
    title: Title = ""

    def __post_init__(self) -> None:
        _check_url("url", self.url, relative=False)
        _check_url("poster", self.poster, may_be_empty=True)


class Notice(Block, frozen=True, tag="notice", forbid_unknown_fields=True):
    """One line that is to be seen."""

    text: Annotated[str, Meta(min_length=1, max_length=200)]
    link: Url = ""

    def __post_init__(self) -> None:
        _check_url("link", self.link, may_be_empty=True)


AnyBlock = Banner | Grid | ProductList | Text | Picture | VideoLink | Notice


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page's blocks from top to bottom."""

    blocks: Annotated[tuple[AnyBlock, ...], Meta(max_length=60)] = ()

    def __post_init__(self) -> None:
        if len({block.id for block in self.blocks}) < len(self.blocks):
            raise ValueError("two blocks have one id")


_DECODER = msgspec.json.Decoder(Page)


def page_from_json(written: bytes | str) -> Page:
    """The page that is written there. Refused, with what is wrong and where, if it is none."""
    try:
        raw = written.encode() if isinstance(written, str) else written
        if len(raw) > MOST_BYTES:
            raise Refused(
                "page.too_large",
                f"The page takes {len(raw)} bytes.",
                f"At most {MOST_BYTES} are possible.",
                most=MOST_BYTES,
            )
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeError) as failure:
        raise Refused(
            "page.invalid", f"The page cannot be shown: {failure}.", "Correct that block.", detail=str(failure)
        ) from None


def page_to_json(page: Page) -> bytes:
    """As `page_from_json` reads it."""
    return msgspec.json.encode(page)


def is_safe_url(url: str, *, relative: bool = True) -> bool:
    """Whether it leads to http(s) or, where `relative`, to a path of this site."""
    if _UNSAFE.search(url):
        return False
    if url.startswith("/"):
        return relative and not url.startswith("//")
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def _check_url(field: str, url: str, *, relative: bool = True, may_be_empty: bool = False) -> None:
    if (url or not may_be_empty) and not is_safe_url(url, relative=relative):
        raise ValueError(f"{field} must lead to http(s){' or begin with one /' if relative else ''}")
