"""A shop's own software is told what happens, over real HTTP: it is down, slow, says 500, leads elsewhere; the worker is killed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest

from ballast.mall import jobs, outbox, webhooks
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.rules.refused import Refused
from ballast.mall.safe import Safe
from ballast.mall.webhooks import endpoints, reach, schedule, signature
from tests.fix_mall import MallDatabase, OpenShop, Shop

T = TypeVar("T")
NOW = datetime.now(UTC)
BY = By(None, "tester")


class Receiver:
    """A shop's software: what it heard, and how it answers."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.body, self.location = 200, b"thanks", ""
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                receiver.asked.set()
                receiver.may_answer.wait(30)
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("location", receiver.location)
                self.send_header("content-length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?shop=1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def at_work(shop: Shop, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        db = Database(shop.database.settings())
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


def safe(shop: Shop) -> Safe:
    return signature.safe(shop.database.secret)


def register(shop: Shop, url: str, kinds: tuple[str, ...] = ("order.paid",)) -> endpoints.Registered:
    async def work(db: Database) -> endpoints.Registered:
        async with db.shop(shop.shop_id) as connection:
            return await endpoints.register(
                connection, shop.shop_id, url, kinds, BY, NOW, safe=safe(shop), private=True
            )

    return at_work(shop, work)


def happen(shop: Shop, kind: str = "order.paid", body: dict[str, object] | None = None) -> UUID:
    """Something happens in the shop, and is handed out."""

    async def work(db: Database) -> UUID:
        async with db.shop(shop.shop_id) as connection:
            event = await outbox.write(connection, kind, body or {"order_id": "7"}, NOW)
        await jobs.hand_out(db, [webhooks.subscribe], NOW)
        return event

    return at_work(shop, work)


def deliver(shop: Shop, now: datetime = NOW, private: bool = True) -> int:
    return at_work(shop, lambda db: sending(db, now, safe(shop), private=private))


async def sending(db: Database, now: datetime, by: Safe, *, private: bool = True) -> int:
    """One look for what is due, and until all of it was sent. How many were heard."""
    async with webhooks.Sender(db, by, private=private) as sender:
        await sender.begin_due(now, within_s=30)
    return sender.heard


def forget_others(shop: Shop) -> None:
    """What earlier tests left waiting, in shops of theirs."""
    shop.database.run("UPDATE mall.webhook_delivery SET status = 'given_up', next_at = NULL WHERE status = 'waiting'")


def messages(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.database.run(
        "SELECT status, attempts, answer_status, answer_excerpt, next_at FROM mall.webhook_delivery WHERE shop_id = %s ORDER BY event_id",
        shop.shop_id,
    )


def signed(secret: str, headers: dict[str, str], body: bytes) -> str:
    """What a receiver works out, by the standard's own words."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_what_happened_is_told_once_signed_and_only_to_who_wants_to_hear_it(
    open_shop: OpenShop, receiver: Receiver
) -> None:
    shop, other = open_shop(), open_shop()
    hook = register(shop, receiver.url)
    register(other, receiver.url)
    event = happen(shop, body={"order_id": "7", "note": "茶 <b>"})
    happen(shop, "order.shipped")
    at_work(shop, lambda db: jobs.hand_out(db, [webhooks.subscribe], NOW))
    assert [deliver(shop), deliver(shop)] == [1, 0]
    ((path, headers, body),) = receiver.heard
    assert (path, headers["webhook-id"]) == ("/hook?shop=1", str(event))
    assert headers["webhook-signature"] == signed(hook.secret, headers, body)
    assert abs(int(headers["webhook-timestamp"]) - NOW.timestamp()) < 2
    told = json.loads(body)
    assert (told["type"], told["data"]) == ("order.paid", {"order_id": "7", "note": "茶 <b>"})
    assert datetime.fromisoformat(told["timestamp"]) == NOW
    assert [one[:4] for one in messages(shop)] == [("delivered", 1, 200, "thanks")]


def test_a_new_secret_signs_beside_the_old_one_for_a_day(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    hook = register(shop, receiver.url)

    async def rotate(db: Database) -> str:
        async with db.shop(shop.shop_id) as connection:
            return await endpoints.rotate(connection, shop.shop_id, hook.webhook_id, BY, NOW, safe=safe(shop))

    new = at_work(shop, rotate)
    for later in (timedelta(hours=1), timedelta(hours=25)):
        happen(shop)
        deliver(shop, NOW + later)
    both, one = ((headers["webhook-signature"].split(" "), headers, body) for _, headers, body in receiver.heard)
    assert set(both[0]) == {signed(new, *both[1:]), signed(hook.secret, *both[1:])}
    assert one[0] == [signed(new, *one[1:])]


def test_a_webhooks_secrets_are_read_in_no_table_and_sign_nothing_with_another_platforms_secret(
    open_shop: OpenShop, receiver: Receiver
) -> None:
    shop = open_shop()
    hook = register(shop, receiver.url)

    async def rotate(db: Database) -> str:
        async with db.shop(shop.shop_id) as connection:
            return await endpoints.rotate(connection, shop.shop_id, hook.webhook_id, BY, NOW, safe=safe(shop))

    new = at_work(shop, rotate)
    ((kept, old),) = shop.database.run(
        "SELECT secret, old_secret FROM mall.webhook WHERE webhook_id = %s", hook.webhook_id
    )
    assert [safe(shop).open(kept), safe(shop).open(old)] == [new, hook.secret]
    written = "".join(str(shop.database.run(f"SELECT * FROM mall.{table}")) for table in ("webhook", "audit"))
    assert new not in written
    assert hook.secret not in written
    happen(shop)
    other = signature.safe("f" * 64)
    assert at_work(shop, lambda db: sending(db, NOW, other)) == 0
    assert receiver.heard == []
    # The right secret is given back: nothing was lost.
    assert deliver(shop, NOW + webhooks.sending.LEASE) == 1


def test_who_says_500_is_told_again_later_and_in_the_end_no_more(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    register(shop, receiver.url)
    happen(shop)
    receiver.status, receiver.body = 500, b"no\x00 " + b"x" * 5000
    now, moments = NOW, [NOW]
    while True:
        assert deliver(shop, now) == 0
        ((status, attempts, answer, excerpt, next_at),) = messages(shop)
        assert (answer, attempts) == (500, len(moments))
        assert len(excerpt) < 1100
        if status == "given_up":
            break
        assert deliver(shop, next_at - timedelta(seconds=1)) == 0
        assert len(receiver.heard) == len(moments)
        now = next_at
        moments.append(now)
    assert len(moments) == schedule.MOST_ATTEMPTS
    assert timedelta(hours=18) < moments[-1] - moments[0] < timedelta(hours=36)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.heard}) == 1
    assert len({body for *_, body in receiver.heard}) == 1
    receiver.status = 200
    assert deliver(shop, now + timedelta(days=9)) == 0


def test_who_answers_again_is_as_good_as_before_and_who_is_silent_for_days_is_turned_off(
    open_shop: OpenShop, receiver: Receiver
) -> None:
    shop = open_shop()
    hook = register(shop, receiver.url)
    receiver.status = 503

    def stands() -> tuple[Any, ...]:
        return shop.database.run(
            "SELECT active, failing_since, stopped_at FROM mall.webhook WHERE webhook_id = %s", hook.webhook_id
        )[0]

    happen(shop)
    deliver(shop)
    assert stands() == (True, NOW, None)
    receiver.status = 204
    assert deliver(shop, NOW + timedelta(hours=1)) == 1
    assert stands() == (True, None, None)
    receiver.status = 503
    happen(shop)
    deliver(shop, NOW + timedelta(hours=2))
    happen(shop)
    deliver(shop, NOW + timedelta(hours=2) + schedule.STOP_AFTER)
    assert stands() == (False, NOW + timedelta(hours=2), NOW + timedelta(hours=2) + schedule.STOP_AFTER)
    assert {one[0] for one in messages(shop)} == {"delivered", "given_up"}
    assert ("job", "webhook.stopped") in shop.database.run(
        "SELECT actor, action FROM mall.audit WHERE shop_id = %s", shop.shop_id
    )
    heard = len(receiver.heard)
    happen(shop)
    assert deliver(shop, NOW + timedelta(days=9)) == 0
    assert len(receiver.heard) == heard


def test_who_says_410_wants_no_more(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    register(shop, receiver.url)
    receiver.status = 410
    happen(shop)
    deliver(shop)
    assert shop.database.run("SELECT active FROM mall.webhook WHERE shop_id = %s", shop.shop_id) == [(False,)]


def test_who_is_down_is_told_when_he_is_back_and_others_do_not_wait(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    down = Receiver()
    down.close()
    register(shop, down.url)
    register(shop, receiver.url)
    happen(shop)
    assert deliver(shop) == 1
    assert sorted((one[0], one[2]) for one in messages(shop)) == [("delivered", 200), ("waiting", None)]
    assert any("Connect" in one[3] for one in messages(shop))
    shop.database.run("UPDATE mall.webhook SET url = %s WHERE url = %s", receiver.url, down.url)
    assert deliver(shop, NOW + timedelta(minutes=1)) == 1
    first, second = (headers["webhook-id"] for _, headers, _ in receiver.heard)
    assert first == second


def test_no_redirect_is_followed_and_nothing_inside_is_reached(
    open_shop: OpenShop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop()
    inside = Receiver()
    register(shop, receiver.url)
    happen(shop)
    receiver.status, receiver.location = 307, inside.url
    # A proxy that the environment names is not used either.
    monkeypatch.setenv("HTTP_PROXY", inside.url)
    monkeypatch.setenv("ALL_PROXY", inside.url)
    assert deliver(shop) == 0
    assert [one[:3] for one in messages(shop)] == [("waiting", 1, 307)]
    # Without the leave for private addresses nothing is sent at all, by whatever name.
    shop.database.run(
        "UPDATE mall.webhook SET url = %s WHERE shop_id = %s",
        inside.url.replace("http", "https").replace("127.0.0.1", "localhost"),
        shop.shop_id,
    )
    assert deliver(shop, NOW + timedelta(hours=1), private=False) == 0
    assert "not public" in messages(shop)[0][3]
    assert inside.heard == []
    inside.close()


def test_what_can_never_be_called_is_not_registered(open_shop: OpenShop) -> None:
    shop = open_shop()

    def refused(url: str) -> str:
        async def work(db: Database) -> str:
            try:
                async with db.shop(shop.shop_id) as connection:
                    await endpoints.register(connection, shop.shop_id, url, ["order.paid"], BY, NOW, safe=safe(shop))
            except Refused as error:
                return error.key
            return ""

        return at_work(shop, work)

    for url in (
        "http://example.com/x",
        "https://10.0.0.1/x",
        "https://[::1]/x",
        "nonsense",
        "",
        "https://a.example/" + "x" * 500,
    ):
        assert refused(url) == "webhook.url", url
    assert [refused(f"https://example.com/{n}") for n in range(endpoints.MOST + 1)] == [""] * endpoints.MOST + [
        "webhook.most"
    ]


def test_who_is_slow_is_not_waited_for_longer_than_the_limit(
    open_shop: OpenShop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop()
    register(shop, receiver.url)
    happen(shop)
    receiver.may_answer.clear()
    monkeypatch.setattr(reach, "TIMEOUT_S", 0.3)
    assert deliver(shop) == 0
    assert [one[:3] for one in messages(shop)] == [("waiting", 1, None)]
    assert "No answer" in messages(shop)[0][3]


def test_a_message_is_sent_again_by_the_logs_button_under_its_own_id(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    hook = register(shop, receiver.url)
    event = happen(shop)
    deliver(shop)

    async def again(connection: Connection) -> None:
        (one,) = await endpoints.log(connection, hook.webhook_id)
        await endpoints.redeliver(connection, shop.shop_id, hook.webhook_id, one.delivery_id, BY, NOW)

    async def work(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            await again(connection)

    at_work(shop, work)
    assert deliver(shop) == 1
    assert [headers["webhook-id"] for _, headers, _ in receiver.heard] == [str(event)] * 2
    assert [one[:3] for one in messages(shop)] == [("delivered", 1, 200)]

    async def off(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            await endpoints.turn(connection, shop.shop_id, hook.webhook_id, False, BY, NOW)
            await again(connection)

    with pytest.raises(Refused, match="turned off"):
        at_work(shop, off)


def test_ten_workers_at_once_tell_it_once(open_shop: OpenShop, receiver: Receiver) -> None:
    shop = open_shop()
    register(shop, receiver.url)
    events = {str(happen(shop)) for _ in range(5)}

    async def work(db: Database) -> list[int]:
        return list(await asyncio.gather(*(sending(db, NOW, safe(shop)) for _ in range(10))))

    assert sum(at_work(shop, work)) == 5
    assert sorted(headers["webhook-id"] for _, headers, _ in receiver.heard) == sorted(events)


def test_who_has_much_to_hear_keeps_nobody_waiting(open_shop: OpenShop, receiver: Receiver) -> None:
    busy, quiet = open_shop(), open_shop()
    register(busy, receiver.url)
    heard = Receiver()
    register(quiet, heard.url)

    async def much(db: Database) -> None:
        async with db.shop(busy.shop_id) as connection:
            for _ in range(2 * webhooks.sending.OF_EACH):
                await outbox.write(connection, "order.paid", {}, NOW - timedelta(minutes=5))
        await jobs.hand_out(db, [webhooks.subscribe], NOW)

    at_work(busy, much)
    happen(quiet)
    assert deliver(busy) == webhooks.sending.OF_EACH + 1
    assert (len(receiver.heard), len(heard.heard)) == (webhooks.sending.OF_EACH, 1)
    heard.close()


def test_receivers_that_keep_us_waiting_wait_for_each_other(open_shop: OpenShop, receiver: Receiver) -> None:
    slow, quick = open_shop(), open_shop()
    forget_others(slow)
    for _ in range(2):
        register(slow, receiver.url)
    receiver.may_answer.clear()  # it takes what it is sent, and says nothing

    async def much(db: Database) -> None:
        async with db.shop(slow.shop_id) as connection:
            for _ in range(webhooks.sending.OF_SHOP):
                await outbox.write(connection, "order.paid", {}, NOW - timedelta(minutes=5))
        await jobs.hand_out(db, [webhooks.subscribe], NOW)

    at_work(slow, much)
    answers = Receiver()
    register(quick, answers.url)

    async def work(db: Database) -> tuple[int, int]:
        async with webhooks.Sender(db, safe(quick), private=True) as sender:
            first = await sender.begin_due(NOW, within_s=0)
            async with db.shop(quick.shop_id) as connection:
                await outbox.write(connection, "order.paid", {}, NOW)
            await jobs.hand_out(db, [webhooks.subscribe], NOW)
            second = await sender.begin_due(NOW, within_s=0)  # while the slow one's are all under way
            await asyncio.to_thread(answers.asked.wait, 20)
            receiver.may_answer.set()
        return first, second

    assert at_work(slow, work) == (webhooks.sending.OF_SHOP, 1)
    assert len(answers.heard) == 1
    answers.close()


def test_webhooks_that_were_not_heard_take_a_part_of_the_places(open_shop: OpenShop, receiver: Receiver) -> None:
    shops = [open_shop() for _ in range(3)]
    forget_others(shops[0])
    for shop in shops:
        register(shop, receiver.url)
        shop.database.run("UPDATE mall.webhook SET failing_since = %s WHERE shop_id = %s", NOW, shop.shop_id)

    async def much(db: Database) -> None:
        for shop in shops:
            async with db.shop(shop.shop_id) as connection:
                for _ in range(webhooks.sending.OF_SHOP):
                    await outbox.write(connection, "order.paid", {}, NOW - timedelta(minutes=5))
        await jobs.hand_out(db, [webhooks.subscribe], NOW)

    at_work(shops[0], much)

    async def work(db: Database) -> int:
        async with webhooks.Sender(db, safe(shops[0]), private=True) as sender:
            return await sender.begin_due(NOW, within_s=0)

    assert at_work(shops[0], work) == webhooks.sending.OF_FAILING
    deliver(shops[0])


WORKER = """
import asyncio, os
from datetime import UTC, datetime
import msgspec
from ballast.mall import webhooks
from ballast.mall.db import Database
from ballast.mall.settings import Settings
from ballast.mall.webhooks import signature

async def main():
    settings = msgspec.json.decode(os.environ["SETTINGS"], type=Settings)
    db = Database(settings)
    await db.open()
    async with webhooks.Sender(db, signature.safe(settings.secret), private=True) as sender:
        await sender.begin_due(datetime.now(UTC))

asyncio.run(main())
"""


def test_a_worker_that_is_killed_while_it_tells_has_it_told_again_by_the_same_id(
    mall_database: MallDatabase, open_shop: OpenShop, receiver: Receiver
) -> None:
    shop = open_shop()
    register(shop, receiver.url)
    event = happen(shop)
    receiver.may_answer.clear()
    settings = msgspec.json.encode(mall_database.settings()).decode()
    environ = os.environ | {"SETTINGS": settings, "PYTHONPATH": os.pathsep.join(sys.path)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environ)
    try:
        assert receiver.asked.wait(30)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    receiver.may_answer.set()
    assert messages(shop)[0][:2] == ("waiting", 1)
    # Nobody else takes it before the lease is over; then it is told again, and noted.
    assert deliver(shop, datetime.now(UTC)) == 0
    assert deliver(shop, datetime.now(UTC) + webhooks.sending.LEASE) == 1
    assert [headers["webhook-id"] for _, headers, _ in receiver.heard] == [str(event)] * 2
    assert [one[:3] for one in messages(shop)] == [("delivered", 2, 200)]
