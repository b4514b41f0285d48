"""Sessions whose values come out as the same text on every server, whoever set what for role or database.

A value is kept as the text that the server prints, and compared with the text that another server prints later.
So each session that reads rows, by COPY or as a replication stream, pins what the printing depends on.
"""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.postgres import niceness

PINNED: MappingProxyType[str, str] = MappingProxyType(
    {
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",  # shortest text that reads back as the same number
        "TimeZone": "UTC",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "xmloption": "content",
        "lc_monetary": "C",
        "quote_all_identifiers": "off",  # regclass and its like print quoted names
        "search_path": "",  # … and qualify what is not in pg_catalog
        "row_security": "off",  # a policy would hide rows; this makes it an error
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": "0",
    }
)
"""Session settings, by name, that fix the text of values and let a long read finish."""

_REPORTED = {b"DateStyle": b"ISO", b"TimeZone": b"UTC", b"client_encoding": b"UTF8", b"IntervalStyle": b"postgres"}

_QUOTED = re.compile(r'"[^"]*"')
_SPILLED = re.compile(r"""(["'])[^"']*@([^"'@]*)\1""")
_NOT_LIBPQS = ("context", "cursor_factory", "prepare_threshold", "row_factory")


def connect(dsn: str, *, autocommit: bool = True, **kw: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection with everything of `PINNED` set from the start; `kw` as for psycopg.connect. See also `niceness`.

    Raises psycopg.OperationalError when the server cannot be reached.
    """
    options = {name: kw.pop(name) for name in _NOT_LIBPQS if name in kw}
    conn = psycopg.Connection.connect(pinned_conninfo(dsn, **kw), autocommit=True, **options)
    try:
        pin(conn.pgconn)
        niceness.hand_on(conn)
        conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


def pinned_conninfo(dsn: str, **kw: Any) -> str:
    """`dsn` with `kw` and with `PINNED` as start-up options, after the options that it has already."""
    given = conninfo_to_dict(dsn, **kw)
    before = given.get("options") or os.environ.get("PGOPTIONS") or ""
    pins = " ".join(f"-c {name}={_option(value)}" for name, value in PINNED.items())
    given["options"] = f"{before} {pins}".strip()
    # A start-up parameter of its own wins over the options, so the dsn's or the environment's encoding would.
    given["client_encoding"] = PINNED["client_encoding"]
    return make_conninfo("", **given)


def pin(pgconn: pq.abc.PGconn) -> None:
    """Set on an open connection what start-up options could not fix.

    libpq sends PGTZ and PGDATESTYLE of the environment as parameters that win over the options; and
    `transaction_timeout` exists from version 17 on.
    """
    commands = b""
    if any(not (pgconn.parameter_status(name) or b"").startswith(value) for name, value in _REPORTED.items()):
        commands += pin_sql().encode()
    if pgconn.server_version >= 170000:
        commands += b"SET transaction_timeout = 0;"
    if commands:
        result = pgconn.exec_(commands)
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.OperationalError(result.get_error_message())


def pin_sql(*, local: bool = False) -> str:
    """The statements that set `PINNED` in a session, or with `local` for the current transaction only."""
    scope = "LOCAL " if local else ""
    return "".join(f"SET {scope}{name} = '{value}';\n" for name, value in PINNED.items())


def complaint(error: psycopg.Error) -> str:
    """What libpq says of a connection or its DSN, in one line and without what it quotes of a malformed DSN: that may be
    a piece of the password (one with an @ in it is taken for a part of the host)."""
    said = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, psycopg.ProgrammingError):
        return _QUOTED.sub('"…"', said)
    return _SPILLED.sub(r"\1…@\2\1", said)


def _option(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
