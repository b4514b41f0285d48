"""Telling a machine that is not there from a server that is slow: the one does not even take a connection.

A server that is busy, or hangs, leaves that to its machine's kernel, which answers at once. libpq says of both that time is over.
"""

from __future__ import annotations

import os
import socket

from psycopg.conninfo import conninfo_to_dict

_PATIENCE_S = 1.8
"""More than a second: after that a packet that was lost is sent again."""
_PORT = "5432"


def silent(dsn: str) -> str:
    """The machines of `dsn`, if none of them answers to a connection within two seconds; "": one does, if only with a refusal, or
    it is this machine, or nothing of it can be told so."""
    said = conninfo_to_dict(dsn)
    hosts = str(said.get("hostaddr") or said.get("host") or os.environ.get("PGHOST") or "").split(",")
    ports = str(said.get("port") or os.environ.get("PGPORT") or _PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts) or any(_answers(host, port) for host, port in zip(hosts, ports, strict=True)):
        return ""
    return ", ".join(hosts)


def _answers(host: str, port: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True  # a socket of this machine
    try:
        socket.create_connection((host, int(port or _PORT)), timeout=_PATIENCE_S).close()
    except TimeoutError:
        return False
    except (OSError, ValueError):
        return True  # it refuses, or its name is not known: libpq says it better
    return True
