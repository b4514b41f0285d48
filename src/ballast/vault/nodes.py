"""A database spread over several servers by tenant: `[nodes]` in ballast.toml, and the settings of each node from it.

Each node is protected as a database of its own, with its own vault, state folder, slot and recorder; so all that holds of
one database holds of each node, and a node lost or stopped keeps no other from being recorded or restored.

    <vault>/nodes/<name>/                       the node's vault: ledger, segments, images
    <state_dir>/nodes/<name>/                   its recorder's state folder
    <state_dir>/nodes/<name>/ballast.toml       its settings, written from those of all: every command takes them

Positions are those of one node. A moment over all of them is a time, which each node resolves to a cut of its own: a transaction
over several nodes that was committing just then can be there on one and not on another.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.errors import ConfigError
from ballast.vault import config
from ballast.vault.config import Config, is_address
from ballast.vault.durable import make_folder

FOLDER = "nodes"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_PURPOSE = """# The servers that the database is spread over by tenant: a name, and the connection string (no password here).
# A name stays with its server: the node's vault is kept under it."""


class Node(msgspec.Struct, frozen=True):
    """One of the servers."""

    name: str
    settings: Config
    """As those of one database."""

    @property
    def config_path(self) -> Path:
        """Where its settings are written, for its recorder and for every command that works on one node."""
        return self.settings.state_dir / "ballast.toml"


class Spread(msgspec.Struct, frozen=True):
    """All of them."""

    path: Path
    """The file that names them."""
    common: Config
    """What holds for all; its `dsn` says nothing."""
    dsns: dict[str, str]
    coordinator: str = ""
    """With Citus: the node through which rows are put back, so that they land on the right one. "": no Citus."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In the order of the file."""
        return tuple(self.node(name) for name in self.dsns)

    def node(self, name: str) -> Node:
        """The node of that name; ConfigError."""
        if name not in self.dsns:
            raise ConfigError(f"{self.path} has no node {name}.", f"Its nodes are {', '.join(self.dsns)}.")
        state_dir = self.common.state_dir / FOLDER / name
        settings = msgspec.structs.replace(
            self.common,
            dsn=self.dsns[name],
            vault=vault_of(self.common.vault, name),
            state_dir=state_dir,
            # So that logs and pg_stat_replication say which node's recorder it is.
            slot=f"{self.common.slot}_{name}",
            key="",
        )
        known = Node(name, settings)
        if known.config_path.exists():
            settings = msgspec.structs.replace(settings, key=config.load(known.config_path).key)
        return Node(name, settings)


def vault_of(vault: str, name: str) -> str:
    """Where the vault of a node is."""
    return f"{vault.rstrip('/')}/{FOLDER}/{name}" if is_address(vault) else str(Path(vault) / FOLDER / name)


def names_in(vault: str) -> tuple[str, ...]:
    """The nodes whose vaults are in there, for when no settings are left; StoreError."""
    from ballast.vault.store import open_store  # heavy, and whoever only starts recorders needs none

    return open_store(vault).folders(FOLDER)


def load(path: Path) -> Spread | None:
    """What the file says; None if there is none, or if it is that of one database. ConfigError as `config.load`."""
    if not path.exists():
        return None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        config.load(path)  # says what is wrong
        return None
    return None if FOLDER not in document else _convert(document, path)


def _convert(document: dict[str, Any], path: Path) -> Spread:
    nodes, citus = document.pop(FOLDER), document.pop("citus", {})
    if "dsn" in document or "key" in document:
        raise ConfigError(
            f"{path}: with [nodes], dsn and key have no place beside them.",
            "Each node has its connection string under [nodes]; keys are kept with each node's own settings.",
        )
    if not isinstance(nodes, dict) or not nodes or not all(isinstance(dsn, str) for dsn in nodes.values()):
        raise ConfigError(f'{path}: [nodes] needs lines name = "connection string".', 'Such as north = "host=north …".')
    for name, dsn in nodes.items():
        refuse_name(name, path)
        node = {**document, "dsn": dsn, "slot": f"{document.get('slot', 'ballast')}_{name}"}
        config.convert(node, folder=path.absolute().parent, name=f"{path} (node {name})")
    common = config.convert(
        {**document, "dsn": next(iter(nodes.values()))}, folder=path.absolute().parent, name=str(path)
    )
    coordinator = citus.get("coordinator", "") if isinstance(citus, dict) else ""
    if citus and (coordinator not in nodes or set(citus) != {"coordinator"}):
        raise ConfigError(f"{path}: [citus] names no node as coordinator.", 'It has one line, coordinator = "<node>".')
    return Spread(path, common, dict(nodes), coordinator)


def refuse_name(name: str, path: Path) -> None:
    """ConfigError for what no node can be called: names of folders and slots are made of it."""
    keywords = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if not _NAME.fullmatch(name) or name in keywords:
        raise ConfigError(
            f"{path}: {name} is no name for a node.",
            "Lower-case letters, digits and underscores, beginning with a letter; and no keyword of connection strings"
            " (host, port, …).",
        )


def write(spread: Spread) -> None:
    """The file, unless it says the same already (the owner's comments stay then); OSError."""
    if spread.path.exists() and load(spread.path) == spread:
        return
    folder = spread.path.absolute().parent
    make_folder(folder)
    text = config.render(spread.common, folder=folder, without=("dsn", "key"))
    lines = [text, _PURPOSE, "[nodes]", *(f"{name} = {config.in_toml(dsn)}" for name, dsn in spread.dsns.items())]
    if spread.coordinator:
        lines += ["", "# Found by `ballast protect`: rows are put back through this node.", "[citus]"]
        lines += [f"coordinator = {config.in_toml(spread.coordinator)}"]
    config.replace_file(spread.path, "\n".join(lines) + "\n")


def write_node(node: Node) -> None:
    """The node's own settings, where they are not as those of all say."""
    make_folder(node.config_path.parent)
    if not node.config_path.exists() or config.load(node.config_path) != node.settings:
        config.write(node.settings, node.config_path)


def _for_applications(dsn: str) -> str:
    """Without the options that `protect` needs: rows that are put back are to be spread."""
    return make_conninfo("", **{k: v for k, v in conninfo_to_dict(dsn).items() if k != "options"})


def landing(spread: Spread | None, names: tuple[str, ...], into: tuple[str, ...]) -> Mapping[str, str]:
    """The DSN that each node's rows go to. `into`: `NAME=DSN`, or one DSN for all; nothing: the nodes' own, with Citus the
    coordinator's. ConfigError where a node has none."""
    given: dict[str, str] = {}
    for text in into:
        name, equals, dsn = text.partition("=")
        if equals and name in names:
            given[name] = dsn
        elif len(into) == 1:
            given = dict.fromkeys(names, text)
        else:
            raise ConfigError(
                "--into is given several times, and not each names its node.",
                f"Write NAME=DSN; nodes: {', '.join(names)}.",
            )
    if spread is not None:
        through = _for_applications(spread.dsns[spread.coordinator]) if spread.coordinator else None
        given = {name: through or dsn for name, dsn in spread.dsns.items()} | given
    if missing := [name for name in names if name not in given]:
        raise ConfigError(
            f"It is not said where the rows of {', '.join(missing)} are to go.",
            "Give --into NAME=DSN for each of them, or --config with the file that names the nodes.",
        )
    return given
