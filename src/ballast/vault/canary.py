"""Finds the canary in the stream: the row of `ballast.canary` whose nonce proves that changes still come through.

Looked for in whole batches by searching for a few bytes, so that it costs nothing when there is no canary.
"""

from __future__ import annotations

import struct

from ballast.postgres import pgoutput
from ballast.vault.frames import messages

_NAME = b"ballast\0canary\0"
_OID = struct.Struct(">I")
_R = ord("R")
_IU = b"IU"


class CanaryWatch:
    """Fed with payloads in the order in which they came, of one connection: relations are numbered per session."""

    def __init__(self) -> None:
        self._changes: tuple[bytes, ...] = ()
        self._nonce_at: dict[int, int] = {}

    def look(self, payload: bytes) -> list[str]:
        """The nonces of the canary rows in it, oldest first."""
        if _NAME not in payload and not any(start in payload for start in self._changes):
            return []
        found = []
        for _, message in messages(payload):
            kind = message[0]
            if kind == _R and bytes(message[5 : 5 + len(_NAME)]) == _NAME:
                relation = pgoutput.decode(message)
                assert isinstance(relation, pgoutput.Relation)
                names = [column.name for column in relation.columns]
                if "nonce" in names:
                    self._nonce_at[relation.oid] = names.index("nonce")
                    self._changes = tuple(kind + _OID.pack(oid) for oid in self._nonce_at for kind in (b"I", b"U"))
            elif kind in _IU and _OID.unpack_from(message, 1)[0] in self._nonce_at:
                change = pgoutput.decode(message)
                assert isinstance(change, pgoutput.Insert | pgoutput.Update)
                value = change.new[self._nonce_at[change.oid]]
                if isinstance(value, bytes):
                    found.append(value.decode())
        return found
