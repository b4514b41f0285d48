"""A client that costs next to nothing, since it shares two cores with what it measures: one connection, one request at a time."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case; `cookies` by name."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: bytes


class Client:
    """A kept connection to one address (http only), and the cookies that were set on it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}
        self._socket: socket.socket | None = None

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; a kept connection that was closed meanwhile is opened anew. Names of headers with _ for -."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        if self.cookies:
            more += "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()) + "\r\n"
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        sent = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{more}{length}\r\n".encode() + body
        try:
            answer = self._exchange(sent)
        except (ConnectionError, EOFError):
            self.close()
            answer = self._exchange(sent)
        self.cookies |= answer.cookies
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _exchange(self, sent: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), 30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(sent)
        there = b""
        while (end := there.find(b"\r\n\r\n")) < 0:
            there += self._more()
        first, *lines = there[:end].decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        cookies: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                cookies[key] = rest.split(";", 1)[0]
            else:
                headers[name.lower()] = value
        body = there[end + 4 :]
        if "chunked" in headers.get("transfer-encoding", ""):
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more()
        else:
            length = int(headers.get("content-length", "0"))
            while len(body) < length:
                body += self._more()
        return Answer(int(first.split(" ", 2)[1]), headers, cookies, body)

    def _more(self) -> bytes:
        assert self._socket is not None
        there = self._socket.recv(1 << 16)
        if not there:
            raise EOFError
        return there
