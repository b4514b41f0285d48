"""The OpenAPI document against the real application under a real HTTP server: schemathesis makes up requests from it, good
and bad ones, and looks whether every answer is one that the document promises.

`BALLAST_SCHEMATHESIS_EXAMPLES` says how many are made up for each operation (a few in CI).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server

from ballast.mall.web.api import examples
from ballast.mall.web.api.document import built
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import Caller, key_of, shopper_of

EXAMPLES = os.environ.get("BALLAST_SCHEMATHESIS_EXAMPLES", "1")
SESSIONS = ("signUp", "signIn", "signOut")
"""These end the token that they are called with."""
# Left out: what fixed tokens and ids cannot decide (test_api and test_break_in do), and Allow in the answer to OPTIONS, in which
# Litestar names the methods of a path's first handler only (in that to a wrong method it names all).
NOT_CHECKED = (
    "positive_data_acceptance",
    "use_after_free",
    "ensure_resource_availability",
    "object_level_authorization",
    "allow_header_conformance",
)


@dataclass(frozen=True)
class Served:
    """The application at an address."""

    url: str
    client: httpx.Client


@pytest.fixture(scope="module")
def served(mall_database: MallDatabase) -> Iterator[Served]:
    """Under Granian, in this process, with no limit that a test could reach."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    limits = {f"api_{one}_per_minute": 10**9 for one in ("caller", "address", "shop")}
    app = create_app(mall_database.settings(pool_size=4, sandbox_url="http://127.0.0.1:9", base_url=url, **limits))
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()), daemon=True)
    thread.start()
    with httpx.Client(base_url=url) as client:
        for _ in range(100):
            try:
                if client.get("/healthz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Served(url, client)
    loop.call_soon_threadsafe(server.stop)
    thread.join(20)


def test_every_body_has_an_example_that_fits() -> None:
    found = built()
    schemas = found["components"]["schemas"]
    for kind, example in examples.by_kind().items():
        msgspec.convert(msgspec.to_builtins(example), kind)
    wanted = []
    for methods in found["paths"].values():
        for operation in (one for name, one in methods.items() if name in ("get", "post", "put", "patch", "delete")):
            bodies = [operation.get("requestBody", {})]
            bodies += [one for status, one in operation["responses"].items() if status.startswith("2")]
            for body in bodies:
                schema = body.get("content", {}).get("application/json", {}).get("schema", {})
                if body.get("content", {}).get("application/json"):
                    wanted.append(schema["$ref"].rpartition("/")[2])
    assert len(wanted) > 80
    assert [name for name in wanted if "examples" not in schemas[name]] == []


def _member(served: Served, shop: Shop) -> Caller:
    caller = shopper_of(served.client, shop)
    login = {"login": f"{shop.slug}@example.com", "password": "four words in one"}
    caller.token = caller.call("POST", "/sign-up", login, status=201)["token"]
    return caller


def _config(folder: Path, shop: Shop, token: str, ids: dict[str, str]) -> Path:
    known = [f"{json.dumps('path.' + name)} = {json.dumps(value)}" for name, value in ids.items()]
    lines = [
        "[parameters]",
        *known,
        "[auth.openapi.visitor]",
        f"bearer = {json.dumps(token)}",
        "[auth.openapi.key]",
        f"bearer = {json.dumps(key_of(shop))}",
        "[checks.missing_required_header]",
        "expected-statuses = [400, 401, 428]",
        "[phases.coverage]",
        'unexpected-methods = ["PATCH", "TRACE"]',
        "[cache]",
        "enabled = false",
    ]
    path = folder / "schemathesis.toml"
    path.write_text("\n".join(lines))
    return path


def _run(served: Served, config: Path, *more: str) -> None:
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(config),
        "run",
        f"{served.url}/api/v1/openapi.json",
    ]
    options = ["--max-examples", EXAMPLES, "--checks", "all", "--exclude-checks", ",".join(NOT_CHECKED)]
    options += ["--phases", "coverage,fuzzing", "--no-shrink", "--generation-deterministic", "--continue-on-failure"]
    options += ["--request-timeout", "60"]  # a password takes its time where much else runs
    done = subprocess.run([*command, *options, *more], capture_output=True, text=True, timeout=900, cwd=config.parent)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_every_answer_is_one_that_the_document_promises(served: Served, open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop(products=3)
    caller = _member(served, shop)
    placed = caller.order(shop.goods[0].sku_ids[0])
    ids = {
        "slug": shop.slug,
        "product_id": str(shop.goods[0].product_id),
        "sku_id": str(shop.goods[0].sku_ids[0]),
        "order_id": placed["order_id"],
        "customer_id": caller.call("GET", "/me")["customer_id"],
    }
    without = [option for one in SESSIONS for option in ("--exclude-operation-id", one)]
    _run(served, _config(tmp_path, shop, caller.token, ids), *without)


def test_so_do_the_operations_that_end_a_session(served: Served, open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop()
    config = _config(tmp_path, shop, _member(served, shop).token, {"slug": shop.slug})
    _run(served, config, *[option for one in SESSIONS for option in ("--include-operation-id", one)])
