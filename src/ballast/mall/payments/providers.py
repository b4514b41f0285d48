"""The providers that are set up in this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ballast.mall.payments.provider import Provider
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.settings import Settings


@cache
def providers(settings: Settings) -> Mapping[str, Provider]:
    """By name, as in mall.payment.provider; one of each for the process."""
    return {Sandbox.name: Sandbox(settings)}
