"""Who called, behind our own proxies. Each proxy adds the address that it saw at the end of X-Forwarded-For; what stands
before the first address that is not a proxy of ours was written by the caller, and is worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from ballast.mall.settings import Network


def client(seen: str, headers: Sequence[str], trusted: Sequence[Network]) -> str:
    """The caller's address.

    Args:
        seen: from where the connection came.
        headers: the values of all X-Forwarded-For headers, in their order.
        trusted: the networks of our proxies.
    """
    hops = [part.strip() for header in headers for part in header.split(",")]
    found = seen
    for hop in [seen, *reversed(hops)]:
        address = _read(hop)
        if address is None:
            return found
        found = str(address)
        if not any(address in network for network in trusted):
            return found
    return found


def _read(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
