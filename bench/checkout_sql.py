"""The statements of a checkout for pgbench: recorded from the service itself as it places an order, so that both run the same.

What differs from order to order (ids, keys, the number, the goods) is made anew for each transaction by the statement that names
the shop, which the service sends, too; everything else is as in the recorded order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from ballast.mall import checkout, order_record, visitors
from ballast.mall.db import Database
from ballast.mall.ids import new_id, token_hash
from ballast.mall.owner import Owner
from ballast.mall.quoting import Address, Wanted
from bench.mall import PRODUCT, SHOP, SKU, Mall, made_id

_TOKEN = "guest-1-0"
HOME = Address("林小姐", "13800000000", "广东省", "深圳市", "南山区", "科技园路 1 号")


@dataclass
class _Recording:
    """A connection that notes what is executed on it."""

    connection: Any
    statements: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Any:
        self.statements.append((statement, parameters or {}))
        return await self.connection.execute(statement, parameters)


@dataclass(frozen=True)
class Script:
    """A pgbench script, and the variables that it is given with -D."""

    text: str
    given: dict[str, str]


def script(mall: Mall) -> Script:
    """Place one order, and make a script of how."""
    visitor, order_id, key = new_id(), new_id(), "key-of-the-recorded-order"
    sku, product = made_id(SKU, 10001), made_id(PRODUCT, 10001)

    async def record() -> tuple[list[tuple[str, Mapping[str, Any]]], checkout.Placed]:
        db = Database(mall.settings)
        await db.open()
        try:
            async with db.shop(made_id(SHOP, 1)) as connection:
                noted = _Recording(connection)
                # As the API does: first who has the token.
                await visitors.find(noted, _TOKEN, datetime.now(UTC))  # type: ignore[arg-type]
                placed = await checkout.place(
                    noted,  # type: ignore[arg-type]
                    Owner(visitor_id=visitor),
                    [Wanted(sku, 1)],
                    key=key,
                    address=HOME,
                    shown_fen=None,
                    now=datetime.now(UTC),
                    order_id=order_id,
                )
            return noted.statements, placed
        finally:
            await db.close()

    statements, placed = asyncio.run(record())
    other = order_record.numbers_of(order_id, datetime.now(UTC))[1]
    anew = {
        token_hash(_TOKEN).hex(): "i.token",
        str(visitor): "i.visitor", str(order_id): "i.order_id", key: "i.visitor", str(sku): "i.sku", str(product): "i.product",
        placed.number: "i.number", other: "i.other_number",
    }  # fmt: skip
    given: dict[str, str] = {}
    computed: dict[str, str] = {}
    lines: list[str] = []
    for statement, parameters in statements:
        names = {name: _variable(value, anew, given, computed) for name, value in parameters.items()}
        text = re.sub(r"%\((\w+)\)s", lambda found, names=names: names[found[1]], statement)  # type: ignore[misc]
        lines.append(text.replace("%%", "%").strip().rstrip(";") + ";")
    made = ", ".join(f"{expression} AS {name}" for name, expression in computed.items())
    first = _FIRST.format(more=f", {made}" if made else "")
    return Script("\n".join([first, *(_on_one_line(line) for line in lines), "COMMIT;"]), given)


_FIRST = """\\set s random(1, :measured)
\\set p random(1, :products)
\\set k random(0, 2)
BEGIN;
SELECT set_config('mall.shop', '00000001-0000-7000-8000-' || lpad(to_hex(:s ::bigint), 12, '0'), true){more} FROM ( \
SELECT *, 'A' || substr(md5(order_id), 1, 12) AS number, 'B' || substr(md5(order_id), 1, 12) AS other_number FROM ( \
SELECT uuidv7()::text AS order_id, uuidv7()::text AS visitor, \
encode(sha256(convert_to('guest-' || :s || '-0', 'UTF8')), 'hex') AS token, \
'000000' || to_hex(16 + :k ::integer) || '-0000-7000-8000-' || lpad(to_hex(:s ::bigint * 10000 + :p ::bigint), 12, '0') AS sku, \
'00000006-0000-7000-8000-' || lpad(to_hex(:s ::bigint * 10000 + :p ::bigint), 12, '0') AS product) j) i \\gset"""


def _variable(value: object, anew: Mapping[str, str], given: dict[str, str], computed: dict[str, str]) -> str:
    """The value as a variable of the script: computed where something of it differs from order to order."""
    if value is None:
        return "NULL"
    text = _as_text(value)
    if not text:
        return "''"
    name = f"v{len(given)}"
    known = next((one for one, there in given.items() if there == text), None)
    if known is None:
        given[name] = text
    name = known or name
    made = f":{name}"
    for old, new in anew.items():
        if old in text:
            made = f"replace({made} ::text, '{old}', {new})"
    if isinstance(value, UUID) and str(value) not in anew:
        made = "uuidv7()::text"
    if isinstance(value, list) and value and isinstance(value[0], UUID) and str(value[0]) not in anew:
        made = "ARRAY[uuidv7()]::text"
    if made == f":{name}":
        return made
    # A value that stands twice, such as an event's id, must be the same both times.
    computed.setdefault(f"c{name}", made)
    return f":c{name}"


def _as_text(value: object) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat()
        case list():
            return "{" + ",".join(_as_text(one) for one in value) + "}"
        case _:
            return str(value)


def _on_one_line(statement: str) -> str:
    return " ".join(line for line in statement.splitlines() if not line.lstrip().startswith("--"))


def write(mall: Mall, folder: Path) -> list[str]:
    """Write the script; pgbench's options for it."""
    made = script(mall)
    path = folder / "checkout.pgbench"
    path.write_text(made.text)
    path.chmod(0o644)
    given = {**made.given, "measured": str(mall.sizes.measured), "products": str(mall.sizes.products)}
    return ["-f", str(path), *(word for name, value in given.items() for word in ("-D", f"{name}={value}"))]
