"""`ballast drill`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from ballast import recovery
from ballast.cli import options
from ballast.cli.output import Bars, err, out, show_json
from ballast.errors import ConfigError
from ballast.recovery.scratch import ended_by_signals
from ballast.vault import config as configuration
from ballast.vault.drilled import Drilled
from ballast.vault.moment import show
from ballast.vault.records import Cut

_SHOWN = 50


def drill(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    tenants: Annotated[
        int | None,
        typer.Option("--tenants", "-n", min=1, help="How many, chosen at random. Default: 20", show_default=False),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All tenants.")] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Choose the same tenants as that drill did.", show_default=False),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            help="Have the recorder hold such a drill each 1d, 12h …; `off`: none. Written into the settings; no drill now.",
            show_default=False,
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            help="Folder for the scratch server; it needs room for what is restored. Default: the system's temporary one",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch server's folder, for a look at it.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Connections at work while restoring.")] = 2,
    as_json: options.Json = False,
) -> None:
    """Prove that the vault gives back what production has: restore into a scratch server, and compare.

    Both are compared as of one position, while production goes on: rows and sums of each tenant in each table, sequences,
    and what stands around the rows (policies, triggers, constraints, indexes, columns, views, functions, rights). Tells how
    long the first tenant, half and all took (RTO) and how far the vault was behind (RPO).
    Exit code 0 when all is equal; 1 when it is not, with what differs. `ballast status` shows the last drill.

    [bold]Examples[/bold]

      ballast drill --tenants 50

      ballast drill --all --json | jq .drilled.first_tenant_s

      ballast drill --every 1d
    """
    if everybody and tenants is not None:
        raise ConfigError("--all and --tenants exclude each other.", "Leave one of them out.")
    if every is not None:
        _arrange(config, every, 0 if everybody else tenants, as_json=as_json)
        return
    settings = configuration.load(config)
    order = recovery.DrillRequest(
        tenants=None if everybody else tenants or 20, seed=seed, scratch=scratch, keep=keep, jobs=jobs
    )
    with ended_by_signals(), Bars(quiet=as_json or not out.is_terminal) as bars:
        outcome = recovery.drill(settings, order, bars)
    if as_json:
        show_json({"equal": outcome.drilled.equal, **msgspec.structs.asdict(outcome)})
    else:
        _show(outcome)
    if not outcome.drilled.equal:
        raise typer.Exit(1)


def _arrange(config: Path, every: str, tenants: int | None, *, as_json: bool) -> None:
    wanted: dict[str, object] = {"drill_every": every}
    if tenants is not None:
        wanted["drill_tenants"] = tenants
    record = configuration.set_in_record(config, **wanted).record
    if as_json:
        show_json({"drill_every": record.drill_every, "drill_tenants": record.drill_tenants})
        return
    whom = f"{record.drill_tenants} tenants" if record.drill_tenants else "all tenants"
    said = "no drills" if record.drill_every == "off" else f"a drill of {whom} each {record.drill_every}"
    out.print(f"{said}, from the next start of `ballast record` on", markup=False)


def _show(outcome: recovery.DrillOutcome) -> None:
    found = outcome.drilled
    for difference in outcome.differences[:_SHOWN]:
        out.print(Text.assemble(("differs: ", "bold red"), difference.what))
    if len(outcome.differences) > _SHOWN:
        out.print(f"and {len(outcome.differences) - _SHOWN:,} more differences")
    for warning in found.warnings:
        err.print(f"warning: {warning}", markup=False)
    for name, text in _lines(found):
        out.print(Text.assemble((f"{name:<12}", "dim"), text))
    if outcome.kept is not None:
        major = found.scratch_version // 10000
        out.print(
            f"kept in {outcome.kept}; python -m ballast.postgres {outcome.kept}/server --major {major} starts it (database"
            " drill)",
            markup=False,
        )
    verdict = "EQUAL" if found.equal else f"NOT EQUAL: {found.differences:,} differences"
    out.print(Text(verdict, "bold green" if found.equal else "bold red"))


def _lines(found: Drilled) -> Iterator[tuple[str, str]]:
    yield "compared", f"at {show(Cut(found.timeline, found.lsn))}, {found.at}"
    chosen = f"{found.tenants:,} of {found.tenants_known:,} tenants (seed {found.seed}) and the shared rows"
    yield "tenants", f"{chosen}: {found.rows:,} rows in {found.tables:,} tables"
    yield (
        "RTO",
        f"server {_s(found.server_s)}, first tenant {_s(found.first_tenant_s)}, half {_s(found.half_s)},"
        f" all {_s(found.all_s)}",
    )
    recorder = (
        "no recorder here"
        if found.recorder_behind_bytes is None
        else f"recorder's disk {found.recorder_behind_bytes:,} bytes"
    )
    yield (
        "RPO",
        f"at the start behind production: {recorder}; vault {found.vault_behind_bytes or 0:,} bytes,"
        f" {_s(found.vault_behind_s)} of commits",
    )
    rate = f"{found.rows_per_s:,.0f} rows/s restored; " if found.rows_per_s is not None else ""
    yield "rates", f"{rate}compared in {_s(found.compared_s)}; {_s(found.total_s)} in all"
    yield "servers", f"production {_version(found.production_version)}, scratch {_version(found.scratch_version)}"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:,.2f} s"


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"
