"""`ballast merge`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ballast import recovery
from ballast.cli import options
from ballast.cli.output import Bars, out, show_json, show_table
from ballast.errors import ConfigError


def merge(
    into: Annotated[str, typer.Option("--into", help="DSN of the database to merge into.", show_default=False)],
    source: Annotated[
        Path | None, typer.Option("--from", help="The items: a file of JSON lines.", show_default=False)
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            "--handler",
            help="module:function of the application, called with a connection inside a transaction and one item.",
            show_default=False,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Instead of a file: try again what was refused and is open.")
    ] = False,
    settle: Annotated[
        str | None,
        typer.Option(
            "--settle",
            help="Instead: close what --tenant's item of this key was refused for; say how with --reason.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help="With --retry, --settle, or the list: this tenant's.", show_default=False),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="With --settle: what was done about it.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Connections at work.")] = 2,
    dask: options.Dask = None,
    as_json: options.Json = False,
) -> None:
    """Bring in what tenants produced elsewhere meanwhile, each item once, through the application's own function.

    A line of the file is {"tenant", "key", "kind", "payload", "made_at"}; the key names the item for ever. A tenant's items are
    applied in the file's order, several tenants side by side; each is one transaction with its line in ballast_merge.applied.
    What the function (CannotApply) or the database refuses is kept in ballast_merge.exception with its reason, and the
    others go on; a function that keeps it for people to decide by itself returns True. Interrupted, the same command goes
    on. Without --from, --retry and --settle: lists what is open.

    Exit code 0 when every item is applied or settled, 1 when some are open.

    [bold]Examples[/bold]

      ballast merge --into postgresql:///shop --from intake.jsonl --handler shop.intake:take_in

      ballast merge --into postgresql:///shop --retry --tenant 42 --handler shop.intake:take_in
    """
    if sum((source is not None, retry, settle is not None)) > 1:
        raise ConfigError("--from, --retry and --settle exclude each other.", "Choose one of them.")
    if settle is not None:
        _settle(into, tenant, settle, reason, as_json=as_json)
        return
    if source is None and not retry:
        _list(into, tenant, as_json=as_json)
        return
    if handler is None:
        raise ConfigError(
            "nobody is named who applies the items.", "Name the application's function: --handler module:function"
        )
    function = _function(handler)
    if source is not None:
        for _ in recovery.read_items(source):  # a line that is none is found before anything is applied
            pass
    with options.hands(dask) as hands, Bars(quiet=as_json or not out.is_terminal) as bars:
        if source is not None:
            report = recovery.merge(into, recovery.read_items(source), function, jobs=jobs, watcher=bars, hands=hands)
        else:
            report = recovery.retry(into, function, tenant=tenant, jobs=jobs, watcher=bars, hands=hands)
    if as_json:
        show_json({"complete": report.complete, **msgspec.structs.asdict(report)})
    else:
        _show(report.refused, "refused, and kept in ballast_merge.exception")
        settled = f", {report.settled:,} settled" if report.settled else ""
        out.print(
            f"{report.applied:,} applied, {report.already:,} were applied already, {len(report.refused):,} refused,"
            f" {report.open:,} refused earlier and open{settled}; {report.elapsed_s:.2f} s"
        )
    if not report.complete:
        raise typer.Exit(1)


def _function(name: str) -> recovery.Handler:
    """The application's function. Its modules are looked for in the working directory, too."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{name!r} names no function.", "Write module:function, such as shop.intake:take_in")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"the module of {name!r} cannot be loaded: {error}.", "Run this where the application's modules are found."
        ) from error
    if not callable(found):
        raise ConfigError(f"{module} has no function {attribute}.", "Check the part after the colon.")
    function: recovery.Handler = found
    return function


def _settle(into: str, tenant: str | None, key: str, reason: str | None, *, as_json: bool) -> None:
    if tenant is None or not reason:
        raise ConfigError("to settle needs the tenant, and what was done about it.", "Add --tenant and --reason.")
    count = recovery.settle(into, tenant, key, reason)
    if as_json:
        show_json({"settled": count})
    else:
        out.print(
            f"settled: {count}" if count else f"nothing is open of tenant {tenant!r} under key {key!r}", markup=False
        )
    if not count:
        raise typer.Exit(1)


def _list(into: str, tenant: str | None, *, as_json: bool) -> None:
    found = recovery.refusals(into, tenant=tenant)
    if as_json:
        show_json({"open": found})
    elif found:
        _show(found, "open")
    else:
        out.print("nothing is open")
    if found:
        raise typer.Exit(1)


def _show(refused: Sequence[recovery.Refusal], title: str) -> None:
    if refused:
        show_table(
            title,
            ("tenant", "key", "kind", "made at", "reason"),
            [(r.tenant, r.key, r.kind, r.made_at.isoformat(sep=" "), r.reason) for r in refused],
        )
