"""What the server says about a replication stream beside the stream: refusals, ends, warnings.

Texts are translated by the server's lc_messages, so what matters is recognized by SQLSTATE and source file.
"""

from __future__ import annotations

import re

import msgspec
from psycopg import pq

from ballast.errors import IntegrityError, ServerError

_UNDEFINED_OBJECT = "42704"


class ReplicationError(ServerError):
    """The server refused or ended the stream. `sqlstate` is its code, empty if the connection just broke."""

    def __init__(self, what: str, *, do: str, sqlstate: str = "") -> None:
        super().__init__(what, do=do)
        self.sqlstate = sqlstate


class PublicationLost(IntegrityError):
    """The server went on without the publication: from there on changes are missing. Nothing may be acknowledged."""


class Notice(msgspec.Struct, frozen=True):
    """Something the server said beside the stream."""

    severity: str
    """Not translated: WARNING, NOTICE, LOG, …"""
    sqlstate: str
    message: str
    detail: str
    blinds: bool
    """The stream is no longer complete (from PostgreSQL 18 on, a dropped publication is only this warning)."""


def _field(result: pq.abc.PGresult, field: pq.DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")


def notice_of(result: pq.abc.PGresult) -> Notice:
    severity = _field(result, pq.DiagnosticField.SEVERITY_NONLOCALIZED)
    message = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
    # Messages are translated by lc_messages, source files are not. All that pgoutput warns of is missing changes.
    from_plugin = _field(result, pq.DiagnosticField.SOURCE_FILE).endswith("pgoutput.c")
    blinds = (severity == "WARNING" and from_plugin) or message.startswith("skipped loading publication")
    return Notice(
        severity,
        _field(result, pq.DiagnosticField.SQLSTATE),
        message,
        _field(result, pq.DiagnosticField.MESSAGE_DETAIL),
        blinds,
    )


def error_of(result: pq.abc.PGresult) -> Exception:
    sqlstate = _field(result, pq.DiagnosticField.SQLSTATE)
    message = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message().strip()
    in_stream = "pgoutput" in _field(result, pq.DiagnosticField.CONTEXT)
    if sqlstate == _UNDEFINED_OBJECT and in_stream:
        return publication_lost(message)
    detail = _field(result, pq.DiagnosticField.MESSAGE_DETAIL)
    said = f"{message} ({detail})" if detail else message
    return ReplicationError(f"The server refused the stream: {said}.", do=_advice(sqlstate), sqlstate=sqlstate)


def _advice(sqlstate: str) -> str:
    match sqlstate:
        case "55006":
            return "Somebody else reads this slot (pg_replication_slots.active_pid): end the other recorder first."
        case "42704":
            return "The slot is gone: take a new image (ballast protect), what was in between is a gap."
        case "55000":
            return (
                "If pg_replication_slots.wal_status is lost, the slot is of no more use: take a new image (ballast protect)."
                " Else see that wal_level is logical."
            )
        case "42710":
            return "A slot of this name exists already: choose another name, or drop it if nobody needs it."
        case "53400":
            return "Raise max_replication_slots, or drop slots that nobody reads."
        case "53300":
            return "Raise max_wal_senders."
        case "42501" | "28000":
            return "Give the role the attribute REPLICATION and let pg_hba.conf accept it."
        case _:
            return "Ballast connects again by itself; if it goes on, look into the server's log."


def unreachable(said: str) -> ReplicationError:
    return ReplicationError(
        f"No replication connection to the server: {said.strip()}.",
        do="Check that it runs, that dsn and password are right, and that the role has the attribute REPLICATION.",
    )


def connection_lost(said: str) -> ReplicationError | PublicationLost:
    """Where our own message could not be sent any more, libpq gives the server's last words as text alone."""
    if 'output plugin "pgoutput"' in said and re.search(r'publication ".*" does not exist', said):
        return publication_lost(said.strip().splitlines()[0])
    return ReplicationError(
        f"The replication connection broke: {said.strip()}.",
        do="Ballast connects again by itself; if it goes on, look into the server's log.",
    )


def publication_lost(said: str) -> PublicationLost:
    return PublicationLost(
        f"The server has lost the publication and leaves changes out of the stream: {said}.",
        do="Find out who dropped it, create it again and take a new image; what was committed meanwhile is a gap.",
    )
