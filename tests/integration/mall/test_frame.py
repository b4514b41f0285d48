"""What holds for every page: headers, errors in the reader's language, 503 while the database is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.settings import Settings
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase


@pytest.fixture
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with TestClient(create_app(mall_database.settings(), handlers=[])) as client:
        yield client


def test_every_answer_has_the_security_headers(client: TestClient[Litestar]) -> None:
    for path in ("/healthz", "/no-such-page"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"


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
