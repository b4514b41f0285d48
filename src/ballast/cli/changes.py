"""`ballast changes`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from ballast.cli import live, options
from ballast.cli.output import out, show_json, show_table
from ballast.errors import ConfigError
from ballast.recovery.changes import Asked, Changes
from ballast.recovery.changes import changes as what_happened
from ballast.recovery.damage import Damage, damage
from ballast.recovery.ranking import Summary, TableCount
from ballast.vault import Vault


def changes(
    vault_url: options.VaultUrl,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only this tenant's rows. Default: everybody's.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="A time or a position. Default: a day before --to.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="A time or a position. Default: all that is recorded.", show_default=False),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table (name or schema.name); several times.", show_default=False),
    ] = None,
    transaction: Annotated[
        list[str] | None,
        typer.Option(
            "--transaction",
            help="What this transaction did (number or position), tenant by tenant, from which values to which; several times.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="So many transactions; 0: all.")] = 20,
    config: options.PinningConfig = None,
    pin: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """What happened: by transaction (the most destructive first), by actor, by table; what to undo, and a moment to go back to.

    Transactions that wrote to several tenants' rows come first: an application hardly makes any. Then those that deleted or
    changed most rows. Rows that a TRUNCATE or a dropped table took count as deleted. A row whose key or tenant changed counts as
    one that went and one that came. The moment proposed is just before the most destructive transaction shown.

    [bold]Examples[/bold]

      ballast changes --vault ./vault --tenant 42 --from '2026-03-01 18:00' --to '2026-03-01 19:00'

      ballast changes --vault ./vault --table orders --limit 5

      ballast changes --vault ./vault --transaction 81734 --transaction 81740
    """
    vault = Vault.open(vault_url, key=options.pinned(pin, config))
    if transaction:
        if since or until or table:
            raise ConfigError(
                "--from, --to and --table choose transactions, and --transaction names some.", "Leave one out."
            )
        done = damage(vault, transaction, (tenant,) if tenant is not None else None)
        if as_json:
            show_json(done)
        else:
            _show_damage(done)
        return
    found = what_happened(vault, Asked(tenant, tuple(table) if table else None, since, until, limit))
    if as_json:
        show_json(_document(found))
    else:
        _show(found)


def _document(found: Changes) -> dict[str, Any]:
    """With the sums of each transaction and actor."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    for name, summaries in (("transactions", found.transactions), ("by_actor", found.by_actor)):
        for told, summary in zip(document[name], summaries, strict=True):
            told |= {"deleted": summary.deleted, "updated": summary.updated, "inserted": summary.inserted}
    return document


def _show(found: Changes) -> None:
    whose = f"tenant {found.tenant}" if found.tenant is not None else "everybody"
    out.print(Text.assemble((whose, "bold"), f" · from {found.since} to {found.until}"))
    if not found.by_table:
        out.print("nothing happened")
        return
    out.print()
    show_table(
        "transactions, the most destructive first",
        ("position", "transaction", "when", "deleted", "changed", "added", "tenants", "by", "tables"),
        [
            (s.position, s.xid, _when(s.committed_at), *_counts(s), _hit(s), s.actor or s.tag, _tables(s.tables))
            for s in found.transactions
        ],
    )
    if found.left_out:
        out.print(Text(f"({found.left_out:,} less destructive ones are left out)", "dim"))
    out.print()
    show_table(
        "by actor",
        ("actor", "transactions", "deleted", "changed", "added", "tenants"),
        [(s.actor or "(not told)", f"{s.transactions:,}", *_counts(s), f"{s.tenants:,}") for s in found.by_actor],
    )
    out.print()
    show_table(
        "by table",
        ("table", "deleted", "changed", "added"),
        [(t.table, _deleted(t), f"{t.updated:,}", f"{t.inserted:,}") for t in found.by_table],
    )
    if found.inexact:
        out.print(Text(f"\nnot exact in that time: {', '.join(found.inexact)}; changes may be missing", "yellow"))
    for line in _advice(found):
        out.print(line, markup=False)


def _advice(found: Changes) -> Iterator[str]:
    if found.proposal is None:
        return
    whose = f" --tenant {found.tenant}" if found.tenant is not None else ""
    if found.undo:
        named = " ".join(f"--transaction {position}" for position in found.undo)
        several = len(found.undo) > 1
        yield f"\nto look into {'these' if several else 'this'}, which {'stand' if several else 'stands'} out:"
        yield f"ballast changes {named}{whose}"
        yield (
            "to take back what they did, and nothing else:"
            if several
            else "to take back what it did, and nothing else:"
        )
        yield f"ballast undo {named}{whose} --dry-run"
    tenant = found.tenant if found.tenant is not None else "…"
    yield f"to go back to {found.proposal.at}, {found.proposal.why}:"
    yield f"ballast rewind --tenant {tenant} --at {found.proposal.at} --dry-run"


def _show_damage(done: Damage) -> None:
    tenants = list(dict.fromkeys(table.tenant for table in done.tables))
    rows = sum(table.inserted + table.updated + table.deleted for table in done.tables)
    out.print(
        f"{len(done.transactions):,} transactions, {len(tenants):,} tenants, {rows:,} rows;"
        f" {_when(done.since)} to {_when(done.until)}"
    )
    for tenant in tenants:
        out.print(Text(f"\n{tenant if tenant is not None else '(shared)'}", "bold"))
        for table in (t for t in done.tables if t.tenant == tenant):
            counts = ((table.deleted, "deleted"), (table.updated, "changed"), (table.inserted, "added"))
            out.print(f"  {table.table}: {', '.join(f'{n:,} {what}' for n, what in counts if n)}", markup=False)
            for column in table.columns:
                moves = [f"{live.value(m.before)} → {live.value(m.after)} ({m.rows:,})" for m in column.moves]
                more = column.kinds - len(column.moves)
                out.print(
                    f"    {column.column}: {', '.join(moves)}{f', … {more:,} more' if more else ''}", markup=False
                )


def _counts(summary: Summary) -> tuple[str, str, str]:
    unknown = "at least " if any(not table.counted for table in summary.tables) else ""
    return f"{unknown}{summary.deleted:,}", f"{summary.updated:,}", f"{summary.inserted:,}"


def _hit(summary: Summary) -> str:
    if summary.tenants <= 1:
        return summary.hit[0] if summary.hit else ""
    return f"{summary.tenants:,}: {', '.join(summary.hit)}{', …' if summary.tenants > len(summary.hit) else ''}"


def _deleted(table: TableCount) -> str:
    return f"{table.deleted:,}" if table.counted else f"at least {table.deleted:,}"


def _tables(tables: tuple[TableCount, ...]) -> str:
    shown = [f"{t.table} ({t.how})" if t.how else t.table for t in tables[:3]]
    return ", ".join(shown) + (f" and {len(tables) - 3} more" if len(tables) > 3 else "")


def _when(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().isoformat(sep=" ", timespec="milliseconds")
