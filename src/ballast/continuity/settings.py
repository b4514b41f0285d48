"""`[continuity]` and `[recovery]` of ballast.toml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from ballast.errors import ConfigError

FOLDER = "continuity"
LEAST_LIFEBOAT_BYTES = 1 << 30


class Continuity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How shops stay open while their database is away."""

    enabled: bool = True
    """false: they do not"""
    folder: str = ""
    """board, intake, lifeboat; on this machine. Default: `continuity` beside the recorder's state folder"""
    handler: str = ""
    """module:function of the application that does again at home what was accepted meanwhile, as of `ballast merge`"""
    probe: str = ""
    """SQL that gives true while the application's data is there"""
    nodes: int = 1
    """web nodes that sell; each sells of what was left its share, and has an intake of its own"""
    node: int = 0
    """which of them this is, from 0"""
    lifeboat_bytes: int = 4 << 30
    """room that the lifeboat may take on this machine's disk; beyond it another takes its place, with the shops that are visited
    from then on"""
    intake_days: int = 90
    """so long what was accepted, and is at home, is kept on this machine; in the vault's store its copy stays"""
    intake_bytes: int = 1 << 30
    """or as long as all of it takes no more than this"""
    undecided: str = ""
    """SQL that gives tenant and key of what was accepted, could not be kept at home, and nobody has decided about yet"""


class Recovery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows a loss."""

    automatic: bool | Literal["ask"] | None = None
    """true: the server is made anew and recovered at once; "ask": when `ballast recover --now` says so. Default: true
    for a server of our own, "ask" for one that somebody else keeps"""


class Settings(msgspec.Struct, frozen=True):
    """Both."""

    continuity: Continuity = Continuity()
    recovery: Recovery = Recovery()

    def asks(self, *, ours: bool) -> bool:
        """Whether a person gives the word for a recovery. `ours`: the server is one that we make and keep running."""
        return not ours if self.recovery.automatic is None else self.recovery.automatic == "ask"


_Table = TypeVar("_Table", Continuity, Recovery)


def load(document: Mapping[str, Any], name: str) -> Settings:
    """Of a settings file as tomllib reads it; `name` is the file's. ConfigError names the table and what is allowed."""
    found = Settings(
        _table(document, "continuity", Continuity, name),
        _table(document, "recovery", Recovery, name),
    )
    if found.recovery.automatic is False:
        raise ConfigError(
            f"{name}: [recovery] automatic is false.", 'Allowed is true, or "ask" (`ballast recover --now` begins it).'
        )
    sea = found.continuity
    if not (sea.nodes >= 1 and 0 <= sea.node < sea.nodes):
        raise ConfigError(
            f"{name}: [continuity] node is {sea.node} of {sea.nodes}.", "Nodes are counted from 0 to nodes - 1."
        )
    if sea.lifeboat_bytes < LEAST_LIFEBOAT_BYTES:
        raise ConfigError(
            f"{name}: [continuity] lifeboat_bytes is {sea.lifeboat_bytes:,}.",
            f"An empty server takes up to {LEAST_LIFEBOAT_BYTES:,}; give it more than that.",
        )
    if sea.intake_days < 1 or sea.intake_bytes < 0:
        raise ConfigError(
            f"{name}: [continuity] intake_days is {sea.intake_days}, intake_bytes {sea.intake_bytes}.",
            "A day at least; bytes from 0 on.",
        )
    return found


def folder_of(found: Settings, state_dir: Path, settings_folder: Path) -> Path:
    """Continuity's folder on this machine. `settings_folder`: where the settings file is."""
    if found.continuity.folder:
        return (settings_folder / Path(found.continuity.folder).expanduser()).absolute()
    return state_dir.parent / FOLDER


def _table(document: Mapping[str, Any], table: str, kind: type[_Table], name: str) -> _Table:
    try:
        return msgspec.convert(document.get(table, {}), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise ConfigError(f"{name}: [{table}] is not right: {error}.", f"Known are: {known}.") from None
