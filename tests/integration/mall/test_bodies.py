"""Of a large body nothing is read that its sender may not send; what a form says in no charset is a bad request."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from litestar.testing import TestClient

from ballast.mall import accounts, sessions
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.web import bodies
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop


def answered(
    database: MallDatabase, path: str, headers: list[tuple[bytes, bytes]], cookie: str = ""
) -> tuple[int, int]:
    """(status, messages of the body that were asked for) of a POST whose body would be multipart."""

    async def run() -> tuple[int, int]:
        app = create_app(database.settings())
        asked, statuses = 0, list[int]()

        async def receive() -> Any:
            nonlocal asked
            asked += 1
            return {"type": "http.request", "body": b"--b--\r\n", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "headers": [
                (b"host", b"127.0.0.1"),
                (b"content-type", b"multipart/form-data; boundary=b"),
                (b"cookie", f"account={cookie}".encode()),
                *headers,
            ],
        }
        async with app.lifespan():
            await app(scope, receive, send)
        return statuses[0], asked

    return asyncio.run(run())


def signed_in(database: MallDatabase, shop_id: object | None, role: str = "owner") -> str:
    """A session of a new account, which works in the shop."""

    async def run() -> str:
        db = Database(database.settings())
        await db.open()
        try:
            async with db.identity() as connection:
                now = datetime.now(UTC)
                account = await accounts.add(
                    connection, login=f"u{new_id().hex}", name="U", password_hash="x", language="en", now=now
                )
                return await sessions.start(connection, account, "", "", now) + f" {account}"
        finally:
            await db.close()

    token, account = asyncio.run(run()).split()
    if shop_id:
        database.run("INSERT INTO mall.staff (shop_id, account_id, role) VALUES (%s, %s, %s)", shop_id, account, role)
    return token


LARGE = (b"content-length", str(bodies.MOST + 1).encode())
UNSAID = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize("length", [LARGE, UNSAID], ids=["large", "length not said"])
def test_an_upload_is_read_from_those_alone_who_may_send_it(
    mall_database: MallDatabase, open_shop: OpenShop, length: tuple[bytes, bytes]
) -> None:
    shop = open_shop()
    path = f"/merchant/{shop.slug}/pictures"
    assert answered(mall_database, path, [length]) == (303, 0)
    assert answered(mall_database, path, [length], "nonsense") == (303, 0)
    assert answered(mall_database, path, [length], signed_in(mall_database, None)) == (404, 0)
    assert answered(mall_database, path, [length], signed_in(mall_database, shop.shop_id, "viewer")) == (403, 0)
    # Who may send it is read, and needs the form's token as ever.
    status, asked = answered(mall_database, path, [length], signed_in(mall_database, shop.shop_id))
    assert (status, asked > 0) == (403, True)
    # Elsewhere so much is not taken from anybody.
    if length is LARGE:
        assert answered(mall_database, f"/s/{shop.slug}/coupons", [length]) == (413, 0)


@pytest.mark.parametrize("headers", [{}, {"x-csrftoken": "from the cookie"}], ids=["in the form", "in a header"])
def test_a_part_in_a_charset_that_nobody_knows_is_a_bad_request(
    mall_database: MallDatabase, open_shop: OpenShop, headers: dict[str, str]
) -> None:
    shop = open_shop()
    body = (
        b'--b\r\ncontent-disposition: form-data; name="code"\r\n'
        b"content-type: text/plain; charset=klingon\r\n\r\nX\r\n--b--\r\n"
    )
    with TestClient(create_app(mall_database.settings())) as client:
        client.get(f"/s/{shop.slug}/coupons")
        sent = {"content-type": "multipart/form-data; boundary=b"}
        if headers:
            sent["x-csrftoken"] = client.cookies["csrftoken"]
        assert client.post(f"/s/{shop.slug}/coupons", content=body, headers=sent).status_code == 400
