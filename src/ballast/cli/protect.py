"""`ballast protect` and `ballast unprotect`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.cli import options
from ballast.cli.output import Bars, err, out, show_json, show_table
from ballast.errors import ConfigError
from ballast.postgres.session import complaint
from ballast.vault import citus, config, nodes
from ballast.vault import protect as protecting
from ballast.vault import unprotect as unprotecting
from ballast.vault.config import Config, Record, Tenants, is_address
from ballast.vault.examine import Report, examine
from ballast.vault.protect import Outcome, foresee
from ballast.vault.settle import wanted_of

Acknowledge = Literal["spool", "store", "off"]


class Given(msgspec.Struct, frozen=True):
    """What was said on the command line; None: nothing."""

    dsn: str
    vault: str | None
    state_dir: Path | None
    tenant_column: str | None
    shared: tuple[str, ...]
    slot: str | None
    publication: str | None
    acknowledge: Acknowledge | None


def protect(
    dsn: Annotated[
        str | None,
        typer.Argument(
            help="The production database: a libpq connection string or postgresql:// URL. A password in it is used and"
            " not written down; PGPASSWORD and ~/.pgpass work for the recorder, too. Left out where ballast.toml names several"
            " servers under \\[nodes].",
            show_default=False,
        ),
    ] = None,
    vault_url: Annotated[
        str | None,
        typer.Option(
            "--vault",
            envvar="BALLAST_VAULT",
            help="Where the vault is to be: a folder, or s3://bucket/prefix (endpoint and credentials from AWS_… in the"
            " environment).",
            show_default=False,
        ),
    ] = None,
    tenant_column: Annotated[
        str | None,
        typer.Option(
            "--tenant-column", help="The column that names the tenant, in every table that has it.", show_default=False
        ),
    ] = None,
    config_file: options.ConfigFile = options.DEFAULT_CONFIG,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir", help="The recorder's own folder, on a local disk. Default: .ballast", show_default=False
        ),
    ] = None,
    shared: Annotated[
        list[str] | None,
        typer.Option(
            "--shared", help="schema.table whose rows belong to all tenants; several times.", show_default=False
        ),
    ] = None,
    slot: Annotated[
        str | None, typer.Option("--slot", help="Name of the replication slot. Default: ballast", show_default=False)
    ] = None,
    publication: Annotated[
        str | None, typer.Option("--publication", help="Name of the publication. Default: ballast", show_default=False)
    ] = None,
    acknowledge: Annotated[
        Acknowledge | None,
        typer.Option(
            "--acknowledge",
            help="When commits are let go: fsynced on the recorder's disk, in the store, or at once. Default: spool",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and tell, change nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Check a database, prepare it for recording, and take the first image while writes go on.

    Says whose rows it takes each table's to be, what it changes on the server, and what cannot be protected. Refuses to
    guess: what is not clear is written into ballast.toml under \\[tenants], which may be there before the first run.
    Running it again is safe: it completes, repairs, or does nothing. `ballast unprotect` undoes it.

    [bold]Example[/bold]

      ballast protect postgresql://ballast@db/shop --vault s3://shop-vault/production --tenant-column shop_id --dry-run
    """
    from ballast.cli import nodes as several  # it shows what it does with the functions of this module

    spread = nodes.load(config_file)
    if spread is not None and dsn is not None and not spread.coordinator:
        raise ConfigError(
            f"{config_file} names several nodes, and a DSN was given.", "Leave the DSN out, or correct the file."
        )
    if dsn is None and spread is None:
        raise ConfigError("The DSN is missing.", f"Give it, or name the servers under [nodes] in {config_file}.")
    if dsn is not None:
        given = Given(dsn, vault_url, state_dir, tenant_column, tuple(shared or ()), slot, publication, acknowledge)
        topology = citus.look(dsn)
        if topology is not None:
            common = spread.common if spread is not None else settings_of(given, config_file)
            spread = citus.spread_of(topology, without_password(dsn), common, config_file)
    if spread is not None:
        several.protect(spread, secrets_of(dsn), dry_run=dry_run, as_json=as_json)
        return
    assert dsn is not None
    settings = settings_of(given, config_file)
    looked = foresee(settings, dsn, examine(dsn, settings.tenants, wanted_of(settings)))
    if not as_json:
        show_report(looked.report)
    elif dry_run or looked.report.problems:
        show_json({"report": looked.report})
    if looked.report.problems:
        if not as_json:
            err.print("Nothing was changed. Settle what is listed under problems, then run the same command again.")
        raise typer.Exit(1)
    if dry_run:
        if not as_json:
            out.print("Nothing was changed (--dry-run).")
        return
    with Shown(quiet=as_json) as shown:
        outcome = protecting.protect(settings, config_file, dsn, shown)
    if as_json:
        show_json({"outcome": outcome, "report": looked.report, "config": settings})
    else:
        show_outcome(outcome, config_file, password=config.has_password(dsn))


def unprotect(config_file: options.ConfigFile = options.DEFAULT_CONFIG, as_json: options.Json = False) -> None:
    """Take everything of Ballast's off the production server. The vault and ballast.toml stay.

    Commits no longer wait; event triggers, publication, slot and the schema ballast go; replica identities become what
    they were. The recorder must be stopped before.

    [bold]Example[/bold]

      ballast unprotect --config ballast.toml
    """
    if (spread := nodes.load(config_file)) is not None:
        from ballast.cli import nodes as several

        several.unprotect(spread, as_json=as_json)
        return
    settings = config.load(config_file)
    undone = unprotecting.unprotect(settings, settings.dsn)
    if as_json:
        show_json(undone)
        return
    for step in undone.steps:
        out.print(step, markup=False)
    for other in undone.left_for:
        out.print(f"the slot {other} is another recorder's: schema, triggers, identities and publication stay for it")
    out.print("not protected any more" if undone.steps else "there was nothing to be undone")


def settings_of(given: Given, path: Path) -> Config:
    """ballast.toml, where there is one (it may be incomplete), with what was said on the command line.

    ConfigError where the two contradict each other, but for the DSN: the server may have moved."""
    clean = without_password(given.dsn)
    folder = path.absolute().parent
    if not path.exists():
        if given.vault is None or given.tenant_column is None:
            missing = "--vault" if given.vault is None else "--tenant-column"
            raise ConfigError(f"{missing} is missing, and there is no {path}.", "See `ballast protect --help`.")
        return Config(
            dsn=clean,
            vault=_place(given.vault),
            state_dir=(given.state_dir or folder / ".ballast").absolute(),
            slot=given.slot or "ballast",
            publication=given.publication or "ballast",
            tenants=Tenants(column=given.tenant_column, shared=given.shared),
            record=Record(acknowledge=given.acknowledge or "spool"),
        )
    settings = _read(path, clean, given)
    tenants = settings.tenants
    said: tuple[tuple[str, Any, Any], ...] = (
        ("vault", given.vault and _place(given.vault), settings.vault),
        ("state-dir", given.state_dir and given.state_dir.absolute(), settings.state_dir),
        ("slot", given.slot, settings.slot),
        ("publication", given.publication, settings.publication),
        ("acknowledge", given.acknowledge, settings.record.acknowledge),
        ("tenant-column", given.tenant_column, tenants.column),
    )
    for name, option, written in said:
        if option and option != written:
            raise ConfigError(
                f"{path} says {written}, and --{name} says {option}.", f"Correct {path}, or leave --{name} out."
            )
    tenants = msgspec.structs.replace(tenants, shared=tuple(dict.fromkeys((*tenants.shared, *given.shared))))
    return msgspec.structs.replace(settings, dsn=clean, tenants=tenants)


def _read(path: Path, dsn: str, given: Given) -> Config:
    """The file, where it says nothing of a key with what the command line says."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return config.load(path)  # says what is wrong
    known: dict[str, dict[str, Any]] = {
        "": {
            "dsn": dsn,
            "vault": given.vault and _place(given.vault),
            "state_dir": given.state_dir and str(given.state_dir.absolute()),
            "slot": given.slot,
            "publication": given.publication,
        },
        "tenants": {"column": given.tenant_column},
        "record": {"acknowledge": given.acknowledge},
    }
    for group, values in known.items():
        place = document.setdefault(group, {}) if group else document
        if isinstance(place, dict):
            place.update({key: value for key, value in values.items() if value and key not in place})
    return config.convert(document, folder=path.absolute().parent, name=str(path))


def without_password(dsn: str) -> str:
    """The DSN as it may be written down."""
    if not config.has_password(dsn):
        return dsn
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"The DSN cannot be understood: {complaint(error)}.",
            'Write it as "host=db dbname=shop user=ballast" or postgresql://ballast@db/shop.',
        ) from None
    return make_conninfo("", **{name: value for name, value in parts.items() if not config.is_secret(name)})


def secrets_of(dsn: str | None) -> dict[str, Any]:
    """What of the DSN may not be written down: it is used for every node."""
    parts = conninfo_to_dict(dsn) if dsn is not None and config.has_password(dsn) else {}
    return {name: value for name, value in parts.items() if config.is_secret(name)}


def _place(url: str) -> str:
    return url if is_address(url) else str(Path(url).expanduser().absolute())


class Shown:
    """A `Watcher` for people: a line a step, a bar for the image."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bars = Bars(quiet=quiet or not err.is_terminal)

    def __enter__(self) -> Shown:
        self._bars.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.__exit__(*exc)

    def say(self, line: str) -> None:
        if not self._quiet:
            out.print(f"  {line}", markup=False)

    def begin(self, stage: str, rows: int) -> None:
        self._bars.begin(stage, rows)

    def advance(self, rows: int) -> None:
        self._bars.advance(rows)


def show_report(report: Report) -> None:
    """What was found, for people."""
    server = report.server
    out.print(f"PostgreSQL {server.version}, database {server.database}, as {server.role}", markup=False)
    show_table(
        "whose rows are in each table",
        ("table", "tenant", "rows (about)", ""),
        [(t.table, t.tenant, "?" if t.rows is None else f"{t.rows:,}", t.remark) for t in report.tables],
    )
    if report.unprotected:
        show_table(
            "what cannot be protected",
            ("what", "which", ""),
            [(u.kind, ", ".join(u.names), u.note) for u in report.unprotected],
        )
    for title, lines in (
        ("what will be done", report.changes),
        ("warnings", tuple(map(str, report.warnings))),
        ("problems", tuple(map(str, report.problems))),
    ):
        if lines:
            out.print(f"{title}:", style="bold red" if title == "problems" else "bold")
        for line in lines:
            out.print(f"  - {line}", markup=False)


def show_outcome(outcome: Outcome, config_file: Path, *, password: bool, next_step: bool = True) -> None:
    """What was done, for people."""
    if outcome.did == "already protected":
        out.print(f"already protected: {outcome.tables} tables, recorded until {outcome.position}")
        return
    if outcome.did == "another timeline" and not outcome.rows:
        out.print("no image was needed: the record of every row that is there goes on", markup=False)
    elif outcome.rows or outcome.did != "repaired":
        out.print(
            f"image: {outcome.tables} tables, {outcome.rows:,} rows, {outcome.bytes:,} bytes as text,"
            f" {outcome.elapsed_s:.1f} s; the vault holds {outcome.vault_bytes:,} bytes"
        )
    out.print(f"{outcome.did}: timeline {outcome.timeline}, from position {outcome.position}")
    if password:
        out.print(
            f"The password was not written into {config_file}: the recorder needs PGPASSWORD, ~/.pgpass or a service file."
        )
    if next_step:
        out.print(
            f"Next: ballast record --config {config_file}   (until it runs, production keeps its WAL for it)",
            markup=False,
        )
