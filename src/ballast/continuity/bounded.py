"""Connections on which nobody waits for ever: for a lock, for a statement, or for a machine that is not there any more."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SILENT_MS = 10_000
_SERVERS = (
    f"-c tcp_user_timeout={_SILENT_MS} -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)
"""The server's side of it: a session whose client is cut off holds its locks until the server notices, by default for hours."""
_IDLE_S = 20
"""So does one behind a proxy, which keeps the connection up for a client that is gone."""


def bounded(dsn: str, statement_s: int) -> str:
    """`dsn` with limits. The commit itself is not limited, and waits for the recorder."""
    said = conninfo_to_dict(dsn).get("options") or ""
    limits = f"-c lock_timeout=2s -c statement_timeout={statement_s}s {_SERVERS}"
    limits += f" -c idle_in_transaction_session_timeout={_IDLE_S}s"
    return make_conninfo(
        dsn, connect_timeout=3, tcp_user_timeout=_SILENT_MS, keepalives_idle=5, keepalives_interval=2,
        options=f"{said} {limits}".strip(),
    )  # fmt: skip
