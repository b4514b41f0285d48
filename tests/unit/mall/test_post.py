"""Messages to a server over real sockets: connections are kept, and what is no answer is said to be none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ballast.mall.payments.post import Failed, Post

_LENGTH = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc"
_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n"
_NEWS = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + _LENGTH
_OPEN_END = b"HTTP/1.1 200 OK\r\n\r\nabc"
_LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"


class Answering:
    """A server that gives these answers, one after the other; None: it closes the connection instead."""

    def __init__(self, *answers: bytes | None, close_after: tuple[int, ...] = ()) -> None:
        self.answers, self.close_after = list(answers), close_after
        self.heard: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heard.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                writer.write(answer)
                if answer == _OPEN_END or len(self.heard) in self.close_after:
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


def _with(server: Answering, story: Callable[[Post, str], Awaitable[None]], timeout_s: float = 5.0) -> None:
    async def run() -> None:
        async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
            post = Post(timeout_s)
            port = listening.sockets[0].getsockname()[1]
            await asyncio.wait_for(story(post, f"http://127.0.0.1:{port}/a/b?c=d"), 20)
            await post.close()

    asyncio.run(run())


def test_answers_of_every_form_come_over_one_connection() -> None:
    server = Answering(_LENGTH, _CHUNKED, _NEWS, _LAST, _OPEN_END)

    async def story(post: Post, url: str) -> None:
        found = [await post.send(url, b'{"n":1}', {"signature": "t=1"}) for _ in range(5)]
        assert found == [(201, b"abc"), (200, b"abc"), (201, b"abc"), (200, b"abc"), (200, b"abc")]

    _with(server, story)
    assert server.connections == 2  # the fourth answer was the last of its connection
    head, _, body = server.heard[0].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert (first, body) == (b"POST /a/b?c=d HTTP/1.1", b'{"n":1}')
    assert {b"signature: t=1", b"Content-Type: application/json", b"Content-Length: 7"} <= set(lines)


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_message() -> None:
    server = Answering(_LENGTH, _LENGTH, None, _LENGTH, close_after=(1,))

    async def story(post: Post, url: str) -> None:
        assert await post.send(url, b"1", {}) == (201, b"abc")
        await asyncio.sleep(0.05)
        assert await post.send(url, b"2", {}) == (201, b"abc")  # the end of the first was seen
        assert await post.send(url, b"3", {}) == (201, b"abc")  # the end of the second came instead of an answer

    _with(server, story)
    assert [one[-1:] for one in server.heard] == [b"1", b"2", b"3", b"3"]


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", None, b""]
)
def test_no_answer_is_a_failure(answer: bytes | None) -> None:
    async def story(post: Post, url: str) -> None:
        with pytest.raises(Failed):
            await post.send(url, b"1", {})

    _with(Answering(answer), story, timeout_s=0.3)


def test_nobody_there_is_a_failure() -> None:
    async def story(post: Post, url: str) -> None:
        with pytest.raises(Failed):
            await post.send("http://127.0.0.1:9/", b"1", {})

    _with(Answering(), story)
