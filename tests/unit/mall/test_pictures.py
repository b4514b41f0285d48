"""What is taken as a picture, and what is kept of it. Real files, made and broken with Pillow and by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from ballast.mall.pictures import make
from ballast.mall.rules import pictures as rules
from ballast.mall.rules.refused import Refused


def _file(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(side: int) -> bytes:
    """A PNG of that many pixels square, a thousandth of it in bytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def test_kept_as_webp_in_three_widths_without_what_the_camera_wrote() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Secret Camera"
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo = Image.new("RGB", (3000, 2000), "red")
    photo.paste("blue", (0, 0, 1500, 2000))
    made = make(_file(photo, "JPEG", exif=exif, comment=b"where I live"))

    assert [(one.width, one.height) for one in made] == [(1080, 1620), (480, 720), (160, 240)]
    for one in made:
        kept = _opened(one.data)
        assert (kept.format, kept.size) == ("WEBP", (one.width, one.height))
        assert b"Secret Camera" not in one.data
        assert b"where I live" not in one.data
        assert not kept.getexif()
        # What was on the left is above now.
        top, bottom = (kept.convert("RGB").getpixel((kept.width // 2, kept.height * part // 10)) for part in (1, 9))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert top[2] > 200 > 60 > top[0]
        assert bottom[0] > 200 > 60 > bottom[2]


def test_the_same_file_is_kept_as_the_same_bytes() -> None:
    data = _file(Image.radial_gradient("L").convert("RGB"))
    assert make(data) == make(data)


def test_small_ones_are_not_enlarged_and_what_shines_through_still_does() -> None:
    made = make(_file(Image.new("RGBA", (100, 50), (255, 0, 0, 0))))
    assert {(one.width, one.height) for one in made} == {(100, 50)}
    kept = _opened(made[0].data)
    assert kept.mode == "RGBA"
    assert kept.getpixel((5, 5))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_every_kind_of_pixel(mode: str) -> None:
    image = Image.new("L", (40, 30), 200)
    data = _file(
        image.convert(mode) if mode != "I;16" else Image.new("I;16", (40, 30), 50_000),
        "JPEG" if mode == "CMYK" else "PNG",
    )
    assert _opened(make(data)[0].data).size == (40, 30)


def test_of_something_that_moves_the_first_frame() -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    made = make(_file(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    kept = _opened(made[0].data)
    assert not getattr(kept, "is_animated", False)
    assert kept.convert("RGB").getpixel((3, 3))[0] > 200  # type: ignore[index]


def test_colours_of_a_profile_are_brought_to_srgb_and_a_broken_one_is_as_none() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for one in (profile, b"no profile at all"):
        made = make(_file(Image.new("RGB", (20, 20), "red"), icc_profile=one))
        kept = _opened(made[0].data)
        assert "icc_profile" not in kept.info
        assert kept.convert("RGB").getpixel((3, 3))[0] > 200  # type: ignore[index]


def test_bombs_are_refused_before_they_are_decoded() -> None:
    bomb = _bomb(20_000)  # 400 million pixels
    assert len(bomb) < 200_000
    with pytest.raises(Refused) as refused:
        make(bomb)
    assert refused.value.key == "picture.large"


def test_what_lies_about_its_size_is_refused() -> None:
    honest = _file(Image.new("L", (4, 4)))
    lie = honest.replace(struct.pack(">II", 4, 4), struct.pack(">II", 2**31 - 1, 2**31 - 1), 1)
    with pytest.raises(Refused):
        make(lie)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"\xff\xd8\xff\xe0 no jpeg", b"%PDF-1.7", bytes(1000)],
)  # fmt: skip
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        make(data)
    assert refused.value.key == "picture.unreadable"


def test_formats_that_are_not_offered_are_refused() -> None:
    for kind in ("BMP", "TIFF", "ICO", "PDF"):
        with pytest.raises(Refused):
            make(_file(Image.new("RGB", (16, 16)), kind))


_WHOLE = {kind: _file(Image.radial_gradient("L").convert("RGB").resize((64, 64)), kind) for kind in rules.FORMATS}


@settings(max_examples=60)
@given(
    kind=st.sampled_from(rules.FORMATS),
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
)
def test_broken_files_are_refused_or_read_and_nothing_else(kind: str, cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(_WHOLE[kind])
    for at, value in changes:
        data[at % len(data)] = value
    try:
        made = make(bytes(data[: len(data) - cut]))
    except Refused:
        return
    assert all(_opened(one.data).format == "WEBP" for one in made)


@given(width=st.integers(1, 40_000), height=st.integers(1, 40_000), most=st.sampled_from(rules.WIDTHS))
def test_a_size_that_is_kept_fits_and_is_never_enlarged(width: int, height: int, most: int) -> None:
    w, h = rules.fitted(width, height, most)
    assert 1 <= w <= min(width, most)
    assert 1 <= h <= min(height, 16_000)


@given(st.integers(0, 10**6))
def test_the_next_size_that_is_kept(asked: int) -> None:
    kept = rules.kept_width(asked)
    assert kept in rules.WIDTHS
    assert kept >= min(asked, 1080)
