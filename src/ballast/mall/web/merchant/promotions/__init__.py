"""``/merchant/<slug>/promotions``: coupons, full reductions, limited-time prices; a file for each."""

from __future__ import annotations

from ballast.mall.web.merchant.promotions import coupons, limited, reductions

HANDLERS = [*coupons.HANDLERS, *reductions.HANDLERS, *limited.HANDLERS]
