"""Vendure 3 on this machine and our database server: packages in a cache outside of the repository, its own example data."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ballast.postgres import EmbeddedServer
from bench.http import Client
from bench.setting import Setting, stop

_FILES = Path(__file__).parent / "vendure"
_PACKAGES = ("@vendure/core@3", "@vendure/create@3", "pg")


def packages() -> Path:
    """The folder with Vendure's packages; brought once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ballast-bench" / "vendure"
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing, which Vendure needs: install Node.js 20 or later")
    if not (cache / "node_modules" / "@vendure" / "create").exists():
        cache.mkdir(parents=True, exist_ok=True)
        print(f"bringing Vendure into {cache} …", flush=True)
        subprocess.run(["npm", "init", "-y"], cwd=cache, check=True, capture_output=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *_PACKAGES]
        subprocess.run(command, cwd=cache, check=True, timeout=600)
    for file in _FILES.glob("*.js"):
        shutil.copy(file, cache)
    return cache


@contextlib.contextmanager
def vendure(here: Setting, server: EmbeddedServer, port: int) -> Iterator[str]:
    """Vendure, filled, at this port; its version."""
    folder = packages()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE vendure")
    where = conninfo_to_dict(server.dsn())
    environ = os.environ | {"VENDURE_PORT": str(port), "VENDURE_DB_HOST": str(where["host"])}
    filled = subprocess.run(
        ["node", "populate.js"], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=240
    )
    with psycopg.connect(server.dsn("vendure")) as connection:
        row = connection.execute("SELECT count(*) FROM product_variant").fetchone()
    if row is None or not row[0]:
        raise SystemExit(f"Vendure could not be filled:\n{filled.stdout[-2000:]}\n{filled.stderr[-2000:]}")
    with (here.folder / "vendure.log").open("ab") as log:
        child = subprocess.Popen(["node", "server.js"], cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if child.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"Vendure did not start:\n{(here.folder / 'vendure.log').read_text()[-3000:]}")
            time.sleep(0.1)
        yield json.loads((folder / "node_modules" / "@vendure" / "core" / "package.json").read_text())["version"]
    finally:
        stop(child)


def order(client: Client, chance: random.Random) -> None:
    """A guest's whole order: seven requests, the last one says that the payment is authorised."""
    token = ""

    def ask(query: str, **variables: object) -> Any:
        nonlocal token
        sent = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = client.ask("POST", "/shop-api", sent, Content_Type="application/json", **headers)
        said = json.loads(answer.body)
        if "errors" in said:
            raise RuntimeError(said["errors"][0]["message"])
        token = answer.headers.get("vendure-auth-token", token)
        return said["data"]

    client.cookies.clear()
    ask(
        "mutation($v:ID!){addItemToOrder(productVariantId:$v,quantity:1){__typename ...on Order{id} ...on ErrorResult{message}}}",
        v=str(chance.randint(1, 60)),
    )
    ask(
        "mutation($i:CreateCustomerInput!){setCustomerForOrder(input:$i){__typename ...on ErrorResult{message}}}",
        i={"firstName": "a", "lastName": "b", "emailAddress": f"a{chance.randint(1, 10**12)}@x.com"},
    )
    ask(
        'mutation{setOrderShippingAddress(input:{streetLine1:"x",countryCode:"GB"}){__typename ...on ErrorResult{message}}}'
    )
    methods = ask("{eligibleShippingMethods{id}}")["eligibleShippingMethods"]
    ask(
        "mutation($v:[ID!]!){setOrderShippingMethod(shippingMethodId:$v){__typename ...on ErrorResult{message}}}",
        v=[methods[0]["id"]],
    )
    ask(
        'mutation{transitionOrderToState(state:"ArrangingPayment"){__typename ...on ErrorResult{message} '
        "...on OrderStateTransitionError{transitionError}}}"
    )
    paid = ask(
        'mutation{addPaymentToOrder(input:{method:"standard-payment",metadata:{}}){__typename ...on Order{state code} '
        "...on ErrorResult{message}}}"
    )
    if paid["addPaymentToOrder"].get("state") not in ("PaymentSettled", "PaymentAuthorized"):
        raise RuntimeError(str(paid))
