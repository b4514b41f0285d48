"""What commands do where ballast.toml names several nodes: the same on each of them, told together."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import msgspec
import typer
from psycopg.conninfo import make_conninfo
from rich.text import Text

from ballast import recovery
from ballast.cli import protect as one
from ballast.cli import restore as restored
from ballast.cli import status as shown
from ballast.cli.output import Bars, err, out, show_json
from ballast.errors import BallastError, ConfigError
from ballast.recovery.spread import pieces, put_back
from ballast.vault import Vault, citus, nodes
from ballast.vault import protect as protecting
from ballast.vault import unprotect as unprotecting
from ballast.vault.apart import together
from ballast.vault.checks import Finding
from ballast.vault.examine import examine
from ballast.vault.lifeline import Child
from ballast.vault.logbook import Logbook
from ballast.vault.nodes import Spread
from ballast.vault.protect import foresee
from ballast.vault.settle import wanted_of
from ballast.vault.status import status as look

_LOOK_S = 30.0
"""How often the recorders' parent asks Citus whether shards were moved."""
_STOP_S = 120.0


def protect(spread: Spread, secrets: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Every node is looked at before any is changed."""
    dsns = {node.name: make_conninfo(node.settings.dsn, **secrets) for node in spread.nodes}
    looked = {}
    for node in spread.nodes:
        found = foresee(
            node.settings, dsns[node.name], examine(dsns[node.name], node.settings.tenants, wanted_of(node.settings))
        )
        looked[node.name] = found.report
    problems = together(dsns)
    if spread.coordinator:
        problems += citus.problems(spread, dsns)
        problems += tuple(citus.identity_problems(looked[spread.coordinator].identities))
    bad = bool(problems) or any(report.problems for report in looked.values())
    if as_json and (dry_run or bad):
        show_json({"nodes": looked, "problems": problems})
    elif not as_json:
        for name, report in looked.items():
            _title(name)
            one.show_report(report)
        _show_problems(problems)
    if bad:
        if not as_json:
            err.print("Nothing was changed. Settle what is listed under problems, then run the same command again.")
        raise typer.Exit(1)
    if dry_run:
        if not as_json:
            out.print("Nothing was changed (--dry-run).")
        return
    nodes.write(spread)
    outcomes = {}
    for node in spread.nodes:
        if not as_json:
            _title(node.name)
        nodes.write_node(node)
        with one.Shown(quiet=as_json) as watcher:
            outcomes[node.name] = protecting.protect(node.settings, node.config_path, dsns[node.name], watcher)
            if not as_json:
                one.show_outcome(outcomes[node.name], node.config_path, password=bool(secrets), next_step=False)
    moved = citus.heed_moves(spread, dsns) if spread.coordinator else ()
    if as_json:
        show_json({"outcomes": outcomes, "reports": looked, "moved": moved})
        return
    for line in moved:
        out.print(line, markup=False)
    out.print(f"Next: ballast record --config {spread.path}   (a recorder for each node)", markup=False)


def _show_problems(problems: tuple[Finding, ...]) -> None:
    if problems:
        out.print("problems:", style="bold red")
        for problem in problems:
            out.print(f"  - {problem}", markup=False)


def unprotect(spread: Spread, *, as_json: bool) -> None:
    """Each node in turn; one that does not answer keeps no other from it."""
    steps: dict[str, tuple[str, ...]] = {}
    failures: dict[str, BallastError] = {}
    for node in spread.nodes:
        try:
            steps[node.name] = tuple(unprotecting.unprotect(node.settings, node.settings.dsn).steps)
        except BallastError as error:
            failures[node.name] = error
    if as_json:
        show_json({"steps": steps, "failed": failures})
    else:
        for name, lines in steps.items():
            out.print(f"{name}: {'; '.join(lines) or 'there was nothing to be undone'}", markup=False)
        for name, failure in failures.items():
            out.print(f"{name}: {failure}", markup=False)
    if failures:
        raise typer.Exit(1)


def record(spread: Spread) -> None:
    """A recorder for each node as a child process, started again when it ends; until SIGTERM or Ctrl-C.

    ConfigError where a node is not protected yet."""
    log, stopping = Logbook("nodes"), threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for node in spread.nodes:
        if not node.config_path.exists():
            raise ConfigError(
                f"Node {node.name} is not protected yet.", f"Run `ballast protect --config {spread.path}`."
            )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    recorders = [
        Child(node.name, ["ballast.vault.recorder", "--config", str(node.config_path)], log) for node in spread.nodes
    ]
    waited_s = 0.0
    while not stopping.wait(1.0):
        for recorder in recorders:
            recorder.look_after()
        waited_s += 1.0
        if spread.coordinator and waited_s >= _LOOK_S:
            waited_s = 0.0
            try:
                for line in citus.heed_moves(spread, spread.dsns):
                    log.warning("shard_moved", what=line)
            except BallastError as error:
                log.warning("placements_unknown", reason=error)
    ending = [threading.Thread(target=recorder.stop, args=(_STOP_S,)) for recorder in recorders]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()


def status(spread: Spread, *, tenants: bool, as_json: bool) -> None:
    """Protected only if every node is; exit code 1 otherwise."""
    found = {node.name: look(node.settings, tenants=tenants) for node in spread.nodes}
    problems = citus.problems(spread, spread.dsns, since=True) if spread.coordinator else ()
    bad = [name for name, of_node in found.items() if not of_node.protected]
    protected = not bad and not problems
    if as_json:
        show_json({"protected": protected, "nodes": found, "problems": problems})
    else:
        if protected:
            out.print(Text(f"PROTECTED: all {len(found)} nodes ({', '.join(found)})", "bold green"))
        else:
            out.print(Text(f"NOT PROTECTED: {', '.join(bad) or 'the database as a whole'}", "bold red"))
        _show_problems(problems)
        for name, of_node in found.items():
            _title(name)
            shown.show(of_node)
    if not protected:
        raise typer.Exit(1)


class Source(msgspec.Struct, frozen=True):
    """The vaults of the nodes that are asked, and where their rows go."""

    vaults: dict[str, Vault]
    into: dict[str, str]
    through: str


def source(spread: Spread | None, vault_url: str | None, into: tuple[str, ...], node: str | None) -> Source | None:
    """By the settings, else by what the vault's folder holds; None where it is the vault of one database."""
    if spread is not None:
        settings = {n.name: n.settings for n in spread.nodes}
        places = {name: (s.vault, s.key) for name, s in settings.items()}
        if vault_url is not None:  # a copy of it, perhaps
            places = {name: (nodes.vault_of(vault_url, name), key) for name, (_, key) in places.items()}
    else:
        names = nodes.names_in(vault_url) if vault_url is not None else ()
        places = {name: (nodes.vault_of(str(vault_url), name), "") for name in names}
    if not places:
        return None
    if node is not None:
        if node not in places:
            raise ConfigError(f"There is no node {node}.", f"The nodes are {', '.join(places)}.")
        places = {node: places[node]}
    landing = dict(nodes.landing(spread, tuple(places), into))
    vaults = {name: Vault.open(url, key=key) for name, (url, key) in places.items()}
    return Source(vaults, landing, spread.coordinator if spread is not None else "")


def restore(found: Source, request: recovery.Request, at: str | None, *, as_json: bool) -> None:
    """Each tenant from the node that has it, everything from one node after the other."""
    reports: dict[str, list[recovery.Report]] = {}
    for piece in pieces(found.vaults, found.into, request, at, through=found.through):
        if not as_json:
            _title(piece.node)
        with Bars(quiet=as_json or not out.is_terminal) as bars:
            report = put_back(found.vaults[piece.node], piece, bars)
        reports.setdefault(piece.node, []).append(report)
        if not as_json:
            restored.show(report)
    proven = all(report.proven for of_node in reports.values() for report in of_node)
    if as_json:
        show_json({"proven": proven, "nodes": reports})
    if not proven:
        raise typer.Exit(1)


def _title(name: str) -> None:
    out.print(Text(f"\nnode {name}", "bold cyan"))
