"""`ballast undo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ballast.cli import live, options
from ballast.cli.output import out, show_json
from ballast.recovery.reversal import OnConflict
from ballast.recovery.rewound import Left
from ballast.recovery.undo import Undoing
from ballast.recovery.undo import undo as reverse

_SHOWN = 10


def undo(
    transaction: Annotated[
        str,
        typer.Option(
            "--transaction",
            help="Its number or its position, as `ballast changes` and `ballast history` show them.",
            show_default=False,
        ),
    ],
    dsn: live.Dsn = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(
            "--on-conflict",
            help="Rows that later changes touched: refuse (do nothing at all), skip (leave them as they are), force (make them"
            " what they were before the transaction).",
        ),
    ] = "refuse",
    dry_run: live.DryRun = False,
    reason: live.Reason = "",
    by: live.By = "",
    vault_url: live.VaultUrl = None,
    config: live.Config = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Reverse what one transaction changed, for all tenants that it touched, in one transaction.

    Deleted rows come back, inserted ones go, updated ones become what they were; after a TRUNCATE all rows come back. What
    later transactions did to other rows stays. The structure is not undone. It is recorded like any change, with who and why,
    and can itself be undone.

    [bold]Examples[/bold]

      ballast undo --transaction 81734 --dry-run

      ballast undo --transaction 1/0/1A2B3C --on-conflict skip --reason 'script ran on production'
    """
    where = live.place(dsn, vault_url, config, key)
    asked = Undoing(transaction, on_conflict, dry_run, live.asker(by), reason)
    found = reverse(where.open(quiet=as_json), where.dsn, asked)
    refused = bool(found.conflicts) and on_conflict == "refuse"
    if as_json:
        show_json({"refused": refused, "undo": found})
    else:
        live.show(found, back_again="ballast undo --transaction {xid}")
        if found.already:
            out.print(f"{found.already:,} rows were as before the transaction already")
        _show_conflicts(found.conflicts, on_conflict)
    if refused:
        raise typer.Exit(1)


def _show_conflicts(conflicts: tuple[Left, ...], on_conflict: OnConflict) -> None:
    if not conflicts:
        return
    became = {
        "refuse": "so the undo would be refused",
        "skip": "and are left as they are",
        "force": "and are changed as well",
    }
    out.print(Text(f"\nlater changes touched {len(conflicts):,} of the rows, {became[on_conflict]}:", "yellow"))
    for left in conflicts[:_SHOWN]:
        made = "removed it" if left.made is None else f"made it {live.values(left.made)}"
        now = "it is gone" if left.found is None else f"it is {live.values(left.found)}"
        out.print(f"  {left.table} {live.values(left.key)}: the transaction {made}; now {now}", markup=False)
    if len(conflicts) > _SHOWN:
        out.print(f"  … and {len(conflicts) - _SHOWN:,} more")
