"""What a merchant writes about a product: HTML without anything that runs; plain text becomes paragraphs."""

from __future__ import annotations

import html
import re

import nh3

from ballast.mall.rules.refused import Refused

MOST_CHARACTERS = 60_000
_OWN = re.compile(r"/(?![/\\])")
"""How the address of a picture of this platform begins. Browsers are told to show no other (`web.app`)."""
_MARKUP = re.compile(r"<[a-zA-Z!/]")
_BLANK_LINES = re.compile(r"\n\s*\n")


def clean(written: str, *, drop_foreign: bool = False) -> str:
    """HTML to be stored.

    Args:
        drop_foreign: pictures that are elsewhere are left out, as from texts that came with many others; else they are refused.

    Raises:
        Refused: `product.long_description`, `product.foreign_picture`.
    """
    if len(written) > MOST_CHARACTERS:
        raise Refused(
            "product.long_description",
            f"The description has more than {MOST_CHARACTERS} characters.",
            "Shorten it.",
            most=MOST_CHARACTERS,
        )
    text = written.replace("\r\n", "\n").strip()
    if not _MARKUP.search(text):
        paragraphs = [one.strip() for one in _BLANK_LINES.split(text) if one.strip()]
        text = "\n".join(f"<p>{'<br>'.join(html.escape(one).split(chr(10)))}</p>" for one in paragraphs)
    foreign: list[str] = []

    def kept(tag: str, name: str, value: str) -> str | None:
        if tag == "img" and name == "src" and not _OWN.match(value):
            foreign.append(value)
            return None
        return value

    cleaned = nh3.clean(text, attribute_filter=kept).strip()
    if foreign and not drop_foreign:
        raise Refused(
            "product.foreign_picture",
            f"The picture {foreign[0][:200]} is elsewhere, and browsers would not show it.",
            "Upload it to the shop's pictures, and write its address there.",
            url=foreign[0][:200],
        )
    # Whatever is stored is markup, so that it is taken for markup when it comes back from the form.
    return cleaned if not cleaned or _MARKUP.search(cleaned) else f"<p>{cleaned}</p>"


def plain(markup: str) -> str:
    """Its words alone, for the search."""
    return html.unescape(nh3.clean(markup.replace("<", " <"), tags=set()))
