"""`ballast verify`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from ballast.cli import options
from ballast.cli.output import out, show_json, show_table
from ballast.errors import ConfigError
from ballast.vault import config as configuration
from ballast.vault.health import VERIFIED_FILE, Verified, now_iso, write_state
from ballast.vault.ledger import PREFIX as LEDGER
from ballast.vault.store import Store, open_store
from ballast.vault.verify import verify as walk


def verify(
    vault_url: options.VaultUrl,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            help="The recorder's state folder: its own memory of the ledger shows a cut-off tail and a forged ledger.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="BALLAST_CONFIG",
            help="The settings that `ballast protect` wrote: they name the state folder and the vault's key.",
            show_default=False,
        ),
    ] = None,
    key: options.Key = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Count rows, but do not look at their order and sums.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Walk the whole vault: every entry, signature, object, hash, row and position; name each fault.

    Exit code 0 when the vault is sound, 1 when it is not. Where the state folder is known, `ballast status` shows the
    outcome from then on.

    [bold]Example[/bold]

      ballast verify --vault ./vault --state-dir .ballast
    """
    store = open_store(vault_url)
    if state_dir is None:
        state_dir = _state_of(store, config)
    if state_dir is None and not store.list(LEDGER):
        raise ConfigError(
            f"There is no vault at {store.url}.", "Check the address, or begin one with `ballast protect`."
        )
    report = walk(store, state_dir=state_dir, key=options.pinned(key, config), deep=not quick)
    if state_dir is not None:
        _remember(
            state_dir,
            Verified(now_iso(), store.url, report.sound, len(report.faults), report.counts["entries"], not quick),
        )
    if as_json:
        show_json({"sound": report.sound, "counts": report.counts, "faults": report.faults})
    else:
        if report.faults:
            show_table(
                "faults",
                ("what", "kind", "explanation", "hurt"),
                [(fault.what, fault.kind, fault.explanation, fault.where) for fault in report.faults],
            )
        out.print(", ".join(f"{count:,} {name}" for name, count in report.counts.items()))
        out.print("sound" if report.sound else f"NOT SOUND: {len(report.faults)} faults")
    if not report.sound:
        raise typer.Exit(1)


def _state_of(store: Store, config: Path | None) -> Path | None:
    """The state folder of the recorder that writes this very vault (not a copy of it, nor another), if it is known here."""
    path = config or options.DEFAULT_CONFIG
    if config is None and not path.exists():
        return None
    settings = configuration.load(path)
    return settings.state_dir if open_store(settings.vault).url == store.url else None


def _remember(state_dir: Path, verified: Verified) -> None:
    """For `ballast status`. Whoever may read the vault need not be able to write there."""
    with contextlib.suppress(OSError):
        write_state(state_dir, VERIFIED_FILE, verified)
