"""`ballast history`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from msgspec import UNSET, UnsetType
from rich.text import Text

from ballast.cli import options
from ballast.cli.output import out, show_json
from ballast.vault.history import History
from ballast.vault.history import history as versions_of
from ballast.vault.story import Changed, RowVersion

_SHOWN = 100
"""Characters of a value that are shown; `--json` has it whole."""

_WORDS = {
    "image": ("as of the image at", "bold cyan"),
    "insert": ("inserted", "green"),
    "update": ("updated", "yellow"),
    "delete": ("deleted", "red"),
    "truncate": ("gone by TRUNCATE", "red"),
    "drop": ("gone with its table", "red"),
    "absent": ("absent from the image at", "bold red"),
}


def history(
    vault_url: options.VaultUrl,
    table: Annotated[str, typer.Argument(help="Name or schema.name; of a partitioned table, that one's.")],
    key: Annotated[
        list[str],
        typer.Argument(
            help="Values of the key's columns in their order, as psql shows them: an argument each, or all in one with "
            r"commas (\, for a comma in a value, \\ for a backslash). The tenant's column may be left out.",
        ),
    ],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Whose row. Default: a row shared by all.", show_default=False)
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Only so many of the newest versions; 0: all.")
    ] = 0,
    timeline: Annotated[
        int | None,
        typer.Option(
            "--timeline", help="The history as this timeline has it. Default: the newest.", show_default=False
        ),
    ] = None,
    config: options.PinningConfig = None,
    pin: options.Key = None,
    as_json: options.Json = False,
) -> None:
    """Every version of a row: when, in which transaction, by whom if known, and what changed.

    The oldest first. A position shown can be given to `ballast restore --at`: it means just before that version.
    "By whom" is what the application told with pg_logical_emit_message(true, 'ballast.actor', …).

    [bold]Examples[/bold]

      ballast history --vault ./vault --tenant 42 public.orders 1001

      ballast history --vault ./vault --tenant 42 order_lines 1001,3 --limit 5
    """
    vault = options.opened(vault_url, pin, config)
    found = versions_of(vault, table, key, tenant=tenant, timeline=timeline, limit=limit)
    if as_json:
        show_json(found)
    else:
        _show(found)


def _show(found: History) -> None:
    whose = "shared" if found.tenant is None else f"tenant {found.tenant}"
    named = ", ".join(f"{name} = {_value(value)}" for name, value in found.key.items())
    out.print(Text.assemble((found.table, "bold"), f" · {whose} · {named}"))
    if found.left_out:
        out.print(Text(f"({found.left_out:,} older versions are left out)", "dim"))
    former = None
    for version in found.versions:
        if former is not None and version.relation != former.relation and version.table == former.table:
            out.print(Text(f"\n— another table {version.table} from here on —", "dim"))
        out.print()
        _show_version(version, found)
        former = version
    for gap in found.inexact:
        until = f"to {gap.to_position}" if gap.to_position else "on, until a new image is taken"
        out.print(Text(f"\nnot exact from {gap.from_position} {until}: {gap.reason}", "yellow"))
    out.print(Text(f"\nas recorded up to {found.until}", "dim"))


def _show_version(version: RowVersion, found: History) -> None:
    word, colour = _WORDS[version.what]
    if version.what in ("image", "absent"):
        head = Text.assemble((f"{word} {version.position}", colour))
    else:
        head = Text.assemble((_when(version.committed_at), "bold"), "  ", (word, colour))
        head.append(f"  {version.position}", "dim")
    if version.xid is not None:
        head.append(f"  transaction {version.xid}", "dim")
    if version.tag is not None:
        head.append(f"  {version.tag}", "dim")
    if version.actor is not None:
        head.append(f"  by {version.actor}")
    out.print(head)
    if version.table != found.table:
        out.print(Text(f"    in {version.table}", "dim"))
    for what, was, now in _moves(version, found):
        out.print(Text.assemble(f"    {what} was ", (was, "red"), ", now ", (now, "green")))
    width = max((len(change.column) for change in version.changed), default=0)
    for change in version.changed:
        out.print(Text("    ").append(f"{change.column:<{width}}  ", "dim").append(_change(change, version)))
    if not version.changed and version.what == "update" and not version.note:
        out.print(Text("    nothing changed", "dim"))
    if version.note:
        out.print(Text(f"    {version.note}", "italic"))


def _moves(version: RowVersion, found: History) -> list[tuple[str, str, str]]:
    moves = []
    if version.key_was is not None:
        was, now = (", ".join(_value(v) for v in key.values()) for key in (version.key_was, version.key))
        moves.append(("key", was, now))
    if version.tenant_was is not UNSET:
        names = [t if t is not None else "none (shared)" for t in (version.tenant_was, version.tenant)]
        moves.append(("tenant", names[0], names[1]))
    if version.key != found.key and version.key_was is None and version.key and len(version.key) == len(found.key):
        moves.append(("key", "…", ", ".join(_value(v) for v in version.key.values())))
    return moves


def _change(change: Changed, version: RowVersion) -> Text:
    before, after = _value(change.before), _value(change.after)
    if version.values is None:
        return Text(before, "red")
    if change.before is UNSET:
        return Text(after, "green")
    return Text.assemble((before, "red"), " → ", (after, "green"))


def _value(value: str | UnsetType | None) -> str:
    if value is UNSET:
        return "(not recorded)"
    if value is None:
        return "null"
    if value == "":
        return "''"
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value[:_SHOWN])
    return shown if len(value) <= _SHOWN else f"{shown}… ({len(value):,} characters)"


def _when(moment: datetime | None) -> str:
    return "(time not known)" if moment is None else moment.astimezone().isoformat(sep=" ", timespec="milliseconds")
