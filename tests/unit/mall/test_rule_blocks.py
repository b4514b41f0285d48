"""Decorated pages: what is written is read again, and what a browser would follow astray is refused."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.blocks import (
    MOST_BYTES,
    Banner,
    Cell,
    Grid,
    Notice,
    Page,
    Picture,
    ProductList,
    Slide,
    Text,
    VideoLink,
    is_safe_url,
    page_from_json,
    page_to_json,
)
from ballast.mall.rules.refused import Refused

ONE = str(UUID(int=1))


def number(n: int) -> UUID:
    return UUID(int=n)


EVERY = Page(
    (
        Banner(number(1), (Slide("/pictures/a.webp", "夏季", "/s/lin/c/1"), Slide("https://cdn.example.com/b.jpg"))),
        Grid(number(2), (Cell("/pictures/c.webp", label="茶"),), columns=5),
        ProductList(number(3), "chosen", (number(9),)),
        ProductList(number(4), "category", category_id=number(8), most=6),
        ProductList(number(5), "newest", title="New"),
        Text(number(6), "<script>alert(1)</script>", heading="About"),
        Picture(number(7), Slide("/pictures/d.webp")),
        VideoLink(number(8), "https://v.example.com/1?x=2#t=3", "/pictures/e.webp"),
        Notice(number(10), "春节期间照常发货", "/s/lin/p/notice"),
    )
)


def test_a_page_is_read_as_it_was_written() -> None:
    assert page_from_json(page_to_json(EVERY)) == EVERY
    assert page_from_json(page_to_json(EVERY).decode()) == EVERY
    assert {b["type"] for b in msgspec.json.decode(page_to_json(EVERY))["blocks"]} == {
        "banner", "grid", "product_list", "text", "picture", "video_link", "notice",
    }  # fmt: skip
    assert page_from_json(b"{}") == Page()


@pytest.mark.parametrize(
    "url", ["/", "/a/b?c=d#e", "/商品/茶", "http://example.com", "https://a.example:8443/x", "HTTPS://A.EXAMPLE/"]
)
def test_links_that_are_followed(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", " javascript:alert(1)", "\x01javascript:x",
        "data:text/html,x", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "https:evil.example",
        "http://", "http:///x", "https://good.example@evil.example/", "ftp://x.example", "relative", "#x", "?x", "",
        'https://x.example/"onload=', "https://x.example/<b>", "http://[::1", "http://x.example:99999/", "\u2028/x", "/a b",
    ],
)  # fmt: skip
def test_links_that_lead_astray_are_refused(url: str) -> None:
    assert not is_safe_url(url)
    written = msgspec.json.encode({"blocks": [{"type": "picture", "id": ONE, "slide": {"picture": url}}]})
    with pytest.raises(Refused) as refused:
        page_from_json(written)
    assert refused.value.key == "page.invalid"
    assert "$.blocks[0].slide" in str(refused.value)


def test_a_video_is_elsewhere() -> None:
    assert is_safe_url("/x")
    assert not is_safe_url("/x", relative=False)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "script", "id": ONE},
        {"type": "notice", "id": ONE, "text": ""},
        {"type": "notice", "id": ONE, "text": "x" * 201},
        {"type": "notice", "id": ONE, "text": "x", "onclick": "y"},
        {"type": "notice", "text": "x"},
        {"type": "banner", "id": ONE, "slides": []},
        {"type": "banner", "id": ONE, "slides": [{"picture": "/x"}] * 11},
        {"type": "grid", "id": ONE, "cells": [{"picture": "/x"}], "columns": 6},
        {"type": "product_list", "id": ONE, "source": "chosen"},
        {"type": "product_list", "id": ONE, "source": "newest", "product_ids": [ONE]},
        {"type": "product_list", "id": ONE, "source": "category"},
        {"type": "product_list", "id": ONE, "source": "newest", "most": 51},
        {"type": "video_link", "id": ONE, "url": "/x"},
        {"type": "text", "id": ONE, "text": 5},
        "text",
        None,
    ],
)
def test_a_block_that_is_none_is_refused_by_its_place(block: object) -> None:
    with pytest.raises(Refused, match=r"\$\.blocks\[1\]"):
        page_from_json(msgspec.json.encode({"blocks": [{"type": "notice", "id": str(number(7)), "text": "x"}, block]}))


def test_pages_have_limits() -> None:
    notice = {"type": "notice", "id": ONE, "text": "x"}
    with pytest.raises(Refused, match="two blocks"):
        page_from_json(msgspec.json.encode({"blocks": [notice, notice]}))
    with pytest.raises(Refused, match="length <= 60"):
        page_from_json(msgspec.json.encode({"blocks": [{**notice, "id": str(number(n))} for n in range(61)]}))
    with pytest.raises(Refused) as refused:
        page_from_json(b" " * (MOST_BYTES + 1))
    assert refused.value.key == "page.too_large"


@given(st.binary(max_size=60) | st.text(max_size=60) | st.just("\ud800"))
def test_whatever_is_sent_is_a_page_or_refused(written: bytes | str) -> None:
    try:
        page_from_json(written)
    except Refused:
        return
