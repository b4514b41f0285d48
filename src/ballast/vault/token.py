"""Which messages in the stream are ours: anybody may write into it with pg_logical_emit_message, under any prefix.

Those of the event triggers and the guardian carry a token, which lies in `ballast.setting` (readable by its owner alone) and
in the state folder. What carries none of ours says nothing. A state folder may know several: one that a server had before is
still in what was recorded then.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Collection
from pathlib import Path

import msgspec

from ballast.vault.durable import replace_file

TOKEN_FILE = "token"  # noqa: S105 (a file's name)
_FORM = re.compile(r"[0-9a-f]{32}")
_LONGEST_PREFIX = 40
_POSITION_AT = 2  # after the kind and the flags
_PREFIX_AT = 10


class _Signed(msgspec.Struct, frozen=True):
    token: str = ""


def read_tokens(state_dir: Path) -> tuple[str, ...]:
    """The tokens that are believed, the one in use first; none before the first `ballast protect`."""
    try:
        text = (state_dir / TOKEN_FILE).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(_FORM.findall(text))


def token_in_use(state_dir: Path) -> str:
    """The one that new messages carry; empty before the first `ballast protect`."""
    return next(iter(read_tokens(state_dir)), "")


def settle_token(state_dir: Path, on_server: str | None) -> str:
    """The token to be used: the server's, the folder's, or a new one. It is in the folder, durably, when this returns."""
    known = read_tokens(state_dir)
    of_server = (on_server,) if on_server is not None and _FORM.fullmatch(on_server) else ()
    token = next(iter((*of_server, *known)), None) or secrets.token_hex(16)
    wanted = (token, *(other for other in known if other != token))
    path = state_dir / TOKEN_FILE
    if wanted != known:
        before = os.umask(0o077)
        try:
            replace_file(path, "".join(f"{each}\n" for each in wanted).encode())
        finally:
            os.umask(before)
    path.chmod(0o600)
    return token


def is_ours(content: bytes, tokens: Collection[str]) -> bool:
    """Whether a message's content (a JSON object) carries one of the tokens. Never raises, and takes little of a stranger's."""
    if not any(token.encode() in content for token in tokens):
        return False
    try:
        told = msgspec.json.decode(content, type=_Signed).token.encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return any(hmac.compare_digest(told, token.encode()) for token in tokens)


def taken_apart(message: bytes, at: int, prefixes: Collection[bytes]) -> tuple[bytes, bytes] | None:
    """(prefix, content) of pgoutput's message `M` at `at`, if it has one of these prefixes and belongs to a transaction.

    Nothing of another one is copied or decoded: it may be a gigabyte, in any encoding."""
    ends = _prefix_ends(message, at)
    if ends < 0 or not _in_transaction(message, at) or (prefix := message[at + _PREFIX_AT : ends]) not in prefixes:
        return None
    size = int.from_bytes(message[ends + 1 : ends + 5])
    return prefix, message[ends + 5 : ends + 5 + size]


def outside(message: bytes, at: int, prefixes: Collection[bytes]) -> int | None:
    """Position of pgoutput's message `M` at `at`, if it has one of these prefixes and belongs to no transaction.

    None of ours is like that, whatever token it carries."""
    ends = _prefix_ends(message, at)
    if ends < 0 or _in_transaction(message, at) or message[at + _PREFIX_AT : ends] not in prefixes:
        return None
    return int.from_bytes(message[at + _POSITION_AT : at + _PREFIX_AT])


def _prefix_ends(message: bytes, at: int) -> int:
    begins = at + _PREFIX_AT
    return message.find(b"\0", begins, begins + _LONGEST_PREFIX)


def _in_transaction(message: bytes, at: int) -> bool:
    return bool(message[at + 1] & 1)
