"""Shops are put into the database: the platform opens a batch of them, then each gets what belongs to it, in one transaction."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from uuid import UUID

import msgspec

from ballast.mall import passwords, queries, tables
from ballast.mall.accounts import check_password
from ballast.mall.db import Connection, Database
from ballast.mall.ids import derived
from ballast.mall.past import Past, payment_of
from ballast.mall.picture_store import PictureStore
from ballast.mall.rules.refused import Refused
from ballast.mall.sandbox.ledger import Ledger
from ballast.mall.seed import goods, lives, promises, sales
from ballast.mall.seed.people import DEMO_PHONE
from ballast.mall.seed.pictures import COUNT, SIDE, Painted, Put, paint
from ballast.mall.seed.words import Pair, Trade, words
from ballast.mall.settings import Settings

DEMO_LOGIN = "merchant@example.com"
"""The account that owns every seeded shop."""
MOST_VISIT_DAYS = 14
_OPENED_AT_ONCE = 200
_PICTURES = 6
"""Of a shop."""
_SCOPE = "seed"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Ids of shops must not depend on when they were seeded."""
_COLOURS = ("#07c160", "#0f766e", "#b45309", "#be123c", "#1d4ed8", "#6d28d9", "#15803d", "#a16207")
_DEARER = ("basic", "pro", "flagship").index
_PLANS = ("basic", "basic", "basic", "pro", "pro", "flagship")

Watch = Callable[[int], None]
"""Is told how many shops are done."""


class Seeded(msgspec.Struct, frozen=True):
    """What there is now. `slugs`: of all shops that were asked for, in their order."""

    shops: int
    """made now"""
    there: int
    """made by an earlier run"""
    rows: int
    """written now"""
    slugs: tuple[str, ...]
    login: str
    password: str | None
    """of the merchant's account and of each shop's demo customer; None where the account was there: its password stays"""
    phone: str
    """by which the demo customer logs in"""


class Plan(msgspec.Struct, frozen=True):
    """A shop that is to be, as it follows from the seed and its number."""

    shop_id: UUID
    slug: str
    name: Pair
    intro: Pair
    trade: Trade
    plan: str
    colour: str
    rng: Random
    number: int


class Beside(msgspec.Struct, frozen=True):
    """What is written to beside the database: the sandbox provider's book, a store of pictures for the first shops."""

    ledger: Ledger | None = None
    base_url: str = ""
    put: Put | None = None
    pictures: int = 0


def seed(
    settings: Settings,
    *,
    shops: int,
    orders: int,
    products: int = 20,
    seed: int = 1,
    pictures: int = 20,
    password: str | None = None,
    now: datetime | None = None,
    watch: Watch = lambda done: None,
) -> Seeded:
    """Make shops. Not to be called from a running event loop: there is `plant` for that.

    Args:
        settings: of the mall; its three roles are used, `owner_dsn` is not. The sandbox provider (`sandbox_file`) gets to know
            the payments, so that they can be refunded.
        shops: how many.
        orders: how many each has had over the last ninety days.
        products: how many each sells.
        seed: another one makes other shops beside those that are there.
        pictures: so many of the shops get pictures, from the first on; they go where `settings.pictures` says.
        password: of the merchant's account and the demo customers; None: one is made up.
        now: up to when orders go; the present by default.
        watch: is called as shops get done.

    Raises:
        Refused: another shop has the address of one that is to be made; the password is too short.
    """

    async def run() -> Seeded:
        db = Database(settings)
        await db.open()
        try:
            return await plant(
                db,
                shops=shops,
                orders=orders,
                products=products,
                seed=seed,
                beside=Beside(
                    Ledger(settings.sandbox_file) if orders else None,
                    settings.base_url,
                    PictureStore(settings.pictures, synced=False).put if pictures else None,
                    pictures,
                ),
                password=password,
                now=now,
                watch=watch,
            )
        finally:
            await db.close()

    return asyncio.run(run())


async def plant(
    db: Database,
    *,
    shops: int,
    orders: int,
    products: int = 20,
    seed: int = 1,
    beside: Beside = Beside(),
    password: str | None = None,
    now: datetime | None = None,
    watch: Watch = lambda done: None,
) -> Seeded:
    """As `seed`, over pools that are open."""
    now = now or datetime.now(UTC)
    plans = [planned(seed, number) for number in range(1, shops + 1)]
    chosen = password or secrets.token_urlsafe(9)
    check_password(chosen, DEMO_LOGIN)
    hashed = await passwords.hashed(chosen)
    merchant, is_new = await _merchant(db, hashed, now)
    made = there = rows = 0
    for first in range(0, shops, _OPENED_AT_ONCE):
        batch = plans[first : first + _OPENED_AT_ONCE]
        rows += await _open(db, batch, merchant, products, now)
        for plan in batch:
            written = await _fill(db, plan, beside, orders, products, hashed, now)
            made, there, rows = made + (written > 0), there + (written == 0), rows + written
            watch(made + there)
    return Seeded(
        made, there, rows, tuple(one.slug for one in plans), DEMO_LOGIN, chosen if is_new else None, DEMO_PHONE
    )


def planned(seed: int, number: int) -> Plan:
    """The `number`-th shop (from 1) of a seed."""
    known = words()
    rng = Random(f"ballast {seed} {number}")  # noqa: S311 - plausible, not secret
    trade = known.trades[(number - 1) % len(known.trades)]
    zh, en, latin = known.brands[int(rng.random() * len(known.brands))]
    which = f"{number}" if seed == 1 else f"{seed}-{number}"
    return Plan(
        derived(_EPOCH, "seed", seed, number),
        f"{latin}-{trade.slug}-{which}",
        (f"{zh}{trade.shop[0]}", f"{en} {trade.shop[1]}"),
        known.intros[int(rng.random() * len(known.intros))],
        trade,
        _PLANS[int(rng.random() * len(_PLANS))],
        _COLOURS[int(rng.random() * len(_COLOURS))],
        rng,
        number,
    )


async def _merchant(db: Database, password_hash: str, now: datetime) -> tuple[UUID, bool]:
    """The account that owns the shops, and whether it was made now."""
    async with db.identity() as connection:
        text = queries.load("accounts")
        made = await connection.execute(
            text.add,
            {
                "account_id": derived(_EPOCH, "seed", DEMO_LOGIN),
                "login": DEMO_LOGIN,
                "name": "演示商家 Demo",
                "password_hash": password_hash,
                "language": "zh",
                "operator": False,
                "now": now,
            },
        )
        if (row := await made.fetchone()) is not None:
            return UUID(str(row["account_id"])), True
        row = await (await connection.execute(text.by_login, {"login": DEMO_LOGIN})).fetchone()
        assert row is not None
        return UUID(str(row["account_id"])), False


async def _open(db: Database, plans: Sequence[Plan], merchant: UUID, products: int, now: datetime) -> int:
    """Those that are not there get their lines of the directory, their own rows and their owner. How many rows."""
    async with db.platform() as connection:
        cursor = await connection.execute(
            queries.load("seed").there, {"shops": [p.shop_id for p in plans], "slugs": [p.slug for p in plans]}
        )
        found = {row["slug"]: row["shop_id"] for row in await cursor.fetchall()}
        if foreign := [p.slug for p in plans if found.get(p.slug, p.shop_id) != p.shop_id]:
            raise Refused(
                "shop.slug_taken", f"Another shop has the address {foreign[0]!r}.", "Seed with another --seed."
            )
        rows = tables.Rows()
        for plan in plans:
            if plan.slug not in found:
                rows.add(*_opening(plan, merchant, products, now))
        await rows.write(connection)
    return rows.count


def _opening(plan: Plan, merchant: UUID, products: int, now: datetime) -> list[tables.Row]:
    opened_at = now - timedelta(days=300 + int(plan.rng.random() * 400))
    until = now + timedelta(days=30 + int(plan.rng.random() * 335))
    # A plan that has room for its products.
    chosen = max(plan.plan, "basic" if products <= 2_000 else "pro" if products <= 20_000 else "flagship", key=_DEARER)
    month_fen = {"basic": 29_900, "pro": 89_900, "flagship": 299_900}[chosen]
    months = max(1, round((until - opened_at).days / 30))
    return [
        tables.Directory(plan.shop_id, plan.slug, plan.name[0], plan.trade.industry, chosen, until, opened_at),
        tables.Shop(
            shop_id=plan.shop_id,
            name=plan.name[0],
            name_en=plan.name[1],
            intro=plan.intro[0],
            intro_en=plan.intro[1],
            service_phone="400-000-0000",
            language="zh",
            theme_colour=plan.colour,
            pickup_address="人民路1号",
            levels=promises.LEVELS,
            created_at=opened_at,
            updated_at=opened_at,
        ),
        tables.Staff(plan.shop_id, merchant, "owner", opened_at),
        tables.Subscription(plan.shop_id, plan.shop_id, chosen, opened_at, until, month_fen * months, opened_at),
    ]


async def _fill(
    db: Database, plan: Plan, beside: Beside, orders: int, products: int, customer_password: str, now: datetime
) -> int:
    """All that belongs to a shop, unless an earlier run has done it. How many rows; 0: it was done."""
    async with db.shop(plan.shop_id) as connection:
        if not await _claim(connection, plan, orders, products, now):
            return 0
        shown = await _pictures(plan, beside)
        rows, paid = content(plan, orders, products, shown, customer_password, now)
        if beside.ledger is not None:
            callback = f"{beside.base_url.rstrip('/')}/pay/callback/sandbox/{plan.shop_id}"
            beside.ledger.know_paid(
                [(str(one.provider_code), str(plan.shop_id), str(payment_of(one)), one.total_fen) for one in paid],
                callback,
            )
        await rows.write(connection)
        return rows.count


async def _pictures(plan: Plan, beside: Beside) -> list[Painted]:
    """In the store before the rows name them."""
    if beside.put is None or plan.number > beside.pictures:
        return []
    shown = [paint((plan.number * 7 + 5 * n) % COUNT) for n in range(_PICTURES)]
    for picture in shown:
        for width, data in picture.sizes:
            await beside.put(plan.shop_id, picture.picture, width, data)
    return shown


async def _claim(connection: Connection, plan: Plan, orders: int, products: int, now: datetime) -> bool:
    """The line that says that it is done is written in the transaction that does it."""
    asked = msgspec.json.encode({"orders": orders, "products": products})
    text, this = queries.load("idempotency"), {"scope": _SCOPE, "key": _SCOPE}
    cursor = await connection.execute(text.claim, {**this, "request_hash": sha256(asked).digest(), "now": now})
    if await cursor.fetchone() is None:
        return False
    await connection.execute(text.answer, {**this, "answer": asked.decode()})
    return True


def content(
    plan: Plan, orders: int, products: int, shown: Sequence[Painted], customer_password: str, now: datetime
) -> tuple[tables.Rows, list[Past]]:
    """All rows of a shop beside those that open it, and its orders that were paid."""
    # By itself, so that a shop that was opened by an earlier run gets the same as one that is opened now.
    rng = Random(f"content {plan.shop_id}")  # noqa: S311 - plausible, not secret
    pictures = [one.picture for one in shown]
    range_ = goods.make(rng, plan.shop_id, plan.trade, products, pictures, now)
    promised = promises.make(rng, plan.shop_id, range_, now)
    sold = sales.make(rng, plan.shop_id, range_, promised, orders, customer_password, now)
    rows = tables.Rows(
        [
            *(tables.Picture(one.picture, "image/webp", SIDE, SIDE, len(one.sizes[0][1]), now) for one in shown),
            promised.shipping,
            promised.full,
            *promised.limited,
            *promises.pages(plan.shop_id, plan.slug, plan.intro, range_, pictures, now),
            *range_.categories,
            *sold.products,
            *range_.in_category,
            *(item.sku for item in range_.items),
            *sold.rows,
            *lives.visits(rng, MOST_VISIT_DAYS if orders else 0, now),
        ]
    )
    return rows, sold.paid
