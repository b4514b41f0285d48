"""What commands on a live protected database have in common: where it is, who asks, and how they show what they did."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from ballast.cli import options
from ballast.cli.output import out, show_table
from ballast.recovery.rewound import Rewound, Sample, Values
from ballast.vault import Vault
from ballast.vault import config as configuration

Dsn = Annotated[
    str | None,
    typer.Argument(metavar="[DSN]", help="The live database. Default: that of the settings.", show_default=False),
]
VaultUrl = Annotated[
    str | None,
    typer.Option(
        "--vault",
        envvar="BALLAST_VAULT",
        help="The vault: a folder, or s3://bucket/prefix. Default: that of the settings.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BALLAST_CONFIG",
        help="The settings that `ballast protect` wrote. Default: ballast.toml, where DSN or --vault is left out.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
By = Annotated[str, typer.Option("--by", help="Who does it, for `ballast history`. Default: this account.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for `ballast history`.")]

_SHOWN = 60
"""Characters of a value; `--json` has it whole."""


class Place(msgspec.Struct, frozen=True):
    """The database and its vault."""

    dsn: str
    vault: str
    key: str
    state_dir: Path | None
    """The recorder's, if the settings name one."""
    counters: tuple[str, ...] = ()
    """Columns that count, by the settings."""

    def open(self, *, quiet: bool) -> Vault:
        """The vault, held against its key; without one, and unless `quiet`, its own is shown."""
        vault = Vault.open(self.vault, key=self.key)
        if not self.key and not quiet:
            out.print(f"the vault's key is {vault.index.genesis.public_key[:16]}: pin it with --key or --config")
        return vault


def place(dsn: str | None, vault: str | None, config: Path | None, key: str | None) -> Place:
    """From what the command line says, and the settings for what it leaves out."""
    if config is None and dsn is not None and vault is not None:
        return Place(dsn, vault, options.pinned(key, None), None)
    settings = configuration.load(config or options.DEFAULT_CONFIG)
    same = vault is None or vault == settings.vault
    pinned = options.pinned(key, None) or (settings.key if same or config is not None else "")
    return Place(
        dsn or settings.dsn,
        vault or settings.vault,
        pinned,
        settings.state_dir if same else None,
        settings.tenants.counters,
    )


def asker(by: str) -> str:
    """Who asks: as given, or the account on this machine."""
    if by:
        return by
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def show(found: Rewound, *, back_again: str) -> None:
    """A rewind or an undo, for people. `back_again`: the command that takes it back, with a place for the position."""
    if found.tables:
        rows = [(t.table, f"{t.comes_back:,}", f"{t.changes:,}", f"{t.goes:,}") for t in found.tables]
        show_table("rows", ("table", "come back", "change", "go"), rows)
    for table in found.tables:
        out.print(Text(f"\n{table.table}", "bold"))
        for sample in table.sample:
            out.print(_sample(sample))
        more = table.comes_back + table.changes + table.goes - len(table.sample)
        if more:
            out.print(Text(f"  … and {more:,} more", "dim"))
    out.print()
    for line in _end(found, back_again):
        out.print(line, markup=False)


def _end(found: Rewound, back_again: str) -> Iterator[str]:
    for warning in found.warnings:
        yield f"warning: {warning}"
    if found.done:
        yield f"{found.rows:,} rows, in transaction {found.xid}, {found.elapsed_s:.2f} s; every row written was read back"
        yield f"recorded as: {found.actor}"
        if found.before is not None:
            yield f"to take it back: {back_again.format(at=found.before, xid=found.xid)}"
    elif found.tables:
        yield f"dry run: nothing was changed; {found.rows:,} rows would be"
    else:
        yield "nothing to do: all is as it should be"


def _sample(sample: Sample) -> Text:
    colours = {"comes back": "green", "changes": "yellow", "goes": "red"}
    line = Text("  ").append(f"{sample.what:<10}", colours[sample.what]).append("  ")
    if sample.what == "changes":
        moves = (f"{n}: {value(v)} → {value((sample.after or {})[n])}" for n, v in (sample.before or {}).items())
        return line.append(f"{values(sample.key)}   ").append(", ".join(moves))
    return line.append(values(sample.after or sample.before or {}))


def values(row: Values) -> str:
    """A row, or a part of it, in one line."""
    return ", ".join(f"{name}={value(text)}" for name, text in row.items())


def value(text: str | None) -> str:
    """A value in one line, cut where it is long."""
    if text is None:
        return "null"
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_SHOWN])
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text):,} characters)"
