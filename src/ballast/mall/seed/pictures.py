"""Small pictures for seeded shops: a gradient and a few round shapes, as WebP in the widths in which the mall keeps pictures."""

from __future__ import annotations

import colorsys
import hashlib
import io
from collections.abc import Awaitable, Callable
from functools import lru_cache
from random import Random
from uuid import UUID

import msgspec
from PIL import Image, ImageDraw, ImageFilter

WIDTHS = (1080, 480, 160)
SIDE = 540
"""Of the widest, which is kept as the first of `WIDTHS`: pictures are not enlarged."""
COUNT = 24
"""Different ones; shops share them."""
_SMALL = 135
"""They are painted small and enlarged: nothing on them is sharp."""

Put = Callable[[UUID, str, int, bytes], Awaitable[None]]
"""Keeps one size of a shop's picture: shop, hash, width, bytes."""


class Painted(msgspec.Struct, frozen=True):
    """A picture in all its sizes. `picture`: SHA-256 of the widest, its name."""

    picture: str
    sizes: tuple[tuple[int, bytes], ...]


@lru_cache(maxsize=COUNT)
def paint(number: int) -> Painted:
    """The `number`-th of `COUNT`, always the same."""
    rng = Random(f"picture {number}")  # noqa: S311 - plausible, not secret
    hue = number / COUNT
    top, bottom = _colour(hue, 0.35, 0.98), _colour(hue + 0.08, 0.55, 0.82)
    image = Image.composite(
        Image.new("RGB", (_SMALL, _SMALL), top),
        Image.new("RGB", (_SMALL, _SMALL), bottom),
        Image.linear_gradient("L").resize((_SMALL, _SMALL)).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    )
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(5):
        size = int(_SMALL * (0.2 + 0.45 * rng.random()))
        left, above = (int((_SMALL + size) * rng.random()) - size for _ in range(2))
        draw.ellipse((left, above, left + size, above + size), fill=(*_colour(hue + 0.15 * rng.random(), 0.3, 1), 110))
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    sizes = []
    for width in WIDTHS:
        out = io.BytesIO()
        side = min(width, SIDE)
        image.resize((side, side), Image.Resampling.BICUBIC).save(out, "WEBP", quality=70, method=2)
        sizes.append((width, out.getvalue()))
    return Painted(hashlib.sha256(sizes[0][1]).hexdigest(), tuple(sizes))


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)
