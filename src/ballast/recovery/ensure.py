"""`ensure`: wait until one tenant is whole on a server that is being recovered."""

from __future__ import annotations

import psycopg

from ballast.recovery.copying import ServerRefused, in_servers_words
from ballast.recovery.target import connect_target

# No such schema, no such function, no such table: recovery is over, also when it ended between two of our words.
_OVER = frozenset(("3F000", "42883", "42P01"))


def ensure(dsn: str, tenant: str, *, timeout_s: float = 60.0) -> bool:
    """Returns when `tenant` is whole in the database of `dsn`: True. False: the record knows no such tenant, a new one.

    At once where no recovery is under way. Callers at the same time cause one restore. ServerRefused when it cannot be
    brought back (BL005), or is not within `timeout_s` seconds (BL004)."""
    with in_servers_words(), connect_target(dsn) as conn:
        try:
            row = conn.execute(
                "SELECT ballast.ensure_tenant(%s, make_interval(secs => %s))", (tenant, timeout_s)
            ).fetchone()
        except psycopg.Error as error:
            if error.sqlstate in _OVER:
                return True
            if (error.sqlstate or "").startswith("BL"):
                said = error.diag
                what = said.message_primary or str(error)
                raise ServerRefused(what, said.message_hint or "", error.sqlstate or "") from error
            raise
    return row is not None and bool(row[0])
