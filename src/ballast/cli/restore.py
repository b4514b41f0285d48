"""`ballast restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ballast import recovery
from ballast.cli import options
from ballast.cli.output import Bars, out, show_json, show_table
from ballast.vault import nodes


def restore(
    vault_url: Annotated[
        str | None,
        typer.Option(
            "--vault",
            envvar="BALLAST_VAULT",
            help="The vault: a folder, or s3://bucket/prefix (endpoint and credentials from AWS_… in the environment)."
            " Default with nodes: that of the settings.",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        list[str] | None,
        typer.Option(
            "--into",
            help="DSN of the database to write into. With nodes NAME=DSN, several times; default: each node's own.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Only this tenant; may be given several times.", show_default=False),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table (name or schema.name); several times.", show_default=False),
    ] = None,
    at: options.At = None,
    node: options.Node = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the rows of those tenants that the target holds.")
    ] = False,
    inexact: Annotated[
        bool,
        typer.Option("--inexact", help="Go on where the record has a gap at that moment; the report names the tables."),
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Connections at work.")] = 2,
    dask: options.Dask = None,
    config: options.PinningConfig = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Put tenants back as of a moment, and prove it.

    Into an empty database the structure (roles, types, tables, keys, indexes, triggers, policies) comes with the
    rows. Into a database that has the tables, each tenant is one transaction; other tenants are not touched.
    Interrupted, the same command goes on where it stopped.

    [bold]Example[/bold]

      ballast restore --vault ./vault --into postgresql:///shop --tenant 42 --at '2026-03-01 18:55:00+08'
    """
    request = recovery.Request(
        tenants=tuple(tenant) if tenant else None,
        tables=tuple(table) if table else None,
        replace=replace,
        inexact=inexact,
        jobs=jobs,
    )
    spread = nodes.load(config) if config is not None else None
    if spread is not None or vault_url is not None:
        from ballast.cli import nodes as several  # it shows each node with the functions of this module

        found = several.source(spread, vault_url, tuple(into or ()), node)
        if found is not None:
            if dask is not None:
                raise typer.BadParameter(
                    "--dask is for one database: give --node and that node's vault, or leave it out"
                )
            several.restore(found, request, at, as_json=as_json)
            return
    if vault_url is None or into is None or len(into) != 1 or node is not None:
        raise typer.BadParameter("one database needs --vault and one --into, and no --node; see --help")
    with options.hands(dask) as hands:
        _restore_one(vault_url, into[0], request, at, config, key, hands, as_json=as_json)


def _restore_one(
    vault_url: str,
    into: str,
    request: recovery.Request,
    at: str | None,
    config: Path | None,
    key: str | None,
    hands: recovery.Hands | None,
    *,
    as_json: bool,
) -> None:
    pinned = options.pinned(key, config)
    vault = options.opened(vault_url, key, config)
    if not pinned and not as_json:
        out.print(f"the vault's key is {vault.index.genesis.public_key[:16]}: pin it with --key or --config")
    # "The newest" has moved on since an interrupted restore began: it goes on at its own moment.
    resolved = vault.resolve(at if at is not None else recovery.begun(vault, into, request))
    if not as_json:
        out.print(f"as of {resolved.how}")
    with Bars(quiet=as_json or not out.is_terminal) as bars:
        report = recovery.restore(vault, resolved, into, request, bars, hands)
    if as_json:
        show_json({"proven": report.proven, "report": report})
    else:
        show(report)
    if not report.proven:
        raise typer.Exit(1)


def show(report: recovery.Report) -> None:
    """What came back and how it compares, for people."""
    show_table(
        "read back and compared with the record",
        ("table", "rows", "checksum", ""),
        [
            (
                proof.table,
                f"{proof.restored.rows:,}",
                f"{proof.restored.checksum:016x}",
                "equal" if proof.equal else "DIFFERS",
            )
            for proof in report.tables
        ],
    )
    for warning in report.warnings:
        out.print(f"warning: {warning}", markup=False)
    for key in report.broken_foreign_keys:
        out.print(f"broken foreign key: {key}", markup=False)
    if report.inexact:
        out.print(f"not exact at that moment: {', '.join(report.inexact)}", markup=False)
    out.print(
        f"{report.rows:,} rows in {report.elapsed_s:.2f} s: " + ("proven equal" if report.proven else "NOT PROVEN")
    )
