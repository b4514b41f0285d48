"""Bring a database to this version's structure: the files of ``migrations/`` in their order, once each."""

from __future__ import annotations

from contextlib import closing
from importlib.resources import as_file, files
from urllib.parse import quote, urlencode

import psycopg
import yoyo
from psycopg.conninfo import conninfo_to_dict

from ballast.errors import BallastError


class MigrationError(BallastError):
    """The structure could not be brought up to date; what was done before the failing file stays."""


def migrate(dsn: str) -> list[str]:
    """Apply what is missing.

    Args:
        dsn: of a role that may create roles and, in this database, a schema.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        MigrationError: a statement failed, or the database cannot be reached.
    """
    with as_file(files(__package__) / "migrations") as folder:
        migrations = yoyo.read_migrations(str(folder))
        try:
            with psycopg.connect(dsn, autocommit=True) as turn:
                # yoyo's own lock is a row, and would stay for ever where its process was killed.
                turn.execute("SELECT pg_advisory_lock(hashtextextended('ballast.mall.migrate', 0))")
                backend = yoyo.get_backend(_address(dsn))
                with closing(backend.connection):
                    missing = backend.to_apply(migrations)
                    backend.apply_migrations(missing)
        except psycopg.Error as error:
            raise MigrationError(
                f"the mall's structure could not be brought up to date: {error}",
                "Mend the cause and run it again: it goes on with the migration that failed.",
            ) from error
    return [one.id for one in missing]


def _address(dsn: str) -> str:
    """The connection string in the one form that yoyo reads: a URL, everything but the database's name in its query."""
    parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    database = parts.pop("dbname", "postgres")
    user, password = parts.pop("user", ""), parts.pop("password", "")
    who = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
    return f"postgresql+psycopg://{who + '@' if who else ''}/{quote(database, safe='')}?{urlencode(parts)}"
