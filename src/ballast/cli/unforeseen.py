"""What a server or the operating system refused where nothing below has put it into words: one message of ours for each.

Passwords never reach a message: servers are named by host, port and database, and of libpq's complaints about a
connection string only the words are kept, since what it quotes may be a piece of the password.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ballast.errors import BallastError, ConfigError, ServerError
from ballast.postgres.session import complaint
from ballast.vault import config

_DSN = re.compile(r"(?:--into=)?((?:postgres(?:ql)?://|[a-z_]+\s*=).*)", re.DOTALL)
_SHORT_OF = {
    errno.ENOSPC: "Make room on that disk, then run the command again.",
    errno.EDQUOT: "Make room within the quota, then run the command again.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), then run the command again.",
}


def put_into_words(error: Exception, arguments: Sequence[str]) -> BallastError:
    """The same failure as a message: what happened, to what, and what to do. `arguments` are the command line's."""
    if isinstance(error, psycopg.Error):
        return _of_server(error, arguments)
    assert isinstance(error, OSError)
    return _of_system(error)


def _of_server(error: psycopg.Error, arguments: Sequence[str]) -> BallastError:
    if isinstance(error, psycopg.ProgrammingError) and not error.sqlstate:
        return ConfigError(
            f"The connection string cannot be understood: {complaint(error)}.",
            'Write it as "host=db dbname=shop user=ballast" or postgresql://ballast@db/shop; in a URL, characters such as'
            " @ : / ? in a password are written as %40 %3A %2F %3F.",
        )
    where = _server_of(error, arguments)
    said = error.diag.message_primary or complaint(error)
    if error.sqlstate and not isinstance(error, psycopg.OperationalError):
        return ServerError(
            f"{where} refused a statement: {said} ({error.sqlstate}).",
            "If it is a right that is missing, `ballast protect --dry-run` lists all that are needed; else look into the"
            " server's log.",
        )
    return ServerError(
        f"{where} cannot be reached, or the connection to it broke: {said}.",
        "Check that the server runs and that host, port, database, user and password are right; then run the command again.",
    )


def _of_system(error: OSError) -> BallastError:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    place = names[-1] if names else "a file or connection"
    do = _SHORT_OF.get(
        error.errno or 0, "Check that it is there, is of the kind it should be, and that this account may use it."
    )
    if isinstance(error, PermissionError):
        do = "Run this as the account that owns it, or choose another place (--vault, --state-dir, --config)."
    return BallastError(f"{place}: {error.strerror or error}.", do)


def _server_of(error: psycopg.Error, arguments: Sequence[str]) -> str:
    """Host, port and database, as far as the failed connection, the command line or ballast.toml says them."""
    if error.pgconn is not None:
        with contextlib.suppress(psycopg.Error):
            attempt = error.pgconn
            return _named(attempt.host.decode(), attempt.port.decode(), attempt.db.decode())
    for dsn in _dsns(arguments):
        with contextlib.suppress(psycopg.Error):
            parts: dict[str, Any] = conninfo_to_dict(dsn)
            host = parts.get("host") or parts.get("hostaddr") or ""
            return _named(str(host), str(parts.get("port") or ""), str(parts.get("dbname") or ""))
    return "The server"


def _dsns(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        if found := _DSN.fullmatch(argument):
            yield found[1]
    named = Path("ballast.toml")
    for option, value in pairwise(arguments):
        if option in ("--config", "-c"):
            named = Path(value)
    with contextlib.suppress(BallastError):
        yield config.load(named).dsn


def _named(host: str, port: str, database: str) -> str:
    at = host.rpartition("@")[2] or "this machine"
    return f"The server at {at}{f', port {port}' if port else ''}{f', database {database}' if database else ''},"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
