"""The SQL of the mall, from the files in ``sql/``.

``queries.load("checkout").reserve`` is the text of ``-- name: reserve`` in checkout.sql. aiosql reads the files and turns
``:name`` into psycopg's ``%(name)s``; what is run, and on which connection, is said where it is used.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from types import SimpleNamespace

import aiosql


@cache
def load(name: str) -> SimpleNamespace:
    """The statements of ``sql/<name>.sql`` as texts, by their names.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    read = aiosql.from_str(text, "psycopg", mandatory_parameters=False)
    return SimpleNamespace(
        **{one: getattr(read, one).sql for one in read.available_queries if not one.endswith("_cursor")}
    )
