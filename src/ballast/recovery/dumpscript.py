"""Taking a plain `pg_dump` script apart, so that its parts run in parallel and are known when done.

pg_dump writes a comment of three lines above every object (`-- Name: …; Type: …; Schema: …; Owner: …`). What looks like
one inside a string or a function's body is none: whoever may comment on a table could else have a restore run anything
as a superuser. So the script is read token by token, with the server's quoting rules, and every statement by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

import msgspec

_HEADER = re.compile(r"--\n-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*?); Owner: .*\n--\n")
# psql's own commands (\restrict and \unrestrict, 2025) mean nothing to a server.
_META_COMMAND = re.compile(r"\\(?:un)?restrict\b.*")
# Written by pg_dump of 17 and newer, refused by 16.
_NEWER_SETTING = re.compile(r"SET transaction_timeout = [^;']*;")
# Folders of the server that was lost: the one that takes its place has none of them.
_TABLESPACE = re.compile(r"SET default_tablespace = [^;]*;")
_LEFT_OUT = "-- Left out: "

_LETTER = r"A-Za-z_\x80-\U0010ffff"
# What is not closed reaches to the end: the server refuses it. A word is taken whole, so that no quote begins inside.
_TOKEN = re.compile(
    rf"""(?P<blank>\s+)
    | (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<text>[eE]'(?:[^'\\]|\\.|'')*(?P<e_end>'|\Z)
        | '[^']*(?:''[^']*)*(?P<s_end>'|\Z)
        | "[^"]*(?:""[^"]*)*(?P<i_end>"|\Z)
        | \$(?P<tag>(?:[{_LETTER}][0-9{_LETTER}]*)?)\$.*?(?P<d_end>\$(?P=tag)\$|\Z))
    | (?P<word>[{_LETTER}][0-9${_LETTER}]*)
    | (?P<mark>[()\[\];])
    | (?P<other>.[^\s\-/eE'"$()\[\];\\{_LETTER}]*)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ROUTINE = re.compile(r"create (or replace )?(function|procedure) ")

_NAME = r'(?:"[^"]+"|[^\s."]+)'
_TABLE = re.compile(rf"(?:^ALTER TABLE|\bON)(?: ONLY)? (?P<table>{_NAME}\.{_NAME})", re.MULTILINE)

_FORCE = re.compile(rf"ALTER TABLE(?: ONLY)? (?P<table>{_NAME}\.{_NAME}) FORCE ROW LEVEL SECURITY;")


def _plain(name: str) -> str:
    return name.replace('"', "")


class Phase(IntEnum):
    """When a part of post-data may run: all of one phase before any of the next; within one, in parallel."""

    INDEX = 1
    ATTACH = 2
    FOREIGN_KEY = 3
    REST = 4
    RIGHTS = 5
    """Who may do what, and comments: a restore without them is one with warnings."""


_PHASES = {
    "CONSTRAINT": Phase.INDEX,
    "INDEX": Phase.INDEX,
    "STATISTICS": Phase.INDEX,
    "INDEX ATTACH": Phase.ATTACH,
    "FK CONSTRAINT": Phase.FOREIGN_KEY,
    "ACL": Phase.RIGHTS,
    "DEFAULT ACL": Phase.RIGHTS,
    "COMMENT": Phase.RIGHTS,
    "SECURITY LABEL": Phase.RIGHTS,
}

_WHILE_RECOVERING = frozenset(("ballast_recovery", "ballast_restore"))
_OURS = frozenset(
    (kind, name)
    for kind, names in {
        "SCHEMA": ("ballast",),
        "EVENT TRIGGER": ("ballast_ddl", "ballast_drop", "ballast_rewrite"),
        "PUBLICATION": ("ballast",),
    }.items()
    for name in names
)


class Part(msgspec.Struct, frozen=True):
    """One object of a dump: its statements run together, in one transaction."""

    name: str
    type: str
    schema: str
    statements: tuple[str, ...]

    @property
    def sql(self) -> str:
        """All of it."""
        return "\n".join(self.statements)

    @property
    def phase(self) -> Phase:
        """When this part of post-data may run."""
        return _PHASES.get(self.type, Phase.REST)

    @property
    def table(self) -> str:
        """Of post-data: the table that it is for (`schema.name`, unquoted), as far as that can be seen; else ""."""
        found = _TABLE.search(self.sql)
        return _plain(found["table"]) if found else ""

    @property
    def locks_out(self) -> bool:
        """Whether nobody else can use its table meanwhile, not even for reading."""
        return self.type != "INDEX"


def parts(script: str) -> tuple[list[str], list[Part]]:
    """Splits a dump into its preamble (settings) and its objects, in the order of the dump."""
    preamble: list[str] = []
    statements = preamble
    found: list[tuple[re.Match[str], list[str]]] = []
    for piece in _pieces(script):
        if isinstance(piece, str):
            statements.append(piece)
        else:
            statements = []
            found.append((piece, statements))
    return preamble, [Part(head["name"], head["type"], head["schema"], tuple(own)) for head, own in found]


def statements(script: str) -> list[str]:
    """Every statement by itself, each with its semicolon; without comments between them and psql's own commands."""
    return [piece for piece in _pieces(script) if isinstance(piece, str)]


def accepted(statements: Iterable[str], *, server_version: int) -> list[str]:
    """Those that another server of `server_version` (e.g. 160014) can do: all lies where it keeps what nobody says a place of."""
    known = [s for s in statements if server_version >= 170000 or not _NEWER_SETTING.fullmatch(s)]
    return [s for s in known if not _TABLESPACE.fullmatch(s)]


def is_expression(text: str) -> bool:
    """Whether `text`, put into parentheses, stays inside them: closed quotes and brackets, no comment, no semicolon."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token["comment"] or token["block"] or token["mark"] == ";" or _is_open(token):
            return False
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token["mark"] or "", 0)
        if depth < 0:
            return False
    return depth == 0 and bool(text.strip())


def is_ours(part: Part) -> bool:
    """True for what `protect` put on the server: a restored server gets its own when it is protected."""
    if part.schema == "ballast" or (part.type, part.name) in _OURS:
        return True
    return part.type in ("COMMENT", "ACL") and part.name in {f"{kind} {name}" for kind, name in _OURS}


def without_gate(before: Sequence[Part], after: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Pre-data and post-data of a dump that was taken while the database was being recovered, without what the recovery had
    put there. The policies of its gate (gate.py) say which tables had row-level security before; foreign keys that it had
    not validated yet count as valid ones, to be checked again."""
    policies = {(part.table, part.name.split(" ")[-1]) for part in after if part.type == "POLICY"}
    # Dumps leave the recovery's own schema out; its policies tell that it was under way.
    under_way = any(policy.startswith("ballast_recovery_") for _, policy in policies)
    switched_on = {table for table, policy in policies if policy == "ballast_recovery_all"}
    forced = switched_on | {table for table, policy in policies if policy == "ballast_recovery_owner"}

    def cleaned(part: Part) -> Part | None:
        if part.schema in _WHILE_RECOVERING or part.name.removeprefix("SCHEMA ") in _WHILE_RECOVERING:
            return None
        if part.type in ("INDEX", "POLICY") and part.name.split(" ")[-1].startswith("ballast_recovery_"):
            return None
        if part.type == "ROW SECURITY" and part.table in switched_on:
            return None
        kept = tuple(
            s for s in part.statements if not (found := _FORCE.match(s)) or _plain(found["table"]) not in forced
        )
        if under_way and part.type == "FK CONSTRAINT":
            kept = tuple(statement.replace(" NOT VALID;", ";") for statement in kept)
        return part if kept == part.statements else msgspec.structs.replace(part, statements=kept)

    left = [[part for part in map(cleaned, parts) if part is not None] for parts in (before, after)]
    return left[0], left[1]


def left_out(script: str) -> list[str]:
    """What the recorder wrote at the end of a dump that is not in it, such as `subscription warehouse`."""
    names: list[str] = []
    for line in reversed(script.splitlines()):
        if not line.startswith(_LEFT_OUT):
            break
        names.insert(0, line.removeprefix(_LEFT_OUT))
    return names


def _pieces(script: str) -> Iterator[re.Match[str] | str]:
    """pg_dump's headers, and the statements between them."""
    at, begin, reading = 0, None, _Reading()
    while at < len(script):
        if begin is None and (at == 0 or script[at - 1] == "\n"):
            if header := _HEADER.match(script, at):
                yield header
                at = header.end()
                continue
            if command := _META_COMMAND.match(script, at):
                at = command.end()
                continue
        token = _TOKEN.match(script, at)
        assert token is not None  # `other` is any character
        at = _end_of_comment(script, at) if token["block"] else token.end()
        if token["blank"] or token["comment"] or token["block"]:
            continue
        if begin is None:
            begin = token.start()
        if reading.ends_with(token):
            yield script[begin:at]
            begin, reading = None, _Reading()
    if begin is not None:
        yield script[begin:].rstrip()


class _Reading:
    """Where in a statement we are: a semicolon in parentheses (of a rule) or between BEGIN ATOMIC and END is none."""

    def __init__(self) -> None:
        self._depth = self._blocks = 0
        self._head = ""
        self._last = ""

    def ends_with(self, token: re.Match[str]) -> bool:
        """Whether the statement is over with this token."""
        match token["mark"]:
            case "(":
                self._depth += 1
            case ")":
                self._depth = max(0, self._depth - 1)
            case ";":
                return not self._depth and not self._blocks
            case _:
                pass
        word = (token["word"] or "").lower()
        if word and not self._depth:
            self._count(word)
        self._last = word
        return False

    def _count(self, word: str) -> None:
        if len(self._head) < 40:
            self._head += word + " "
        if self._blocks:
            self._blocks += {"case": 1, "end": -1}.get(word, 0)
        elif word == "atomic" and self._last == "begin" and _ROUTINE.match(self._head):
            self._blocks = 1


def _end_of_comment(script: str, at: int) -> int:
    """Comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(script, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(script)


def _is_open(token: re.Match[str]) -> bool:
    return bool(token["text"]) and "" in (token["e_end"], token["s_end"], token["i_end"], token["d_end"])
