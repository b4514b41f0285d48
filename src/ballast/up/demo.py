"""Shops to look at: made once by `ballast mall seed`, as a part that does its work and ends."""

from __future__ import annotations

from typing import NamedTuple

from ballast.mall import settings as mall
from ballast.mall.seed import DEMO_LOGIN, DEMO_PHONE
from ballast.supervise import Part
from ballast.up.parts import tied
from ballast.up.platform import Platform


class Shops(NamedTuple):
    """How many, and how many orders each has had."""

    shops: int
    orders: int


def part_of(platform: Platform, wanted: Shops) -> Part:
    """Makes those that are not there yet. The first start waits for it; later ones find them."""
    return Part(
        "seed",
        tied("ballast.cli", "mall", "seed", "--shops", str(wanted.shops), "--orders", str(wanted.orders)),
        needs=("recorder", "web"),
        once=True,
        quiet=True,
        begins=f"{wanted.shops} shops with {wanted.orders} orders each, where they are not there yet; the pages work meanwhile",
        env={
            "BALLAST_CONFIG": str(platform.config_path),
            "BALLAST_MALL_SEED_PASSWORD": platform.demo_password,
            **mall.to_environ(platform.mall),
        },
    )


def lines(platform: Platform) -> list[str]:
    """How one gets in."""
    return [
        f"  demo merchant   {DEMO_LOGIN}, password {platform.demo_password}",
        f"  demo customer   {DEMO_PHONE} in every shop, the same password",
    ]
