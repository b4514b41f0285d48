"""`synchronous_standby_names`: adding a recorder to those whom commits wait for, and taking it out. Pure.

The setting can say "the first n of a list" or "any n of a list", and nothing else. Recorders stand for each other,
so several of them are one ANY 1. Beside standbys of the owner's own a recorder can only be added where all of
these are waited for anyway; everything else has no spelling that would not let some commit go without the recorder.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files
from typing import Any

import msgspec
import psycopg

from ballast.errors import ProtectionError

PREFIX = "ballast"
"""Names of recorders begin with it."""

_QUERY = files("ballast.vault").joinpath("standby.sql").read_text(encoding="utf-8")
_WHOLE = re.compile(r"\s*(?:(?:(any|first)\s+)?(\d+)\s*\((.*)\)|(.*))\s*", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s",()]+))\s*(?:,|$)')
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


class Waiting(msgspec.Struct, frozen=True):
    """The setting taken apart: commits wait for `count` of `names`."""

    any: bool
    count: int
    names: tuple[str, ...]


class Receiver(msgspec.Struct, frozen=True):
    """A replication connection of a recorder, as production sees it."""

    streaming: bool
    waited_for: bool
    replied: str | None
    """The receiver's clock when it last said something, as text: only whether it changes can be used."""


class Standbys(msgspec.Struct, frozen=True):
    """Whom production's commits wait for, and who is there."""

    setting: str
    by_alter_system: bool
    """Whether ALTER SYSTEM set it; otherwise a file of the owner's, or nobody."""
    server_lsn: int
    receivers: dict[str, Receiver]
    """Those whose names begin with `PREFIX`."""
    confirmed_flush: int | None
    """The slot's; None if it is gone."""
    recorders: frozenset[str] = frozenset()
    """Names that are recorders': there is a slot of that name in this database. A name alone says nothing."""

    def waits_for(self, name: str) -> bool:
        """Whether commits really wait for this recorder, or another in its place."""
        return has(self.setting, name, self.recorders)

    def names(self, name: str) -> bool:
        """Whether the setting names it, to whatever effect."""
        return named(self.setting, name)

    def passes_over(self, name: str) -> bool:
        """Whether it streams, and production lets commits go without it all the same (two standbys of one name)."""
        found = self.receivers.get(name)
        return found is not None and found.streaming and not found.waited_for


def read_standbys(conn: psycopg.Connection[Any], slot: str) -> Standbys:
    """Ask production."""
    row = conn.execute(_QUERY.encode(), {"slot": slot}).fetchone()
    assert row is not None
    setting, by_alter_system, server_lsn, receivers, recorders, confirmed = row
    known = {name: msgspec.convert(found, Receiver) for name, found in receivers.items()}
    return Standbys(setting, by_alter_system, server_lsn, known, confirmed, frozenset(recorders))


def parse(setting: str) -> Waiting:
    """The setting taken apart; ProtectionError where it is not understood."""
    match = _WHOLE.fullmatch(setting)
    assert match is not None
    method, count, listed, plain = match.groups()
    text = listed if listed is not None else plain
    names, at = [], 0
    while text[at:].strip():
        name = _NAME.match(text, at)
        if name is None:
            raise ProtectionError(
                f"synchronous_standby_names is {setting!r}, which cannot be understood.",
                "Correct it with ALTER SYSTEM SET synchronous_standby_names.",
            )
        names.append(name[1].replace('""', '"') if name[1] else name[2])
        at = name.end()
    return Waiting((method or "").lower() == "any", int(count or bool(names)), tuple(names))


def named(setting: str, name: str) -> bool:
    """Whether `name` is in the list (the server compares without regard to case), which alone lets no commit wait."""
    return any(n.lower() == name.lower() for n in parse(setting).names)


def has(setting: str, name: str, recorders: Collection[str] = ()) -> bool:
    """Whether no commit goes before `name`, or another of the `recorders` in its place, has it.

    That is so where more are waited for than there are others, be they the first n or any n: also the first of a list is
    passed over when it is away. `*` stands for any number of others."""
    now, ours = parse(setting), {r.lower() for r in (*recorders, name)}
    others = {n.lower() for n in now.names} - ours
    return named(setting, name) and "*" not in others and now.count > len(others)


def add(setting: str, name: str, recorders: Collection[str] = ()) -> str:
    """The setting with which commits wait for `name`, or for another recorder in its place, as well as for all they
    waited for before. ProtectionError where that cannot be said."""
    if has(setting, name, recorders):
        return setting
    now = parse(setting)
    alike = tuple(n for n in now.names if n in recorders)
    if not named(setting, name):
        if len(alike) == len(now.names):
            return render(Waiting(bool(alike), 1, (*alike, name)))
        if "*" not in now.names and now.count == len(now.names) and not alike:
            return render(Waiting(False, now.count + 1, (name, *now.names)))
    raise ProtectionError(
        f"synchronous_standby_names is {setting!r}: PostgreSQL has no way to say that a commit waits for these and "
        f"for {name}."
        if not named(setting, name)
        else f"synchronous_standby_names is {setting!r}: commits go on without {name} when another of the list has them.",
        "Wait for all standbys of the list (FIRST n of n names) or for none of them, or record with "
        'acknowledge = "off".',
    )


def remove(setting: str, name: str) -> str:
    """The setting with which commits wait for all as before, but not for `name`."""
    now = parse(setting)
    names = tuple(n for n in now.names if n.lower() != name.lower())
    if len(names) == len(now.names):
        return setting
    only_recorders = all(n.startswith(PREFIX) for n in names)
    count = min(now.count, len(names)) if only_recorders else max(now.count - 1, 1)
    return render(Waiting(now.any and len(names) > 1, count, names))


def render(waiting: Waiting) -> str:
    """The setting's text; "" where there is no name."""
    if not waiting.names:
        return ""
    names = ", ".join(n if _PLAIN.fullmatch(n) or n == "*" else '"' + n.replace('"', '""') + '"' for n in waiting.names)
    if waiting.any:
        return f"ANY {waiting.count} ({names})"
    return names if waiting.count == 1 else f"FIRST {waiting.count} ({names})"
