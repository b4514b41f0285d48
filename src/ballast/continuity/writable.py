"""Whether a server takes writes from everybody, asked without writing anything that is logged.

It does not while it is in recovery, or while ``default_transaction_read_only`` is on for the whole server or for the database.
A role that a person has set read-only is that person's affair: others write. Room is asked for by what a sort does that does not
fit into memory: a temporary file, in each tablespace in use, which is gone at the end of the statement; it is in no log, needs no
right, and takes no transaction's number.
"""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg
from psycopg import sql

from ballast.continuity.helm import sign_of_error
from ballast.continuity.signs import REFUSALS, Sign

_SETTING = "default_transaction_read_only"
_FOR_SERVER = f"{_SETTING} is on for the server"
# What is set for the database or for all roles is read where it is set: a session has what held when it began. What is set for
# the server a session shows, unless its role has a setting of its own; then the server's files are asked, by who may.
_READ_ONLY = f"""
WITH said AS (
    SELECT setrole, setdatabase, split_part(one, '=', 2)::boolean AS is_on
    FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS one
    WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
      AND one LIKE '{_SETTING.replace("_", chr(92) + "_")}=%'
), of_all AS (
    SELECT is_on, setdatabase <> 0 AS of_database FROM said WHERE setrole = 0 ORDER BY setdatabase DESC LIMIT 1
)
SELECT CASE
    WHEN pg_catalog.pg_is_in_recovery() THEN 'it is in recovery, as a standby is'
    WHEN EXISTS (SELECT FROM of_all) THEN (
        SELECT CASE WHEN is_on THEN
            '{_SETTING} is on for ' || CASE WHEN of_database THEN 'the database' ELSE 'all roles' END ELSE '' END
        FROM of_all)
    WHEN EXISTS (SELECT FROM said WHERE setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user)) THEN NULL
    WHEN current_setting('{_SETTING}')::boolean THEN '{_FOR_SERVER}'
    ELSE '' END
"""
_IN_FILES = f"""
SELECT CASE WHEN setting::boolean THEN '{_FOR_SERVER}' ELSE '' END
FROM pg_catalog.pg_show_all_file_settings() WHERE name = '{_SETTING}' AND applied
"""
_TABLESPACES = """
SELECT DISTINCT s.spcname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
WHERE c.relkind IN ('r', 'i', 'm', 't') AND s.spcname <> 'pg_global'
"""
_PIECE_BYTES = 8000
# Of one reader a materialized query is kept all the same, and beyond work_mem in a file.
_TAKE_ROOM = """
WITH much AS MATERIALIZED (SELECT repeat('x', %s) AS piece FROM generate_series(1, %s)) SELECT sum(length(piece)) FROM much
"""
OPTIONS = "-c work_mem=64kB -c temp_tablespaces="
"""Of a session that asks."""


def why_read_only(connection: psycopg.Connection[Any]) -> str:
    """Why nobody may write there; "": everybody may, but for roles that are set so. The connection is in autocommit."""
    row = connection.execute(_READ_ONLY.encode()).fetchone()
    if row == (None,):
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            row = connection.execute(_IN_FILES.encode()).fetchone()
    return str(row[0] or "") if row else ""


def lacks_room(connection: psycopg.Connection[Any], wanted: int) -> tuple[Sign, str] | None:
    """Sign and the server's words where so many bytes cannot be written; None: they can. The session has `OPTIONS`. Where a
    file cannot be made in a tablespace the server says nothing, and makes it in the database's own."""
    spaces = [""] + [row[0] for row in connection.execute(_TABLESPACES.encode()).fetchall()]
    try:
        for space in spaces:
            connection.execute(
                sql.SQL("SET temp_tablespaces = {}").format(sql.Identifier(space) if space else sql.Literal(""))
            )
            connection.execute(_TAKE_ROOM.encode(), (_PIECE_BYTES, -(-wanted // _PIECE_BYTES)))
    except psycopg.Error as error:
        sign = sign_of_error(error)
        if sign in REFUSALS:
            return sign, str(error).strip()
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return Sign.READ_ONLY, str(
                error
            ).strip()  # a file, in a language unknown to `signs`: nothing else of it needs rights
        if not isinstance(error, psycopg.errors.ConfigurationLimitExceeded | psycopg.errors.UndefinedObject):
            raise  # but for temp_file_limit, and a tablespace that has just gone
    return None
