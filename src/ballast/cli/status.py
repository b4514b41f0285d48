"""`ballast status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from ballast.cli import afloat, options
from ballast.cli.output import out, show_json
from ballast.postgres.lsn import format_lsn
from ballast.vault import config as configuration
from ballast.vault import nodes
from ballast.vault.status import Status
from ballast.vault.status import status as look
from ballast.vault.verdict import Problem, Verdict, moment, shown

_COLOURS = {"protected": "bold green", "newest can be lost": "bold yellow", "not protected": "bold red"}
_NAMES = 8
_SIZES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def status(
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    key: options.Key = None,
    node: options.Node = None,
    tenants: Annotated[bool, typer.Option("--tenants", help="Also list every tenant in the vault.")] = False,
    as_json: options.Json = False,
) -> None:
    """Whether production is protected, in plain words; then the figures.

    Asks the recorder's state folder, the vault and production, and changes nothing. What does not answer is shown as
    unknown. Exit code 0 when production is protected as configured; 1 when it is not, or when its newest commits can be
    lost although they should wait for the recorder. Where the settings name several nodes, all of them must be.

    [bold]Examples[/bold]

      ballast status

      ballast status --config ballast.toml --json | jq .protected
    """
    spread = nodes.load(config)
    if spread is not None and node is None:
        from ballast.cli import nodes as several  # it shows each node with the functions of this module

        several.status(spread, tenants=tenants, as_json=as_json)
        return
    settings = configuration.load(options.of_node(spread, node, config))
    settings = msgspec.structs.replace(settings, key=options.pinned(key, None) or settings.key)
    found = look(settings, tenants=tenants)
    sea = afloat.look(config, settings) if node is None else None
    if as_json:
        show_json({**msgspec.structs.asdict(found), "continuity": sea} if sea is not None else found)
    else:
        show(found)
        afloat.show(sea)
    if not found.protected:
        raise typer.Exit(1)


def show(found: Status) -> None:
    """All of it, for people."""
    _show_verdict(found.verdict)
    out.print()
    for name, text in _lines(found):
        out.print(Text.assemble((f"{name:<15}", "dim"), text))
    _show_list("not protected", [*_unprotected(found)])
    _show_list("gaps", [*_gaps(found)])
    if found.vault is not None and found.vault.tenants is not None:
        out.print(Text(f"\n{len(found.vault.tenants):,} tenants", "bold"))
        for tenant in found.vault.tenants:
            out.print(Text(f"  {tenant}"))


def _show_verdict(verdict: Verdict) -> None:
    out.print(Text(verdict.headline, _COLOURS[verdict.state]))
    for at, problem in enumerate(verdict.problems):
        _show_problem(problem, "also: " if at else None)
    for problem in verdict.remarks:
        _show_problem(problem, "attention: ")


def _show_problem(problem: Problem, label: str | None) -> None:
    if label is not None:
        out.print(Text.assemble((f"  {label}", "bold yellow"), problem.what))
    if problem.do:
        out.print(Text.assemble(("  do: ", "bold"), problem.do))


def _lines(found: Status) -> Iterator[tuple[str, str]]:
    yield "recorder", _recorder(found)
    if found.recorder is not None:
        yield "position", _position(found)
        yield "lag", _lag(found)
        limit = f"of at most {_size(found.spool_limit_bytes)}"
        yield "spool", f"{_count(found.recorder.spool_files, 'file')}, {_size(found.recorder.spool_bytes)} {limit}"
    yield "sealer", _sealer(found)
    if found.wishes:
        yield "due", "; ".join(f"{wish.kind}: {wish.reason}" for wish in found.wishes)
    yield "vault", _vault(found)
    if found.vault is not None:
        if found.vault.strays:
            yield (
                "strays",
                f"objects under ledger/ that are no entries: {_names(found.vault.strays)}; run `ballast verify`",
            )
        yield "to be merged", _count(found.vault.segments_to_merge, "segment")
        if found.vault.undeclared:
            yield (
                "undeclared",
                f"{_names(found.vault.undeclared)}: kept as shared; say whose rows they hold under [tenants]",
            )
    yield "verified", _verified(found)
    yield "drilled", _drilled(found)
    yield "production", _production(found)
    yield "commits", _commits(found)


def _recorder(found: Status) -> str:
    recorder = found.recorder
    if recorder is None:
        return "has never run here"
    if not found.recorder_running:
        return f"not running; last seen {shown(recorder.written_at)}"
    state = recorder.state.replace("_", " ")
    return (
        f"{state} since {shown(recorder.since)}, process {recorder.pid},"
        f" {_count(round(recorder.commits_per_s), 'commit')} in the last second, {_count(recorder.reconnects, 'reconnect')}"
    )


def _position(found: Status) -> str:
    assert found.recorder is not None
    at = f"{found.recorder.timeline}/{format_lsn(found.recorder.durable_lsn)} is on disk"
    if found.recorder.last_commit_at is None:
        return f"{at}; no commit since the recorder started"
    return f"{at}; newest commit of {shown(found.recorder.last_commit_at)}"


def _lag(found: Status) -> str:
    if found.lag_bytes is None:
        return "unknown"
    if found.lag_bytes == 0:
        return "none"
    seconds = "" if found.lag_s is None else f", {found.lag_s:,.1f} s since the newest recorded commit"
    return f"{_size(found.lag_bytes)} of WAL{seconds}"


def _sealer(found: Status) -> str:
    sealer = found.sealer
    if sealer is None:
        return "has never run here"
    waiting = f"{_count(sealer.waiting_files, 'file')} ({_size(sealer.waiting_bytes)}) to be sealed"
    state = (
        sealer.state.replace("_", " ") if found.sealer_running else f"not running; last seen {shown(sealer.written_at)}"
    )
    return f"{state}; sealed up to {sealer.timeline}/{format_lsn(sealer.sealed_lsn)}, {waiting}"


def _vault(found: Status) -> str:
    vault = found.vault
    if vault is None:
        return f"unknown: {found.vault_unknown}"
    if vault.earliest is None:
        return f"{vault.url}: no image is in it yet, so that nothing can be restored"
    newest = "" if vault.newest_commit_at is None else f" ({shown(vault.newest_commit_at)})"
    return (
        f"{vault.url}: {_size(vault.bytes)}, {_count(vault.segments, 'segment')}, {_count(vault.images, 'image')};"
        f" restores from {vault.earliest} to {vault.newest}{newest}"
    )


def _verified(found: Status) -> str:
    verified = found.verified
    if verified is None:
        return "never, as far as is known here: `ballast verify` walks the vault"
    depth = "" if verified.deep else ", quick"
    said = (
        "sound" if verified.sound else f"NOT SOUND: {_count(verified.faults, 'fault')}; run `ballast verify` for them"
    )
    return f"{shown(verified.at)}{depth}, {verified.entries:,} entries: {said}"


def _drilled(found: Status) -> str:
    drilled = found.drilled
    if drilled is None:
        return "never: `ballast drill` proves that what production has comes back"
    age_s = (moment(found.at) - moment(drilled.at)).total_seconds()
    when = f"{shown(drilled.at)}, {_age(age_s)} ago"
    if drilled.failure:
        return f"{when}: could not be carried out: {drilled.failure}"
    said = "equal" if drilled.equal else f"NOT EQUAL: {_count(drilled.differences, 'difference')}"
    whom = f"{drilled.tenants:,} of {_count(drilled.tenants_known, 'tenant')}"
    times = (
        ""
        if drilled.all_s is None
        else f"; first tenant in {drilled.first_tenant_s:,.1f} s, all in {drilled.all_s:,.1f} s"
    )
    return f"{when}, {whom}: {said}{times}"


def _age(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            return _count(int(seconds // unit), name)
    return _count(max(int(seconds), 0), "second")


def _production(found: Status) -> str:
    production = found.production
    if production is None:
        return f"unknown: {found.production_unknown}"
    slot = production.slot
    if slot is None:
        return "the slot is missing"
    limit = "no limit is set" if slot.limit_bytes is None else f"of at most {_size(slot.limit_bytes)}"
    held = "unknown" if slot.held_bytes is None else _size(slot.held_bytes)
    read = "is read" if slot.active else "is not read by anybody"
    return f"the slot {read} and keeps {held} of WAL ({limit})"


def _commits(found: Status) -> str:
    if found.acknowledge == "off":
        return 'never wait (acknowledge = "off")'
    recorder, production = found.recorder, found.production
    waits = production.waits if production is not None else recorder.armed if recorder is not None else None
    now = {True: "wait", False: "do not wait just now", None: "unknown whether they wait"}[waits]
    loss = f'on_recorder_loss = "{found.on_recorder_loss}"'
    if found.on_recorder_loss == "wait":
        return f"{now}; while the recorder is away they hang until it is back ({loss})"
    watchdog = "a watchdog sees to it" if found.watchdog_running else "NO WATCHDOG RUNS HERE"
    return f"{now}; without a recorder they go on unprotected after a while ({loss}; {watchdog})"


def _unprotected(found: Status) -> Iterator[str]:
    if found.production is None:
        yield "unknown, since production does not answer"
        return
    for part in found.production.unprotected:
        names = f": {_names(part.names)}" if part.names else ""
        yield f"{part.kind}{names} ({part.note})"


def _gaps(found: Status) -> Iterator[str]:
    for gap in found.vault.gaps if found.vault is not None else ():
        tables = "all tables" if gap.tables is None else _names(gap.tables)
        until = f"to {gap.to_position}" if gap.to_position is not None else "OPEN"
        yield f"{tables} from {gap.from_position} {until}: {gap.reason} (found {shown(gap.detected_at)})"


def _show_list(title: str, lines: Sequence[str]) -> None:
    if lines:
        out.print(Text(f"\n{title}", "bold"))
        for line in lines:
            out.print(Text(f"  {line}"))


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _size(count: int) -> str:
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return _count(count, "byte")
