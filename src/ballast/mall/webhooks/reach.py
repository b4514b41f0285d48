"""A POST to an address that a stranger chose, which must not lead into our own network (SSRF).

The name is resolved here, once; every address that it has must be public; the connection goes to such an address and to
nothing that the name may mean a moment later. No redirect is followed, no proxy used, and of the answer a little is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from functools import cache
from ssl import SSLContext
from urllib.parse import urlsplit

import httpx
import msgspec

from ballast.errors import BallastError
from ballast.mall.rules.blocks import is_safe_url

TIMEOUT_S = 10.0
"""For all of it: name, connection, answer."""
EXCERPT_BYTES = 1_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# That Python calls global, and that may lead inside: IPv4 in IPv6 of old, NAT64 of one's own (RFC 8215), site-local, 6to4 relays.
_INSIDE = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b:1::/48", "fec0::/10", "192.88.99.0/24")))


class NotReached(BallastError):
    """No answer came, or none was asked for."""


class Answer(msgspec.Struct, frozen=True):
    """What was answered: its status and how it begins."""

    status: int
    excerpt: str


class Where(msgspec.Struct, frozen=True):
    """An address, taken apart."""

    tls: bool
    host: str
    port: int
    target: str
    """Path and query."""


def where(url: str, *, private: bool) -> Where:
    """Takes an address apart. NotReached where it is not https with a host; with `private` plain http will do."""
    if not is_safe_url(url, relative=False):
        raise NotReached(f"{url[:100]!r} is no address that could be called.", "Write https://host/path.")
    parts = urlsplit(url)
    if parts.scheme != "https" and not private:
        raise NotReached(f"{url[:100]!r} is not https.", "Write https://host/path.")
    host, tls = parts.hostname or "", parts.scheme == "https"
    path = parts.path or "/"
    return Where(tls, host, parts.port or (443 if tls else 80), f"{path}?{parts.query}" if parts.query else path)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, shared, reserved or multicast,
    nor an IPv6 address that leads to such an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo:
            return False
    if any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not ip.is_multicast


def client() -> httpx.AsyncClient:
    """For many requests. Connections are not kept: one that was opened for a name is not used for another at the same address."""
    return httpx.AsyncClient(
        verify=_tls(),
        trust_env=False,
        follow_redirects=False,
        timeout=TIMEOUT_S,
        limits=httpx.Limits(max_keepalive_connections=0),
    )


async def post(
    client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str], *, private: bool
) -> Answer:
    """Send it.

    Args:
        private: addresses of our own network and plain http are allowed: development and tests.

    Raises:
        NotReached: nothing was sent, or no answer came in `TIMEOUT_S`.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            to = where(url, private=private)
            return await _post(client, to, await _resolve(to, private), body, headers)
    except TimeoutError:
        raise NotReached(f"No answer within {TIMEOUT_S:.0f} seconds.") from None
    except httpx.HTTPError as error:
        raise NotReached(f"{type(error).__name__}: {error}"[:300]) from error


async def _resolve(to: Where, private: bool) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotReached(f"The name {to.host} is not known: {error}") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    # One that is not public is enough: a name that leads to both is a trick.
    if not private and not all(is_public(one) for one in addresses):
        raise NotReached(f"{to.host} leads into a network that is not public.", "Use a public address.")
    return addresses


async def _post(
    client: httpx.AsyncClient, to: Where, addresses: list[str], body: bytes, headers: Mapping[str, str]
) -> Answer:
    host = f"[{to.host}]" if ":" in to.host else to.host
    usual = to.port == (443 if to.tls else 80)
    sent = {**headers, "host": host if usual else f"{host}:{to.port}", "accept-encoding": "identity"}
    failure: httpx.HTTPError | None = None
    for address in addresses:
        at = f"[{address}]" if ":" in address else address
        request = client.build_request(
            "POST",
            f"{'https' if to.tls else 'http'}://{at}:{to.port}{to.target}",
            content=body,
            headers=sent,
            extensions={"sni_hostname": to.host},
        )
        try:
            answer = await client.send(request, stream=True)
        except httpx.ConnectError as error:
            failure = error
            continue
        try:
            return Answer(answer.status_code, await _beginning(answer))
        finally:
            await answer.aclose()
    raise failure or NotReached(f"The name {to.host} has no address.")


async def _beginning(answer: httpx.Response) -> str:
    read = b""
    async for piece in answer.aiter_raw():
        read += piece
        if len(read) >= EXCERPT_BYTES:
            break
    return read[:EXCERPT_BYTES].decode("utf-8", "replace").replace("\x00", "")


@cache
def _tls() -> SSLContext:
    return httpx.create_ssl_context(trust_env=False)
