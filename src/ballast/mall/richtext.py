"""What a merchant writes about a product: HTML without anything that runs; plain text becomes paragraphs."""

from __future__ import annotations

import html
import re

import nh3

from ballast.mall.rules.refused import Refused

MOST_CHARACTERS = 60_000
_MARKUP = re.compile(r"<[a-zA-Z!/]")
_BLANK_LINES = re.compile(r"\n\s*\n")


def clean(written: str) -> str:
    """HTML to be stored. Refused: longer than `MOST_CHARACTERS`."""
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
    cleaned = nh3.clean(text).strip()
    # Whatever is stored is markup, so that it is taken for markup when it comes back from the form.
    return cleaned if not cleaned or _MARKUP.search(cleaned) else f"<p>{cleaned}</p>"


def plain(markup: str) -> str:
    """Its words alone, for the search."""
    return html.unescape(nh3.clean(markup.replace("<", " <"), tags=set()))
