"""What a form asks for, in one transaction, then another page; where a rule refuses it, the same page with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Response
from litestar.response import Redirect

from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused


async def deed(
    transaction: AbstractAsyncContextManager[Connection],
    work: Callable[[Connection], Awaitable[Any]],
    again: Callable[[Refused], Awaitable[Response[Any]]],
    to: str | Callable[[Any], str],
) -> Response[Any]:
    """Do it, and send the browser on, so that a reload does not send the form again.

    Args:
        transaction: from the database; a refusal takes back what was done in it.
        work: what is to be done, input read from the form included.
        again: makes the page that shows why it was refused; it may open a transaction of its own.
        to: the path of the next page, or how it is made of what `work` gave.
    """
    try:
        async with transaction as connection:
            done = await work(connection)
    except Refused as error:
        return await again(error)
    return Redirect(to if isinstance(to, str) else to(done), status_code=303)
