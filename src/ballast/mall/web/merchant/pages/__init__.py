"""``/merchant/<slug>/pages``: the home page and the free pages: the list, the editor of one, the forms of its blocks."""

from __future__ import annotations

from ballast.mall.web.merchant.pages import block, editor, listing

HANDLERS = [*listing.HANDLERS, *editor.HANDLERS, *block.HANDLERS]
