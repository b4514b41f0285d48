"""Whom the throttles count: the connection's other end, or what a proxy of ours says, and nothing that a caller can write."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from ballast.errors import ConfigError
from ballast.mall.settings import load
from ballast.mall.web.forwarded import client

OURS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("seen", "headers", "found"),
    [
        ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),  # no proxy of ours: what it says is its own
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),  # the first is what the caller wrote
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),  # two proxies, two headers
        ("::ffff:10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", [], "fd00::1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, rubbish"], "10.0.0.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_our_own_proxies_are_believed(seen: str, headers: list[str], found: str) -> None:
    assert client(seen, headers, OURS) == found


def test_networks_are_read_once_at_the_start() -> None:
    needed = {f"BALLAST_MALL_{name}_DSN": "x" for name in ("APP", "IDENTITY", "PLATFORM")}
    needed["BALLAST_MALL_SECRET"] = "s" * 32
    read = load(None, {**needed, "BALLAST_MALL_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8"})
    assert read.proxies == OURS
    with pytest.raises(ConfigError, match="trusted_proxies"):
        load(None, {**needed, "BALLAST_MALL_TRUSTED_PROXIES": "10.0.0.1/8"})
    with pytest.raises(ConfigError, match="per_minute"):
        load(None, {**needed, "BALLAST_MALL_API_SHOP_PER_MINUTE": "0"})
