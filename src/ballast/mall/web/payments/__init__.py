"""Where payment providers tell us what became of payments and refunds."""

from __future__ import annotations

from ballast.mall.web.payments.callback import routes

__all__ = ["routes"]
