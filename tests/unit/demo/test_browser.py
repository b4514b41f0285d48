"""The replay's browser beside a small server: cookies, the page's token, and connections that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ballast.demo.browser import Browser, GaveUp, Page, connections
from ballast.demo.visits import Visit

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ID = "0190c2a4-0000-7000-8000-00000000000{}"


@asynccontextmanager
async def _visiting(answer: Answer) -> AsyncIterator[tuple[Browser, list[Visit]]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    seen: list[Visit] = []
    async with connections() as session:
        yield Browser(f"http://{host}:{port}", "tea", session, seen.append), seen
    await runner.cleanup()


def test_a_form_brings_the_cookies_that_its_page_gave_and_the_token() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            page = web.Response(text="a page")
            page.set_cookie("csrftoken", "of this one", path="/")
            page.set_cookie("visitor", "somebody", path="/s/tea")
            return page
        form = await request.post()
        told = f"{form['_csrf_token']}|{form.getall('line')}|{sorted(request.cookies)}"
        return web.Response(status=303, headers={"location": "/s/tea/orders"}, text=told)

    async def visit() -> None:
        async with _visiting(answer) as (browser, seen):
            await browser.see("/s/tea/")
            inside = await browser.send("/s/tea/checkout", {"line": ["a:1", "b:2"]})
            outside = await browser.send("/elsewhere", {"line": "a"})
            assert inside.text == "of this one|['a:1', 'b:2']|['csrftoken', 'visitor']"
            assert inside.location == "/s/tea/orders"
            assert outside.text == "of this one|['a']|['csrftoken']"
            assert [one.good for one in seen] == [True] * 3

    asyncio.run(visit())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_ends_is_no_error_of_a_page_and_one_of_a_form(method: str) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        if len(asked) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=200)

    async def visit() -> list[Visit]:
        async with _visiting(answer) as (browser, seen):
            await browser.see("/s/tea/")
            await (browser.see("/s/tea/") if method == "GET" else browser.send("/s/tea/", {}, right=(200,)))
        return seen

    seen = asyncio.run(visit())
    assert [one.good for one in seen] == ([True, True] if method == "GET" else [True, False, True])
    assert asked == ["GET", method, method]


def test_who_meets_nothing_but_errors_gives_up_and_each_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ballast.demo.browser.AGAIN_S", 0.01)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503)

    async def visit() -> list[Visit]:
        async with _visiting(answer) as (browser, seen):
            with pytest.raises(GaveUp, match="GET /s/…/orders"):
                await browser.see("/s/tea/orders")
        return seen

    assert [one.what for one in asyncio.run(visit())] == ["GET /s/…/orders: HTTP 503"] * 4


def test_ids_are_those_that_stand_after_the_text_each_once() -> None:
    one, two, other = (_ID.format(n) for n in range(3))
    text = f'<a href="/s/tea/products/{two}"><a href="/s/tea/products/{one}"><a href="/s/tea/products/{two}">'
    page = Page(200, f'{text}<a href="/s/tea/products/new"><a href="/s/tea/orders/{other}">', {})
    assert page.ids("/s/tea/products/") == [two, one]
    assert page.ids("/s/wear/products/") == []
