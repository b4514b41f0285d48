"""Whether the platform can listen where it is to, asked before anything is started."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.errors import ConfigError


def refuse_taken(host: str, ports: dict[str, int]) -> None:
    """ConfigError where one cannot be had. `ports`: setting → number."""
    for setting, port in ports.items():
        why = _why_not(host, port)
        if why is not None:
            raise ConfigError(
                f"{host}:{port} cannot be listened at: {why}.",
                f"{_cure(why)} ([up] {setting}, BALLAST_UP_{setting.upper()}).",
            )


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cure(why: str) -> str:
    return (
        "End who has it, or choose another port" if why.startswith("it is taken") else "Choose another address or port"
    )


def _why_not(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        return f"{host} is no address of this machine ({error.strerror})"
    with socket.socket(family, kind, protocol) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(address)
            tried.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"it is taken{_by_whom(port)}"
            return str(error.strerror or error)
    return None


def _by_whom(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid is not None:
                with contextlib.suppress(psutil.Error):
                    return f" by process {found.pid} ({psutil.Process(found.pid).name()})"
    return ""
