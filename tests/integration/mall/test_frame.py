"""What holds for every page: headers, errors in the reader's language, 503 while the database is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
import pytest
from litestar import Litestar, get
from litestar.testing import TestClient

from ballast.mall.settings import Settings, load, to_environ
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase


@pytest.fixture
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with TestClient(create_app(mall_database.settings(), handlers=[])) as client:
        yield client


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the application writes into its log. (Litestar takes the handlers of the root logger away, and pytest's with them.)"""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    kept, log = Kept(), logging.getLogger("ballast.mall.web.app")
    log.addHandler(kept)
    yield lines
    log.removeHandler(kept)


def test_every_answer_has_the_security_headers(client: TestClient[Litestar]) -> None:
    for path in ("/healthz", "/no-such-page"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"


def test_where_browsers_come_by_https_they_are_asked_to_come_by_nothing_else(mall_database: MallDatabase) -> None:
    given = to_environ(mall_database.settings(base_url="https://mall.example"), without=("owner_dsn",))
    del given["BALLAST_MALL_SECURE_COOKIES"]
    for base, secure in (("https://mall.example", True), ("http://127.0.0.1:8000", False)):
        settings = load(None, {**given, "BALLAST_MALL_BASE_URL": base})
        assert settings.secure_cookies is secure
        with TestClient(create_app(settings), base_url=base) as client:
            answer = client.get("/signin")
        assert ("strict-transport-security" in answer.headers) is secure
        assert ("secure" in answer.headers["set-cookie"].lower()) is secure
    said = {**given, "BALLAST_MALL_SECURE_COOKIES": "false"}
    assert load(None, said).secure_cookies is False


def test_an_error_speaks_the_readers_language(client: TestClient[Litestar]) -> None:
    assert "找不到这个页面" in client.get("/no-such-page").text
    assert "There is no such page" in client.get("/no-such-page", headers={"Accept-Language": "en-GB,en;q=0.9"}).text
    assert "找不到这个页面" in client.get("/no-such-page?lang=zh", headers={"Accept-Language": "en"}).text


def test_without_its_database_a_process_starts_and_says_503(mall_database: MallDatabase) -> None:
    away = Settings(
        app_dsn="host=/nowhere", identity_dsn="host=/nowhere", platform_dsn="host=/nowhere", secret="s" * 32
    )
    with TestClient(create_app(away, handlers=[])) as client:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_fault_is_a_page_and_stands_in_the_log(mall_database: MallDatabase, logged: list[str]) -> None:
    @get("/breaks")
    async def breaks() -> str:
        raise ZeroDivisionError("a secret that no reader sees")

    with TestClient(create_app(mall_database.settings(), handlers=[breaks])) as client:
        client.cookies.set("lang", "en")
        answer = client.get("/breaks")
    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert "secret" not in answer.text
    assert "GET /breaks broke" in "".join(logged)
    assert "ZeroDivisionError" in "".join(logged)


def test_a_table_that_somebody_dropped_is_a_database_that_is_away(
    mall_database: MallDatabase, logged: list[str]
) -> None:
    @get("/breaks")
    async def breaks() -> str:
        raise psycopg.errors.UndefinedTable('relation "mall.page" does not exist')

    with TestClient(create_app(mall_database.settings(), handlers=[breaks])) as client:
        answer = client.get("/breaks")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "mall.page" not in answer.text
    assert "mall.page" in "".join(logged)
