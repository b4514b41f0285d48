"""A block of a page as a form, and back: what was typed becomes a block that `rules.blocks` accepts, or is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from ballast.mall.rules import blocks
from ballast.mall.rules.blocks import AnyBlock
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import Form
from ballast.mall.web.merchant.typed import ids, whole

KINDS: dict[str, type[AnyBlock]] = {
    "banner": blocks.Banner,
    "grid": blocks.Grid,
    "product_list": blocks.ProductList,
    "text": blocks.Text,
    "picture": blocks.Picture,
    "video_link": blocks.VideoLink,
    "notice": blocks.Notice,
}
MOST_ROWS = {"banner": 10, "grid": 20}
_BLANK_ROWS = 3


def kind_of(block: AnyBlock) -> str:
    """Its `type`."""
    return next(name for name, made in KINDS.items() if isinstance(block, made))


def empty(kind: str) -> dict[str, object]:
    """What the form of a new block shows."""
    return {"columns": 4 if kind == "grid" else 2, "seconds": 5, "most": 10, "source": "newest", "align": "start"}


def typed(block: AnyBlock) -> dict[str, object]:
    """What the form of this block shows."""
    match block:
        case blocks.Banner(slides=slides, seconds=seconds):
            return {"seconds": seconds, **_rows(slides)}
        case blocks.Grid(cells=cells, columns=columns):
            labels = {f"label-{n}": cell.label for n, cell in enumerate(cells)}
            return {"columns": columns, **_rows(cells), **labels}
        case blocks.ProductList():
            return {
                "source": block.source,
                "product": list(block.product_ids),
                "category": block.category_id,
                "title": block.title,
                "columns": block.columns,
                "most": block.most,
            }
        case blocks.Text():
            return {"heading": block.heading, "text": block.text, "align": block.align}
        case blocks.Picture(slide=slide):
            return _rows((slide,))
        case blocks.VideoLink():
            return {"url": block.url, "picture-0": block.poster, "title": block.title}
        case blocks.Notice():
            return {"text": block.text, "link": block.link}


def rows(kind: str, sent: Form, more: bool = False) -> range:
    """Which rows of pictures the form shows: those that are filled, and some blank ones."""
    most = MOST_ROWS.get(kind, 1)
    filled = [n for n in range(most) if sent.text(f"picture-{n}", 500)]
    shown = sent.number("rows") if sent.text("rows").isdecimal() else 0
    wanted = max(len(filled) and filled[-1] + 1, shown) + (_BLANK_ROWS if more or not shown else 0)
    return range(min(most, wanted))


def block_of(kind: str, block_id: UUID, sent: Form) -> AnyBlock:
    """The block that was typed. Refused (`page.invalid`) where it is none."""
    try:
        return msgspec.convert({"type": kind, "id": str(block_id), **_fields(kind, sent)}, KINDS[kind])
    except msgspec.ValidationError as failure:
        raise Refused(
            "page.invalid", f"The block cannot be shown: {failure}.", "Correct it.", detail=str(failure)
        ) from None


def _fields(kind: str, sent: Form) -> dict[str, Any]:
    match kind:
        case "banner":
            return {"slides": _slides(sent, MOST_ROWS[kind]), "seconds": whole(sent, "seconds")}
        case "grid":
            return {"cells": _slides(sent, MOST_ROWS[kind], labels=True), "columns": whole(sent, "columns")}
        case "product_list":
            source = sent.text("source")
            return {
                "source": source,
                "product_ids": [str(one) for one in ids(sent, "product")] if source == "chosen" else [],
                "category_id": (sent.text("category") or None) if source == "category" else None,
                "title": sent.text("title"),
                "columns": whole(sent, "columns"),
                "most": whole(sent, "most"),
            }
        case "text":
            return {
                "heading": sent.text("heading"),
                "text": sent.text("text", 6_000).replace("\r\n", "\n"),
                "align": sent.text("align"),
            }
        case "picture":
            slides = _slides(sent, 1)
            return {"slide": slides[0]} if slides else {}
        case "video_link":
            return {
                "url": sent.text("url", 600),
                "poster": sent.text("picture-0", 600),
                "title": sent.text("title"),
            }
        case _:
            return {"text": sent.text("text", 300), "link": sent.text("link", 600)}


def _slides(sent: Form, most: int, labels: bool = False) -> list[dict[str, str]]:
    """The rows that name a picture."""
    found = []
    for n in range(most):
        if picture := sent.text(f"picture-{n}", 600):
            one = {"picture": picture, "alt": sent.text(f"alt-{n}"), "link": sent.text(f"link-{n}", 600)}
            found.append({**one, "label": sent.text(f"label-{n}")} if labels else one)
    return found


def _rows(slides: tuple[blocks.Slide, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for n, one in enumerate(slides):
        found |= {f"picture-{n}": one.picture, f"alt-{n}": one.alt, f"link-{n}": one.link}
    return found
