"""The sentinel and the vault: kept open and read on, so that little is left to be read when it matters; the intake's copy."""

from __future__ import annotations

from ballast.continuity import incident
from ballast.continuity.duplicate import Duplicate
from ballast.continuity.helm import INTAKE
from ballast.continuity.telling import Telling
from ballast.continuity.wipes import Chosen, Wipes
from ballast.errors import BallastError, StoreError
from ballast.recovery import Later, Span, later
from ballast.vault import Vault
from ballast.vault.store import open_store

_READ_EVERY_S = 2.0
_AGAIN_S = 1.0


class Reading(Telling):
    """What the record says."""

    def _open_vault(self) -> None:
        settings = self._settings
        while not self._stopping.is_set() and self._vault is None:
            try:
                self._vault = Vault.open(settings.vault, anchor_dir=settings.state_dir, key=settings.key)
                self._wipes = Wipes(self._vault)
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
        assert self._vault is not None
        try:
            self._vault.refresh()
            if not self._vault.store.is_there():
                raise StoreError(f"{self._vault.store.url} is not there.", "Mount it; it is tried again.")
        except (BallastError, OSError) as error:
            self._vault_away = str(error)
        else:
            self._vault_away = ""

    def _keep_reading(self) -> None:
        """So that little is left to be read when it matters."""
        while not self._stopping.wait(_READ_EVERY_S):
            if self._vault is None or self._wipes is None:
                continue
            with self._reading:
                self._refresh()
                try:
                    self._wipes.look()
                except (BallastError, OSError) as error:
                    self._log.warning("cannot_read", reason=str(error))

    def _choose(self) -> Chosen:
        assert self._vault is not None
        assert self._wipes is not None
        with self._reading:
            self._refresh()
            try:
                if self._vault_away:
                    return Chosen(self._vault.resolve(None), "")
                self._wipes.look()
                return self._wipes.choose()
            except (StoreError, OSError) as error:
                self._vault_away = str(error)
                return Chosen(self._vault.resolve(None), "")

    def _later(self, spans: tuple[Span, ...]) -> Later:
        """What was committed after the moments that were gone back to, as far as it is recorded. BallastError."""
        if not spans:
            return Later()
        assert self._vault is not None
        self._refresh()
        if self._vault_away:
            raise StoreError(f"what came after that moment cannot be read: {self._vault_away}", "It is tried again.")
        return later(self._vault, spans, self._settings.tenants.counters)

    def _keep_copying(self) -> None:
        """As long as the process lives: whatever stands in the way, it is tried again."""
        copy: Duplicate | None = None
        trouble = ""
        while not self._stopping.wait(0.5):
            said = ""
            try:
                if copy is None:
                    copy = Duplicate(open_store(self._settings.vault), self._folder / INTAKE, self._options.node)
                copy.bring()
            except Exception as error:
                said = str(error) or type(error).__name__
            if said and said != trouble:  # not twice a second while the store is away
                self._log.warning("not_copied", reason=said)
            trouble = said
            if copy is not None:
                self._copied = copy.copied
