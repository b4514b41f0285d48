"""What can go wrong, as a small tree: each error says what happened, to what, and what to do about it."""

from __future__ import annotations


class BallastError(Exception):
    """Any failure that Ballast foresaw. `what` happened, to what; `do` is the next step for the reader ("" if none)."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what, do)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.what} {self.do}".rstrip()


class ConfigError(BallastError):
    """Something that the owner wrote (configuration, an argument) cannot be followed."""


class UsageError(ConfigError):
    """An argument cannot be understood, or not without guessing: the call itself was wrong."""


class ServerError(BallastError):
    """A PostgreSQL server is not there, or not as it must be."""


class ProtectionError(BallastError):
    """Production cannot be protected as asked, or is no longer."""


class StoreError(BallastError):
    """The object store did not do what was asked; whether a put took effect is then unknown."""


class AlreadyExists(StoreError):
    """Put-if-absent found an object of that name."""


class NotFound(StoreError):
    """No object of that name."""


class EmptyStore(StoreError):
    """A store that is there and holds nothing, where this recorder has written a vault."""


class FormatError(BallastError):
    """Something stored is written in a format that this version does not read."""


class IntegrityError(BallastError):
    """Something stored is not what was put there."""


class GapError(BallastError):
    """The record does not hold what would be needed for an exact answer."""


class RestoreError(BallastError):
    """Recorded rows cannot be put back as asked."""


class FencedError(BallastError):
    """Another writer holds this vault now; this one must stop."""


class Overtaken(BallastError):
    """Another process of this recorder has added to the vault meanwhile; look at that first."""


class SpoolFull(BallastError):
    """The spool has reached its limit; nothing may be acknowledged until there is room."""
