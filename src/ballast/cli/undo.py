"""`ballast undo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ballast.cli import live, options
from ballast.cli.output import out, show_json, show_table
from ballast.recovery.reversal import OnConflict
from ballast.recovery.rewound import Left, OfTenant
from ballast.recovery.undo import Undoing
from ballast.recovery.undo import undo as reverse

_SHOWN = 10
"""Conflicts of a tenant."""


def undo(
    transaction: Annotated[
        list[str],
        typer.Option(
            "--transaction",
            help="Its number or its position, as `ballast changes` and `ballast history` show them; several times, then all of"
            " them are undone, or none.",
            show_default=False,
        ),
    ],
    dsn: live.Dsn = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            help="Only this tenant's rows; several times. Default: all that they touched.",
            show_default=False,
        ),
    ] = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(
            "--on-conflict",
            help="Rows that later changes touched: refuse (do nothing at all), skip (leave them as they are), merge (undo the"
            " columns that nobody changed since, subtract from counters, keep the rest), force (make them what they were before"
            " the transaction).",
        ),
    ] = "refuse",
    counter: Annotated[
        list[str] | None,
        typer.Option(
            "--counter",
            help="For merge: a column (schema.table.column) that counts, beside [tenants] counters; several times.",
            show_default=False,
        ),
    ] = None,
    dry_run: live.DryRun = False,
    reason: live.Reason = "",
    by: live.By = "",
    vault_url: live.VaultUrl = None,
    config: live.Config = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Reverse what transactions changed, for all tenants that they touched or for some, in one transaction.

    Deleted rows come back, inserted ones go, updated ones become what they were; after a TRUNCATE all rows come back. What
    later transactions did to other rows stays. The structure is not undone. It is recorded like any change, with who and why,
    and can itself be undone.

    [bold]Examples[/bold]

      ballast undo --transaction 81734 --dry-run

      ballast undo --transaction 81734 --transaction 81740 --on-conflict merge --reason 'script ran on production'
    """
    where = live.place(dsn, vault_url, config, key)
    asked = Undoing(
        tuple(transaction),
        on_conflict,
        dry_run,
        live.asker(by),
        reason,
        tuple(tenant) if tenant else None,
        (*where.counters, *(counter or ())),
    )
    found = reverse(where.open(quiet=as_json), where.dsn, asked, state_dir=where.state_dir)
    refused = bool(found.conflicts) and on_conflict == "refuse"
    if as_json:
        show_json({"refused": refused, "undo": found})
    else:
        live.show(found, back_again="ballast undo --transaction {xid}")
        if found.already:
            out.print(f"{found.already:,} rows were as before the transaction already")
        _show_tenants(found.by_tenant)
        _show_conflicts(found.conflicts, on_conflict)
    if refused:
        raise typer.Exit(1)


def _show_tenants(tenants: tuple[OfTenant, ...]) -> None:
    if len(tenants) > 1:
        rows = [(t.tenant or "(shared)", f"{t.put_back:,}", f"{t.merged:,}", f"{t.left:,}") for t in tenants]
        out.print()
        show_table("by tenant", ("tenant", "as before", "changed since, and undone", "changed since, and left"), rows)


def _show_conflicts(conflicts: tuple[Left, ...], on_conflict: OnConflict) -> None:
    if not conflicts:
        return
    became = {
        "refuse": "so the undo would be refused",
        "skip": "and are left as they are",
        "merge": "and are undone as far as that keeps the later changes",
        "force": "and are changed as well",
    }
    out.print(Text(f"\nlater changes touched {len(conflicts):,} of the rows, {became[on_conflict]}:", "yellow"))
    by_tenant: dict[str | None, list[Left]] = {}
    for left in conflicts:
        by_tenant.setdefault(left.tenant, []).append(left)
    for tenant, those in by_tenant.items():
        if len(by_tenant) > 1 or tenant is not None:
            out.print(Text(f"{tenant or '(shared)'}", "bold"))
        for left in those[:_SHOWN]:
            out.print(f"  {left.table} {live.values(left.key)}: {_told(left, on_conflict)}", markup=False)
        if len(those) > _SHOWN:
            out.print(f"  … and {len(those) - _SHOWN:,} more (--json has them all)")


def _told(left: Left, on_conflict: OnConflict) -> str:
    """The row's three values where they differ, and what becomes of it."""
    before, made, found = left.before, left.made, left.found
    if before is None or made is None or found is None:
        was = "there was none" if before is None else f"it was {live.values(before)}"
        said = "the transaction removed it" if made is None else f"the transaction made it {live.values(made)}"
        now = "now it is gone" if found is None else f"now it is {live.values(found)}"
        told = f"{was}; {said}; {now}"
    else:
        names = [name for name in found if not before.get(name) == made.get(name) == found[name]]
        told = "; ".join(
            f"{name} was {live.value(before.get(name))}, the transaction made it {live.value(made.get(name))}, now it is"
            f" {live.value(found[name])}"
            for name in names
        )
    return f"{told} – {_outcome(left, on_conflict)}"


def _outcome(left: Left, on_conflict: OnConflict) -> str:
    if on_conflict == "refuse":
        return "merge would keep both" if left.mergeable else "merge would leave it"
    if left.becomes == left.found:
        return "stays"
    if left.becomes is None or left.found is None:
        return "goes" if left.becomes is None else f"becomes {live.values(left.becomes)}"
    moved = {name: value for name, value in left.becomes.items() if value != left.found.get(name)}
    return f"becomes {live.values(moved)}"
