"""What is said when all is up: where to go, and a way in for who has none yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg

from ballast.errors import BallastError
from ballast.mall import links
from ballast.mall.db import Database
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.up.platform import Platform
from ballast.up.ports import is_local

_SHOWN = 3
_SOME_SHOPS = "SELECT slug FROM mall.directory WHERE status = 'open' ORDER BY opened_at DESC, slug LIMIT %s"


def lines(platform: Platform, more: Sequence[str] = ()) -> list[str]:
    """Where everything is, one line each; `more` among them."""
    found, base = platform.mall, platform.mall.base_url.rstrip("/")
    try:
        token, slugs = asyncio.run(_ask(found))
    except (BallastError, psycopg.Error) as error:
        return [f"all parts are up, and the first page's data could not be asked for: {error}"]
    said = ["all parts are up", ""]
    if token is not None:
        said += [
            f"  first operator  {base}/link/{token}",
            "                  (works once, for a day: make your account there)",
        ]
    said += [f"  operators       {base}/platform", f"  merchants       {base}/merchant"]
    said += [f"  {'shops' if not at else '     '}           {base}/s/{slug}/" for at, slug in enumerate(slugs)]
    if platform.up.sandbox_port:
        said.append(f"  payments        {found.sandbox_url} (a sandbox: no money moves)")
        if not is_local(platform.up.sandbox_host):
            said.append("                  whoever reaches it pays without money: never where goods are real")
    said += more
    if platform.embedded:
        said.append(f"  database        psql '{platform.owner_dsn}'")
    said += [f"  data            {platform.folder} (logs in {platform.folder / 'logs'})"]
    said += [f"  protection      ballast status --config {platform.config_path}", "", "Ctrl-C stops all of it"]
    return said


async def _ask(found: Settings) -> tuple[str | None, list[str]]:
    db = Database(found)
    await db.open()
    try:
        token = None
        try:
            async with db.identity() as connection:
                token = await links.first_operator(connection, datetime.now(UTC))
        except Refused:
            pass  # there is an operator
        async with db.directory() as connection:
            rows = await (await connection.execute(_SOME_SHOPS, (_SHOWN,))).fetchall()
        return token, [str(row["slug"]) for row in rows]
    finally:
        await db.close()
