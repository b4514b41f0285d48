"""A merchant's pictures: looked at, made small, kept under the hash of what is kept.

An upload is decoded (first frame), turned as its EXIF says, brought to sRGB, stripped of everything that is not pixels, and
written as WebP in the widths of `rules.pictures`. Decoding happens in threads, few at a time; who finds too many waiting
is sent away. The files are there before the row is: a row never names a picture that nobody has.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import warnings
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import msgspec
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ballast.mall import queries
from ballast.mall.db import Busy, Connection
from ballast.mall.picture_store import PictureStore
from ballast.mall.rules import pictures as rules
from ballast.mall.rules.refused import Refused

MEDIA_TYPE = "image/webp"
_QUALITY = 82
_AT_A_TIME = 2
"""Pictures decoded together in one process: each may take 160 MB."""
_MOST_WAITING = 24
# What a decoder says of a file that is broken or made to break it.
_BROKEN = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError)


class Picture(msgspec.Struct, frozen=True):
    """A picture that is kept. `picture`: SHA-256 of its widest size, its name."""

    picture: str
    width: int
    height: int
    size_bytes: int


class Pictures:
    """The pictures of one process: `keep` and `read`."""

    def __init__(self, store: PictureStore) -> None:
        self._store = store
        self._turn = asyncio.Semaphore(_AT_A_TIME)
        self._waiting = 0

    async def keep(self, shop_id: UUID, read: Callable[[], Awaitable[bytes]]) -> Picture:
        """Look at an uploaded file and put it into the store, all sizes; the same file again changes nothing.

        Args:
            read: gives the file's bytes, when it is its turn: files that wait take no memory. No more than
                `rules.pictures.MOST_BYTES` + 1 of them are needed.

        Raises:
            Refused: `picture.large`, `picture.unreadable`.
            Busy: too many pictures are being worked on.
            StoreError: the store did not take it.
        """
        if self._waiting >= _MOST_WAITING:
            raise Busy("too many pictures are being worked on", "Try again in a few seconds.")
        self._waiting += 1
        try:
            async with self._turn:
                data = await read()
                rules.check_bytes(len(data))
                made = await asyncio.to_thread(make, data)
        finally:
            self._waiting -= 1
        kept = made[0]
        picture = Picture(hashlib.sha256(kept.data).hexdigest(), kept.width, kept.height, len(kept.data))
        for size, width in zip(made, rules.WIDTHS, strict=True):
            await self._store.put(shop_id, picture.picture, width, size.data)
        return picture

    async def read(self, shop_id: UUID, picture: str, width: int) -> bytes | None:
        """One size of a picture as WebP; None: the shop has no such picture."""
        return await self._store.get(shop_id, picture, width)


class Size(msgspec.Struct, frozen=True):
    """A picture in one size, as WebP."""

    width: int
    height: int
    data: bytes


def make(data: bytes) -> list[Size]:
    """All sizes of an uploaded file, in the order of `rules.WIDTHS`. Refused: what cannot or must not be decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels on; our own limit is lower, and looked at before it decodes.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=rules.FORMATS) as opened:
                rules.check_pixels(*opened.size)
                return _sizes(opened)
    except Image.DecompressionBombError:
        raise rules.too_large() from None
    except _BROKEN:
        raise rules.unreadable() from None


class Kept(Picture, frozen=True):
    """A picture in the list of a shop's."""

    created_at: datetime


async def listed(connection: Connection, before: str = "", most: int = 60) -> tuple[Kept, ...]:
    """The shop's pictures, the newest first; `before`: the name of the last one of the page before."""
    cursor = await connection.execute(queries.load("pictures").listed, {"before": before, "most": most})
    return tuple(Kept(**row) for row in await cursor.fetchall())


async def room(connection: Connection, more_bytes: int = 1) -> None:
    """Whether the shop's plan has room for so much more. Asked before files are worked on, and when they are noted; who sends at
    the same moment may get a little more in.

    Raises:
        Refused: `picture.full`.
    """
    row = await (await connection.execute(queries.load("pictures").room)).fetchone()
    most = row["most_mb"] if row else 0
    if row is None or row["used"] + more_bytes > most * 1_000_000:
        raise Refused(
            "picture.full", f"The shop's plan allows {most} MB of pictures.", "Take a larger plan.", most=most
        )


async def note(connection: Connection, picture: Picture) -> None:
    """The shop has this picture; again: it has it already."""
    await connection.execute(
        queries.load("pictures").note, {**msgspec.structs.asdict(picture), "media_type": MEDIA_TYPE}
    )


def _sizes(opened: Image.Image) -> list[Size]:
    # A JPEG is decoded no larger than it needs to be.
    opened.draft("RGB", (rules.WIDTHS[0], rules.WIDTHS[0]))
    image = ImageOps.exif_transpose(opened)
    profile = opened.info.get("icc_profile")
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        image = image.convert("RGBA" if image.mode in ("LA", "PA") or "transparency" in image.info else "RGB")
    image = _in_srgb(image, profile)
    sizes = []
    for width in rules.WIDTHS:
        smaller = image.resize(rules.fitted(*image.size, width), Image.Resampling.LANCZOS, reducing_gap=3.0)
        out = io.BytesIO()
        # Nothing of what the file carried beside its pixels: no place, no camera, no comment, no profile.
        smaller.save(out, "WEBP", quality=_QUALITY, method=4, exif=b"", icc_profile=b"", xmp=b"")
        sizes.append(Size(*smaller.size, out.getvalue()))
        image = smaller
    return sizes


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    wanted = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile:
        try:
            read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            turned = ImageCms.profileToProfile(image, read, ImageCms.createProfile("sRGB"), outputMode=wanted)
            if turned is not None:
                return turned
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that cannot be read is as none
    return image if image.mode == wanted else image.convert(wanted)
