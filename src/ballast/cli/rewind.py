"""`ballast rewind`."""

from __future__ import annotations

from typing import Annotated

import typer

from ballast.cli import live, options
from ballast.cli.output import out, show_json
from ballast.recovery.reached import reached
from ballast.recovery.rewind import Rewinding
from ballast.recovery.rewind import rewind as put_back


def rewind(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose rows.", show_default=False)],
    at: Annotated[
        str,
        typer.Option(
            "--at",
            help="A time (ISO 8601, with zone or local) or a position (X/Y or timeline/X/Y): `ballast changes` proposes one.",
            show_default=False,
        ),
    ],
    dsn: live.Dsn = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table (name or schema.name); several times.", show_default=False),
    ] = None,
    dry_run: live.DryRun = False,
    reason: live.Reason = "",
    by: live.By = "",
    vault_url: live.VaultUrl = None,
    config: live.Config = None,
    key: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Put one live tenant, or some of its tables, back in place, while every other tenant writes on.

    Only the rows that differ from those of the moment are written, in one transaction, and read back before it commits. Writes
    that the difference did not see are never overwritten. Foreign keys hold afterwards, or nothing is done. It is
    recorded like any change, with who and why, and can itself be rewound or undone.

    [bold]Examples[/bold]

      ballast rewind --tenant 42 --at '2026-03-01 18:55:00+08' --dry-run

      ballast rewind postgresql:///shop --vault ./vault --tenant 42 --table orders --at 1/0/1A2B3C --reason 'bad import'
    """
    where = live.place(dsn, vault_url, config, key)
    vault = where.open(quiet=as_json)
    resolved = reached(vault, at, dsn=where.dsn, state_dir=where.state_dir)
    if not as_json:
        out.print(f"as of {resolved.how}", markup=False)
    asked = Rewinding(tenant, tuple(table) if table else None, dry_run, live.asker(by), reason)
    found = put_back(vault, resolved, where.dsn, asked)
    if as_json:
        show_json({"resolved": resolved.how, "rewind": found})
    else:
        live.show(
            found, back_again=f"ballast rewind --tenant {tenant} --at {{at}}, or ballast undo --transaction {{xid}}"
        )
