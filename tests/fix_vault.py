"""Places where a vault can be: a local folder, and an S3 bucket served over real HTTP on this machine.

- `vault_store` runs a test once on each. It is a `Place`: the store, and means to damage it that no store offers.
- `folder_place` and `bucket_place` give one of them.
- `s3_requests` is every request that the S3 server gets meanwhile; `Line` a way to it that can be cut.
"""

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from ballast.vault.store import FolderStore, Store, open_store

_BUCKET = "ballast-test"
_places = itertools.count(1)
_servers: dict[str, Any] = {}
"""Endpoint → werkzeug's server."""


@dataclass
class Place:
    """Where one test's vault is. `write` and `remove` do what an intruder or a broken disk does."""

    store: Store
    write: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    kind: str

    @property
    def url(self) -> str:
        return self.store.url

    def names(self, prefix: str = "") -> list[str]:
        """Every object's name."""
        return [name for name, _ in self.store.list(prefix)]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 over HTTP on the loopback interface, with an empty bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    _servers[endpoint] = server._server
    _client(endpoint).create_bucket(Bucket=_BUCKET)
    yield endpoint
    server.stop()


class Asked(NamedTuple):
    """A request as the S3 server got it."""

    method: str
    path: str
    query: str
    if_none_match: str


@pytest.fixture(scope="session")
def _s3_log(s3_endpoint: str) -> list[Asked]:
    """Grows with each request."""
    log: list[Asked] = []
    app = _servers[s3_endpoint].app

    def listening(environ: dict[str, Any], start_response: Any) -> Any:
        asked = (environ.get(name, "") for name in ("PATH_INFO", "QUERY_STRING", "HTTP_IF_NONE_MATCH"))
        log.append(Asked(environ["REQUEST_METHOD"], *asked))
        return app(environ, start_response)

    _servers[s3_endpoint].app = listening
    return log


@pytest.fixture
def s3_requests(_s3_log: list[Asked]) -> list[Asked]:
    """What the S3 server was asked since this test began."""
    _s3_log.clear()
    return _s3_log


class Line:
    """A TCP port of this machine that leads to another, until it is cut; then nobody answers there. One that is frozen takes what
    it is given, and passes nothing on."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("/")[2].rpartition(":")
        self._target = (host, int(port))
        self._socket = self._listen(0)
        self.port: int = self._socket.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._ends: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._accept()

    def freeze(self) -> None:
        """Who asks waits."""
        self._flows.clear()

    def thaw(self) -> None:
        """As before, with what was held back."""
        self._flows.set()

    def cut(self) -> None:
        """Refuse new connections, end those there are."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """As before."""
        self._socket = self._listen(self.port)
        self._accept()

    @staticmethod
    def _listen(port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), reuse_port=False)

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def _serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(self._target)
                self._ends |= {near, far}
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, a: socket.socket, b: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                self._flows.wait()
                b.sendall(data)
        for end in (a, b):
            self._ends.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(s3_endpoint: str) -> Iterator[Line]:
    """A line to the S3 server."""
    line = Line(s3_endpoint)
    yield line
    with contextlib.suppress(OSError):
        line.cut()


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    """A vault's place in a local folder."""
    store = open_store(tmp_path / "vault")
    assert isinstance(store, FolderStore)
    store.begin()
    root = store.root

    def write(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return Place(store, write, lambda name: (root / name).unlink(), "folder")


@pytest.fixture
def bucket_place(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A vault's place in an S3 bucket."""
    for name, value in s3_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    prefix = new_prefix()
    client = _client(s3_endpoint)

    def write(name: str, data: bytes) -> None:
        client.put_object(Bucket=_BUCKET, Key=f"{prefix}/{name}", Body=data)

    def remove(name: str) -> None:
        client.delete_object(Bucket=_BUCKET, Key=f"{prefix}/{name}")

    return Place(open_store(f"s3://{_BUCKET}/{prefix}"), write, remove, "s3")


@pytest.fixture(params=["folder", "s3"])
def vault_store(request: pytest.FixtureRequest) -> Place:
    """A vault's place, on each kind of store in turn."""
    place: Place = request.getfixturevalue("folder_place" if request.param == "folder" else "bucket_place")
    return place


def new_prefix() -> str:
    """A place in the bucket that nobody has used."""
    return f"place{next(_places)}"


def bucket_url() -> str:
    """The address of such a place."""
    return f"s3://{_BUCKET}/{new_prefix()}"


def s3_environment(endpoint: str) -> dict[str, str]:
    """The variables under which `s3://` means the test's server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
