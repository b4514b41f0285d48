"""The providers that are set up in this process, and those that need no setting up."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ballast.mall.payments.gift_card import GiftCards
from ballast.mall.payments.provider import Provider, Settling
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.settings import Settings

SETTLING: Mapping[str, Settling] = {GiftCards.name: GiftCards()}
"""Those that are the shop itself, by name."""


@cache
def providers(settings: Settings) -> Mapping[str, Provider]:
    """By name, as in mall.payment.provider; one of each for the process."""
    return {Sandbox.name: Sandbox(settings)}
