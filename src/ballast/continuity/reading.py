"""The sentinel and the vault: kept open and read on, so that little is left to be read when it matters; the intake's copy."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ballast.continuity import incident, outlived, tail, unsealed
from ballast.continuity.bounded import bounded
from ballast.continuity.duplicate import Duplicate
from ballast.continuity.helm import INTAKE
from ballast.continuity.lifeboat import read_ahead
from ballast.continuity.patience import Busy
from ballast.continuity.telling import Telling
from ballast.continuity.wipes import Chosen, Foretold, Wipes
from ballast.errors import BallastError, StoreError
from ballast.recovery import Later, Span, later
from ballast.vault import Resolved, Vault
from ballast.vault.store import open_store

_READ_EVERY_S, _STEP_S = 2.0, 0.2
"""So often the vault is read on; and so often it is seen whether the sealer of this machine has sealed something."""
_AGAIN_S = 1.0
_AHEAD_EVERY_S, _AHEAD_SHARE = 8.0, 0.02
"""What a launch reads first is read ahead so often at most, and for so small a part of the time."""
_FORGET_EVERY_S = 3600.0
_READING_S, _OPENING_S, _CHOOSING_S, _FORETELLING_S = 2.0, 10.0, 15.0, 1.5
"""So long the main thread waits for the vault."""


class _Ahead(msgspec.Struct, frozen=True):
    """What the spool shows."""

    foretold: Foretold | None


class Reading(Telling):
    """What the record says."""

    _quiet_until = 0.0

    def _open_vault(self) -> None:
        settings = self._settings
        while not self._stopping.is_set() and self._vault is None:
            try:
                self._vault = self._patience(
                    "opening the vault",
                    lambda: Vault.open(settings.vault, anchor_dir=settings.state_dir, key=settings.key),
                    _OPENING_S,
                    keep=True,
                )
                self._wipes = Wipes(self._vault, self._wanted.is_set)
                self._vault_away = ""
            except BallastError as error:  # also one that names a disk that is not mounted
                self._vault_away = str(error)
                self._in_trouble(error)
                self._tell_health(at_once=True)
                if incident.read(self._folder) is not None:
                    return  # who is in the lifeboat stays there
                self._stopping.wait(_AGAIN_S)

    def _has_vault(self) -> bool:
        """Whether it could be opened: without it nothing is decided about home, least of all that it is another one."""
        if self._vault is None:
            self._waits_for = "the vault"
            self._open_vault()
            if self._vault is not None:
                self._waits_for = ""
        return self._vault is not None

    def _refresh(self) -> None:
        """Of the main thread, which a store that hangs must not hold up."""
        try:
            self._patience("reading on in the vault", self._read_on, _READING_S)
        except (BallastError, OSError) as error:
            self._vault_away = str(error)
        else:
            self._vault_away = ""

    def _read_on(self) -> None:
        assert self._vault is not None
        self._vault.refresh()
        if not self._vault.store.is_there():
            raise StoreError(f"{self._vault.store.url} is not there.", "Mount it; it is tried again.")

    def _resolve(self, at: str) -> Resolved:
        """A moment. BallastError."""
        assert self._vault is not None
        vault = self._vault
        return self._patience(f"looking up {at}", lambda: vault.resolve(at), _READING_S)

    def _keep_reading(self) -> None:
        """So that little is left to be read when it matters."""
        unsealed.make_ready()
        read_at, sealed, is_settled = 0.0, 0, False
        ahead_of, ahead_at = -1, 0.0
        while not self._stopping.wait(_STEP_S):
            if self._vault is None or self._wipes is None or time.monotonic() < self._quiet_until:
                continue
            now, reached = time.monotonic(), tail.sealed_lsn(self._settings)
            if now - read_at < _READ_EVERY_S and reached == sealed:
                continue
            read_at, sealed = now, reached
            with self._reading:
                try:
                    self._read_on()
                except (BallastError, OSError) as error:
                    self._vault_away = str(error)
                    continue
                self._vault_away = ""
                try:
                    self._wipes.look(ahead=True)
                except Exception as error:  # whatever it is, the next time it may be well
                    self._log.warning("cannot_read", reason=str(error) or type(error).__name__)
                    continue
            if self._incident is None and reached != ahead_of and now >= ahead_at:
                self._read_ahead(self._vault)
                took, ahead_of = time.monotonic() - now, reached
                ahead_at = now + max(_AHEAD_EVERY_S, took / _AHEAD_SHARE)
            if not is_settled:
                # All modules are loaded: to look through them for garbage holds everything up for 0.1 s, at a loss perhaps.
                is_settled = True
                gc.collect()
                gc.freeze()

    def _read_ahead(self, vault: Vault) -> None:
        try:
            read_ahead(vault, lambda: self._incident is not None)
        except Exception as error:  # a launch reads it itself
            self._log.warning("not_read_ahead", reason=str(error) or type(error).__name__)

    def _choose(self) -> Chosen:
        """The moment to go back to. StoreError, Busy: the vault is away, and it cannot be told."""
        try:
            loss = f"{self._incident.since} {self._incident.lost}" if self._incident is not None else ""
            return self._patience(f"choosing the moment {loss}", self._chosen, _CHOOSING_S, keep=True)
        except (StoreError, Busy, OSError) as error:
            self._vault_away = str(error)
            if isinstance(error, OSError):
                raise StoreError(f"the record cannot be read: {error}", "It is tried again.") from error
            raise

    def _chosen(self) -> Chosen:
        assert self._wipes is not None
        with self._at_once():
            self._read_on()
            self._wipes.look()
            return self._wipes.choose()

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Whoever reads ahead leaves off."""
        self._wanted.set()
        with self._reading:
            self._wanted.clear()
            yield

    def _foretell(self) -> Foretold | None:
        """The moment before a deletion that is not, or not all, in the vault yet; None: it cannot be told so. BallastError."""
        return self._patience("looking ahead", self._foretold, _FORETELLING_S)

    def _foretold(self) -> Foretold | None:
        assert self._vault is not None
        assert self._wipes is not None
        with self._at_once():
            found = self._ahead()
            if found is None:
                self._read_on()
                self._wipes.look()
                found = self._ahead()
        if found is None or found.foretold is None:
            return None
        is_sealed = tail.reaches(self._vault, self._settings, found.foretold.cut, _FORETELLING_S)
        return found.foretold if is_sealed else None

    def _ahead(self) -> _Ahead | None:
        """None: the spool does not go on where the vault was read to."""
        assert self._wipes is not None
        sealed = self._wipes.sealed
        if sealed is None:
            return None
        found = unsealed.read(self._settings.spool_dir, sealed.timeline, sealed.lsn, self._wipes.oids)
        return None if found is None else _Ahead(self._wipes.foretell(found))

    def _later(self, spans: tuple[Span, ...]) -> Later:
        """What was committed after the moments that were gone back to, as far as it is recorded. BallastError."""
        if not spans:
            return Later()
        assert self._vault is not None
        vault, counters = self._vault, self._settings.tenants.counters

        def read() -> Later:
            self._read_on()
            return later(vault, spans, counters)

        shown = ", ".join(f"{span.since}-{span.until} {span.tenant or ''}".rstrip("- ") for span in spans)
        return self._patience(f"reading what came after {shown}", read, _CHOOSING_S, keep=True)

    def _forget(self, copy: Duplicate) -> None:
        """Of the intake, what has been at home for long."""
        options, dsn = self._options, bounded(self._settings.dsn, 10)
        before = self._closed
        self._closed = outlived.forget(
            self._folder / INTAKE, options.rule, copy, lambda: outlived.undecided(dsn, options.undecided)
        )
        if self._closed.files < before.files:
            self._log.info("forgotten", files=before.files - self._closed.files, left=self._closed.files)
        if self._closed.because and self._closed.because != before.because:
            self._log.warning("not_forgotten", reason=self._closed.because)

    def _keep_copying(self) -> None:
        """As long as the process lives: whatever stands in the way, it is tried again."""
        copy: Duplicate | None = None
        trouble, forget_at = "", 0.0
        while not self._stopping.wait(0.5):
            said = ""
            try:
                if copy is None:
                    copy = Duplicate(open_store(self._settings.vault), self._folder / INTAKE, self._options.node)
                copy.bring()
                if time.monotonic() >= forget_at and self._course.mode == "home" and self._well:
                    forget_at = time.monotonic() + _FORGET_EVERY_S
                    self._forget(copy)
            except Exception as error:
                said = str(error) or type(error).__name__
            if said and said != trouble:  # not twice a second while the store is away
                self._log.warning("not_copied", reason=said)
            trouble = said
            if copy is not None:
                self._copied = copy.copied
