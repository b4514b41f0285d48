"""`ballast recover`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ballast import recovery
from ballast.cli import afloat, options
from ballast.cli.output import Bars, out, show_table
from ballast.cli.protect import without_password
from ballast.errors import ConfigError
from ballast.vault import config as configuration
from ballast.vault.signing import KEY_FILE
from ballast.vault.store import open_store
from ballast.vault.succession import make_ready


class _Shown:
    """The onlooker: bars for people, with `--json` a line of JSON every half second."""

    def __init__(self, bars: Bars, *, as_json: bool) -> None:
        self._bars, self._as_json = bars, as_json

    def begin(self, stage: str, rows: int) -> None:
        """A new stage."""
        self._bars.begin(stage, rows)
        if self._as_json:
            _line({"stage": stage})

    def advance(self, rows: int) -> None:
        """Rows are back."""
        self._bars.advance(rows)

    def opened(self) -> None:
        """Tenants are served."""
        if self._as_json:
            _line({"opened": True})
        else:
            out.print("open: tenants come back as they are asked for (SELECT ballast.ensure_tenant('…'))")

    def say(self, line: str) -> None:
        """What people should know at once."""
        if self._as_json:
            _line({"said": line})
        else:
            out.print(f"  {line}", markup=False)

    def progressed(self, progress: recovery.Progress) -> None:
        """How far it is."""
        if self._as_json:
            _line({"progress": progress})
            return
        waiting = ""
        if progress.tenants_waited_for:
            more = "" if progress.tenants_waited_for == len(progress.waiting) else ", …"
            waiting = f", {progress.sessions_waiting} sessions wait for {', '.join(progress.waiting)}{more}"
        failed = f", {progress.tenants_failed} failed" if progress.tenants_failed else ""
        self._bars.describe(f"tenants {progress.tenants_back:,} of {progress.tenants:,}{failed}{waiting}")


def recover(
    vault_url: Annotated[
        str | None,
        typer.Option("--vault", envvar="BALLAST_VAULT", help="The vault, as everywhere.", show_default=False),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", help="DSN of the empty database to rebuild the platform in.", show_default=False),
    ] = None,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help='Instead of --vault: the word for the recovery that a sentinel waits for ([recovery] automatic = "ask", or a'
            " server that is not ours: an empty one in its place, or where --into says).",
        ),
    ] = False,
    priority: Annotated[
        Path | None,
        typer.Option("--priority", help="File of lines `tenant,rank`: 1 comes back before 2.", show_default=False),
    ] = None,
    priority_query: Annotated[
        str | None,
        typer.Option(
            "--priority-query",
            help="SQL over the shared tables (they are back when it runs) that gives tenant and rank.",
            show_default=False,
        ),
    ] = None,
    tenant_setting: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant-setting",
            help="A setting, such as app.tenant, in which sessions of the application name their tenant; several times. Those"
            " that its row-level policies compare the tenant column with are found.",
            show_default=False,
        ),
    ] = None,
    at: options.At = None,
    inexact: Annotated[
        bool,
        typer.Option("--inexact", help="Go on where the record has a gap at that moment; the report names the tables."),
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=32, help="Workers; as many more serve those who wait.")
    ] = 2,
    dask: options.Dask = None,
    config: options.PinningConfig = None,
    key: options.Key = None,
    protect: Annotated[
        bool | None,
        typer.Option(
            "--protect/--no-protect",
            help="Protect the new server before its first tenant is back, with the recorder's settings and state folder"
            " (--config). Default: where --config, or a ballast.toml here, is that of this vault's recorder.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines of JSON on standard output; the last is the report.")
    ] = False,
) -> None:
    """Rebuild a lost platform on an empty server, open from the first seconds.

    Structure and shared rows come first; then tenants: those asked for just now, those of the priority list, the rest. A
    tenant that is not back yet cannot be read as empty, nor written to (SQLSTATE BL001). In any session
    SELECT ballast.ensure_tenant('42') returns when that tenant is whole. Interrupted, the same command goes on.

    With the recorder's settings at hand (--config) the new server is protected before its first tenant is back, and what
    only the recorder's spool holds is put into the vault first. Start `ballast record` when it says that it is open.

    A platform that runs by `ballast up` does all of this by itself; where [recovery] automatic is "ask", --now gives the word.

    [bold]Example[/bold]

      ballast recover --vault ./vault --into postgresql:///shop --priority vip.csv

      ballast recover --now
    """
    if now:
        afloat.recover_now(config or options.DEFAULT_CONFIG, at, without_password(into) if into else None)
        return
    if vault_url is None or into is None:
        missing = "--vault (BALLAST_VAULT)" if vault_url is None else "--into"
        raise ConfigError(f"{missing} is not given.", "Name the vault and the empty database, or say --now.")
    if priority is not None and priority_query is not None:
        raise ConfigError("there are two lists of priorities", "Give --priority or --priority-query, not both.")
    shown = _Shown(bars := Bars(quiet=as_json or not out.is_terminal), as_json=as_json)
    protecting = _protecting(vault_url, config, into, wanted=protect)
    if protecting is not None:
        # First of all: what the recorder's spool still holds is part of the newest moment.
        make_ready(protecting.settings, protecting.config_path, into, shown.say)
        config = protecting.config_path
    pinned = options.pinned(key, config)
    vault = options.opened(vault_url, key, config)
    if not pinned and not as_json:
        out.print(f"the vault's key is {vault.index.genesis.public_key[:16]}: pin it with --key or --config")
    wish = recovery.Wish(
        priority=recovery.Priority(priority, priority_query),
        settings=tuple(tenant_setting or ()),
        jobs=jobs,
        inexact=inexact,
        protecting=protecting,
    )
    # "The newest" may have moved on since an interrupted recovery began: it goes on at its own moment.
    resolved = vault.resolve(at or recovery.recovery_begun(vault, into))
    if not as_json:
        out.print(f"as of {resolved.how}")
    with options.hands(dask) as hands, bars:
        recovered = recovery.recover(vault, resolved, into, wish, shown, hands)
    if as_json:
        _line({"proven": recovered.proven, "report": recovered})
    else:
        _show(recovered)
        _show_protection(recovered, protecting)
    if not recovered.proven or (protecting is not None and not recovered.is_protected):
        raise typer.Exit(1)


def _protecting(vault_url: str, config: Path | None, into: str, *, wanted: bool | None) -> recovery.Protecting | None:
    """By whom the new server is protected; None: by nobody. ConfigError where it is asked for and cannot be."""
    path = config or options.DEFAULT_CONFIG
    if wanted is False or (wanted is None and not path.exists()):
        return None
    settings = configuration.load(path)
    if open_store(settings.vault).url != open_store(vault_url).url:
        why = f"{path} is of the vault {settings.vault}"
    elif not (settings.state_dir / KEY_FILE).exists():
        why = f"the recorder's state folder {settings.state_dir}, with the key that signs the vault, is not here"
    else:
        moved = msgspec.structs.replace(settings, dsn=without_password(into))
        return recovery.Protecting(moved, path, into)
    if wanted:
        raise ConfigError(
            f"The new server cannot be protected: {why}.",
            "Run this where the recorder's settings and state folder are (--config), or give --no-protect and run"
            " `ballast protect` there as soon as this says that the platform is open.",
        )
    return None


def _show_protection(recovered: recovery.Recovered, protecting: recovery.Protecting | None) -> None:
    if protecting is None:
        out.print("the new server is not protected: run `ballast protect` with its DSN, then `ballast record`")
    elif recovered.is_protected:
        out.print(f"protected: its DSN is in {protecting.config_path}; `ballast record` records it", markup=False)


def _line(document: object) -> None:
    sys.stdout.write(msgspec.json.encode(document, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def _show(recovered: recovery.Recovered) -> None:
    if recovered.finished_before:
        out.print("this database was recovered from this vault already, and proven: nothing is left to do")
        return
    show_table(
        "read back as they came and compared with the record",
        ("table", "rows", "checksum", ""),
        [
            (p.table, f"{p.restored.rows:,}", f"{p.restored.checksum:016x}", "equal" if p.equal else "DIFFERS")
            for p in recovered.tables
        ],
    )
    for line in recovered.warnings:
        out.print(f"warning: {line}", markup=False)
    for line in recovered.failures:
        out.print(f"not back: {line}", markup=False)
    for line in recovered.broken_foreign_keys:
        out.print(f"broken foreign key: {line}", markup=False)
    if recovered.inexact:
        out.print(f"not exact at that moment: {', '.join(recovered.inexact)}", markup=False)
    opened = "" if recovered.opened_after_s is None else f", open after {recovered.opened_after_s:.2f} s"
    out.print(
        f"{recovered.tenants:,} tenants, {recovered.rows:,} rows in {recovered.elapsed_s:.2f} s{opened}: "
        + ("proven equal" if recovered.proven else "NOT PROVEN; mend the cause and run the same command again")
    )
