"""Which pictures are taken, and in which sizes they are kept.

What a file claims to be is looked at before anything of it is decoded: a small file can unpack to gigabytes.
"""

from __future__ import annotations

import re

from ballast.mall.rules.refused import Refused

MOST_BYTES = 10 << 20
MOST_PIXELS = 40_000_000
"""Of what is decoded: 120 to 160 MB of memory."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
WIDTHS = (1080, 480, 160)
"""The first is the picture itself, whose hash is its name; the others are made of it for lists and carts."""
MOST_OF_PRODUCT = 12
_TALLEST = 16_000
"""WebP ends at 16,383 on either side; pictures of details are often very tall."""
_HASH = re.compile(r"[0-9a-f]{64}")


def check_bytes(size_bytes: int) -> None:
    """Refused: empty, or larger than is taken."""
    if size_bytes > MOST_BYTES:
        raise too_large()
    if not size_bytes:
        raise unreadable()


def check_pixels(width: int, height: int) -> None:
    """Refused: more than would be decoded."""
    if width < 1 or height < 1:
        raise unreadable()
    if width * height > MOST_PIXELS:
        raise too_large()


def too_large() -> Refused:
    """The picture has too many bytes or pixels."""
    return Refused(
        "picture.large",
        f"The picture has more than {MOST_BYTES >> 20} MB or {MOST_PIXELS // 10**6} million pixels.",
        "Save it smaller and send it again.",
        megabytes=MOST_BYTES >> 20,
        megapixels=MOST_PIXELS // 10**6,
    )


def unreadable() -> Refused:
    """It is no picture, or a broken one."""
    return Refused("picture.unreadable", "The file is no picture that can be read.", "Send a JPEG, PNG, WebP or GIF.")


def fitted(width: int, height: int, most_width: int) -> tuple[int, int]:
    """The size in which a picture is kept: no wider than that, in its own proportions, never enlarged."""
    if width > most_width:
        width, height = most_width, max(1, height * most_width // width)
    if height > _TALLEST:
        width, height = max(1, width * _TALLEST // height), _TALLEST
    return width, height


def kept_width(asked: int) -> int:
    """The smallest width kept that is not below what a page asks for; the widest where none is."""
    return min((one for one in WIDTHS if one >= asked), default=WIDTHS[0])


def is_name(text: str) -> bool:
    """Whether it can be the name of a picture: SHA-256 in lower-case hexadecimal digits."""
    return _HASH.fullmatch(text) is not None
