"""`ballast branches` and `ballast branch`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ballast.cli import options
from ballast.cli.output import out, show_json, show_table
from ballast.errors import ConfigError
from ballast.recovery.branch import Lost, Merging, Outcome, lost
from ballast.vault.branches import branch_of
from ballast.vault.branches import branches as branches_of

_SHOWN = 50
"""Conflicts that are listed; `--json` has all."""


def branches(
    vault_url: options.VaultUrl,
    config: options.PinningConfig = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Commits that the vault holds and the database that goes on does not: side branches.

    A failover to a standby that lacked them leaves one, and so does a recovery to an earlier moment. Their rows are
    shown by `ballast branch`, and every position on them can be given to `ballast restore --at`.

    [bold]Example[/bold]

      ballast branches --vault ./vault
    """
    found = branches_of(options.opened(vault_url, key, config))
    if as_json:
        show_json(found)
        return
    if not found:
        out.print("no side branches: everything that is recorded led to now")
        return
    show_table(
        "side branches",
        ("branch", "from", "until", "commits", "first", "last", ""),
        [
            (
                b.timeline,
                b.from_position,
                b.until_position,
                f"{b.commits:,}",
                b.first_commit_at,
                b.last_commit_at,
                "another history" if b.base is None else "; ".join(b.structure),
            )
            for b in found
        ],
    )


def branch(
    timeline: Annotated[int, typer.Argument(help="Which: its number in `ballast branches`.")],
    vault_url: options.VaultUrl,
    into: Annotated[
        str | None,
        typer.Option("--into", help="DSN of the database that goes on: says what can be put back.", show_default=False),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put it back (with --into).")] = False,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", help="Only this tenant; may be given several times.", show_default=False),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table (name or schema.name); several times.", show_default=False),
    ] = None,
    config: options.PinningConfig = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """What a side branch changed and the database has lost, by tenant and table; and put it back.

    With --into each row is compared with the database: rows that nobody has touched since can be put back, the others
    are conflicts; they are listed and stay in the vault. With --apply each tenant is one transaction. Again: finds it done.
    Exit code 1 with --apply if anything was not put back.

    [bold]Examples[/bold]

      ballast branch 1 --vault ./vault

      ballast branch 1 --vault ./vault --into postgresql:///shop --tenant 42 --apply
    """
    if apply and into is None:
        raise ConfigError(
            "--apply needs --into: the database that it is put back into.", "See `ballast branch --help`."
        )
    vault = options.opened(vault_url, key, config)
    found = branch_of(vault, timeline)
    losses = lost(vault, found, tenants=tenant, tables=table)
    if into is None:
        every = list(losses)
        if as_json:
            show_json({"branch": found, "lost": [_counted(loss) for loss in every]})
        else:
            _show_lost(every)
        return
    with Merging(vault, found, into) as merging:
        outcomes = [merging.put_back(loss) if apply else merging.look(loss) for loss in losses]
    if as_json:
        show_json({"branch": found, "applied": apply, "tenants": outcomes})
    else:
        _show_outcomes(outcomes, applied=apply)
    if apply and any(outcome.refused or outcome.conflicts for outcome in outcomes):
        raise typer.Exit(1)


def _counted(loss: Lost) -> dict[str, Any]:
    return {
        "tenant": loss.tenant,
        "tables": [
            {
                "table": table.relation.qualified,
                "added": table.count("added"),
                "changed": table.count("changed"),
                "removed": table.count("removed"),
                "kept": table.kept,
            }
            for table in loss.tables
        ],
    }


def _whose(tenant: str | None) -> str:
    return "(shared)" if tenant is None else tenant


def _show_lost(every: list[Lost]) -> None:
    if not every:
        out.print("nothing: what was committed on the branch left every row as the fork had it")
        return
    show_table(
        "rows that the branch left otherwise than the fork had them",
        ("tenant", "table", "added", "changed", "removed", ""),
        [
            (
                _whose(loss.tenant),
                t.relation.qualified,
                t.count("added"),
                t.count("changed"),
                t.count("removed"),
                t.kept,
            )
            for loss in every
            for t in loss.tables
        ],
    )


def _show_outcomes(outcomes: list[Outcome], *, applied: bool) -> None:
    show_table(
        "put back" if applied else "can be put back",
        ("tenant", "table", "added", "changed", "removed", "there already", "conflicts", ""),
        [
            (_whose(o.tenant), t.table, t.added, t.changed, t.removed, t.there_already, len(t.conflicts), o.refused)
            for o in outcomes
            for t in o.tables
        ],
    )
    conflicts = [(o.tenant, conflict) for o in outcomes for conflict in o.conflicts]
    for tenant, conflict in conflicts[:_SHOWN]:
        named = ", ".join(f"{name} = {value}" for name, value in conflict.key.items())
        out.print(
            f"kept: {_whose(tenant)} · {conflict.table} · {named}: {conflict.what} on the branch, {conflict.why}",
            markup=False,
        )
    if len(conflicts) > _SHOWN:
        out.print(f"… and {len(conflicts) - _SHOWN} more (--json lists all)")
    for outcome in outcomes:
        if outcome.refused:
            out.print(f"nothing was put back for {_whose(outcome.tenant)}: {outcome.refused}", markup=False)
