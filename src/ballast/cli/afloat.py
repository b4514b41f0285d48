"""Continuity's part of `ballast status`, and `ballast recover --now`."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from rich.text import Text

from ballast.cli.output import out
from ballast.continuity import health
from ballast.continuity import settings as configured
from ballast.continuity.board import Board
from ballast.continuity.health import Decision, SentinelHealth
from ballast.continuity.helm import BOARD
from ballast.continuity.room import taken
from ballast.errors import ConfigError
from ballast.vault import config as configuration
from ballast.vault.config import Config

_DECISIONS = 5
_LATELY = timedelta(hours=1)


def look(config: Path, settings: Config) -> SentinelHealth | None:
    """What the sentinel of this machine said last; None: there has never been one."""
    return health.sentinel(_folder(config, settings))


def show(found: SentinelHealth | None) -> None:
    """For people."""
    if found is None:
        return
    out.print(Text.assemble((f"{'continuity':<15}", "dim"), _line(found)))
    for folder in found.kept:
        size = f"{taken(Path(folder)) / 1e9:,.1f} GB"
        out.print(Text(f"{'':<15}data of a lost server is kept: {folder}, {size}; delete it when nobody needs it"))
    if (kept := found.closed).files > 1:
        text = f"{kept.files:,} closed files of the intake, {kept.bytes / 1e6:,.1f} MB, since {kept.since[:10]}"
        beyond = f"; kept beyond their time: {kept.because}" if kept.because else ""
        out.print(Text(f"{'':<15}{text}{beyond}"))
    for decision in _lately(found):
        out.print(Text(f"{'':<15}{decision.at[11:19]} {decision.what}"))


def _lately(found: SentinelHealth) -> list[Decision]:
    """The last decisions; while all is well those of the last hour alone."""
    if found.mode != "home" or found.trouble or found.waits_for:
        return list(found.decisions[-_DECISIONS:])
    since = datetime.now(UTC) - _LATELY
    return [d for d in found.decisions if datetime.fromisoformat(d.at) > since][-_DECISIONS:]


def recover_now(config: Path, at: str | None, into: str | None) -> None:
    """The word for the recovery that the sentinel waits for, to the moment `at`; `into`: the DSN of an empty database,
    where home is somebody else's server and is elsewhere from now on. ConfigError where nobody waits for it."""
    settings = configuration.load(config)
    folder = _folder(config, settings)
    board = Board(folder / BOARD)
    if board.course().mode == "home":
        raise ConfigError(
            "Nothing is lost, as far as the sentinel has noticed: everybody is at home.",
            "See `ballast status`. To put a tenant back: `ballast rewind`; into another server: `ballast recover --into`.",
        )
    found = health.sentinel(folder)
    if into is not None and found is not None and found.ours:
        raise ConfigError(
            "The server is one that `ballast up` makes and keeps running, and is made anew where it was.",
            "Leave --into away.",
        )
    if into is not None:
        configuration.write(msgspec.structs.replace(settings, dsn=into), config)
    if not board.ring(f"recover {at or ''}".strip()):
        raise ConfigError(
            f"No sentinel listens in {folder}: there is nobody to do it.", "Start `ballast up`, then say it again."
        )
    out.print(f"said. How far it is: ballast status --config {config}", markup=False)


def _folder(config: Path, settings: Config) -> Path:
    found = configured.load(tomllib.loads(config.read_text(encoding="utf-8")), str(config))
    return configured.folder_of(found, settings.state_dir, config.absolute().parent)


def _line(found: SentinelHealth) -> str:
    state = "" if health.is_fresh(found) else f"the sentinel does not run (last word {found.written_at[:19]}); "
    if found.mode == "home":
        copied = f", {found.copied:,} entries ever accepted are in the store" if found.copied else ""
        state += f"everybody is at home; lifeboat {found.lifeboat}{copied}"
    else:
        state += (
            f"{found.mode.upper()} since {found.since[:19]} ({found.why.replace('_', ' ')}); lifeboat {found.lifeboat},"
            f" {found.home:,} of {found.tenants:,} tenants home, {found.accepted:,} entries to be merged"
        )
    told = (
        ("waits for", found.waits_for), ("vault away", found.vault_away), ("trouble", found.trouble), ("ALARM", found.alarm),
    )  # fmt: skip
    for name, text in told:
        state += f"; {name}: {text}" if text else ""
    return state
