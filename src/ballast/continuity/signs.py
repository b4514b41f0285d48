"""Telling a slow database from a lost one, by what went wrong. Pure: no clock, no server.

SQLSTATE classes as in PostgreSQL's appendix "Error Codes".
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Sign(StrEnum):
    """What a failure says about the database."""

    SLOW = "slow"
    """No answer in time, too many connections: it may be back at once."""
    REFUSED = "refused"
    """Nobody listens where it listened."""
    GONE = "gone"
    """The connection broke, or the server says that it ends or that its files are missing."""
    READ_ONLY = "read_only"
    """It answers, and nobody may write."""
    FULL = "full"
    """Its disk has no room."""
    MISSING = "missing"
    """A relation, schema or database that the application knows is not there."""
    EMPTY = "empty"
    """A shop that is known is not there any more."""
    NONE = "none"
    """Nothing of the kind: the statement's own fault."""


_OF_THE_DISK = (
    ("no space left", Sign.FULL),
    ("disk quota exceeded", Sign.FULL),
    ("read-only file system", Sign.READ_ONLY),
)
"""The system's words. Of some of them the server makes states that could be a statement's own fault as well."""
_MAY_BE_OF_THE_DISK = ("42501", "58030", "XX000")
# A connection that is turned away has no SQLSTATE in libpq's hands, only the server's words.
_TURNED_AWAY = (
    *_OF_THE_DISK,
    ("could not open file", Sign.GONE),
    ("could not read file", Sign.GONE),
    ("starting up", Sign.SLOW),
    ("not yet accepting connections", Sign.SLOW),
    ("too many clients", Sign.SLOW),
    ("remaining connection slots", Sign.SLOW),
    ("timeout expired", Sign.SLOW),
    ("does not exist", Sign.MISSING),
    ("refused", Sign.REFUSED),
    ("no such file or directory", Sign.REFUSED),
)
REFUSALS = frozenset({Sign.READ_ONLY, Sign.FULL})
"""Of a database that answers, and takes no writes."""
OF_DATA = frozenset({Sign.MISSING, Sign.EMPTY})
"""Of a database that answers, and lacks what was in it. One of them is enough: no load and no restart makes it."""
DOUBTFUL_BEFORE_LOST = 3


class Failure(msgspec.Struct, frozen=True):
    """A statement or a connection that failed."""

    sqlstate: str = ""
    """Empty: it never came to an answer."""
    message: str = ""
    timed_out: bool = False


def sign_of(failure: Failure) -> Sign:
    """What it says."""
    state, text = failure.sqlstate, failure.message.lower()
    if state in ("42P01", "3F000", "3D000", "42883", "42703"):
        return Sign.MISSING
    if state == "25006":
        return Sign.READ_ONLY
    if state == "53100":
        return Sign.FULL
    if state in _MAY_BE_OF_THE_DISK and (
        of_disk := next((sign for words, sign in _OF_THE_DISK if words in text), None)
    ):
        return of_disk
    if state in ("57P01", "57P02", "58P01", "58030", "XX001", "XX002"):
        return Sign.GONE
    if state in ("57P03", "53300", "57014", "55P03") or failure.timed_out:
        return Sign.SLOW
    if state and state[:2] != "08":
        return Sign.NONE
    return next((sign for words, sign in _TURNED_AWAY if words in text), Sign.GONE)


class Watched(msgspec.Struct, frozen=True):
    """What has been seen of a database (or one shop of it) so far. `after` gives the next."""

    lost: bool = False
    why: Sign = Sign.NONE
    doubtful: int = 0
    """Signs in a row that are no proof."""

    def after(self, sign: Sign) -> Watched:
        """One more sign. `NONE` stands for an answer: the count begins anew, what was lost stays lost until `home`."""
        if self.lost:
            return self
        if sign is Sign.NONE:
            return Watched()
        if sign is Sign.SLOW:
            return msgspec.structs.replace(self, why=sign)
        doubtful = self.doubtful + 1
        lost = sign in OF_DATA or doubtful >= DOUBTFUL_BEFORE_LOST
        return Watched(lost, sign, doubtful)

    def home(self) -> Watched:
        """The sentinel says that it is whole again."""
        return Watched()
