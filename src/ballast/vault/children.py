"""The recorder's child processes: the sealer always, the imager and the merge when there is something for them to do, a
drill at the times that the owner set."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ballast.vault import wish
from ballast.vault.config import Config
from ballast.vault.drilled import DRILLED_FILE, Drilled
from ballast.vault.health import NONCE_VARIABLE, read_state
from ballast.vault.lifeline import Child
from ballast.vault.logbook import Logbook
from ballast.vault.spoolfiles import closed_files
from ballast.vault.standing import may_dump

_IMAGE_AGAIN_S = 5.0
_MERGE_NICE = 10
_FIRST_DRILL_S = 300.0


class Children:
    """All of them; to be looked after by one thread, which must live as long as they are to."""

    def __init__(
        self, config_path: Path, settings: Config, log: Logbook, *, streaming: Callable[[], bool], nonce: str = ""
    ) -> None:
        """`streaming`: whether production sends to this recorder. If not, perhaps another has the slot: then only what was
        recorded here is added to the vault, since anything more would fence the other one."""
        self._streaming = streaming
        self._state_dir, self._merge_every_s = settings.state_dir, settings.record.merge_every_s
        self._spool_dir, self._log = settings.spool_dir, log
        where = ["--config", str(config_path)]
        self._sealer_arguments = ["ballast.vault.sealer", *where]
        self._sealer = Child("sealer", self._sealer_arguments, log, env={NONCE_VARIABLE: nonce})
        self._imager = Child("imager", ["ballast.vault.imager", *where], log, keep=False)
        self._merge = Child("merge", ["ballast.vault.merge", *where], log, keep=False, nice=_MERGE_NICE)
        # By name: the drill restores, and the vault knows nothing of that.
        self._drill = Child("drill", ["ballast.recovery.drilling", *where], log, keep=False, nice=_MERGE_NICE)
        self._drill_every_s = settings.record.drill_every_s
        self._drill_at = time.monotonic() + self._until_drill_s()
        self._image_at = 0.0
        self._merge_at = time.monotonic() + self._merge_every_s  # who has just been started has other things to do

    def look_after(self) -> None:
        """Call about once a second."""
        for child in (self._sealer, self._imager, self._merge, self._drill):
            child.look_after()
        if not self._streaming():
            return
        now = time.monotonic()
        if now >= self._image_at and not self._imager.running and self._image_is_wished():
            self._image_at = now + _IMAGE_AGAIN_S
            self._imager.start()
        if now >= self._merge_at and not self._merge.running:
            self._merge_at = now + self._merge_every_s
            self._merge.start()
        if self._drill_every_s is not None and now >= self._drill_at and not self._drill.running:
            self._drill_at = now + self._drill_every_s
            self._drill.start()

    def stop(self, timeout_s: float, *, fenced: bool = False) -> None:
        """Those that run now and then begin anew another time; the sealer finishes what it can in this time.

        `fenced`: another recorder writes the vault; a fresh sealer would fence that one in turn."""
        self._imager.stop()
        self._merge.stop()
        self._drill.stop()
        self._sealer.stop(timeout_s)
        if closed_files(self._spool_dir) and not fenced:  # it was told to end before it could listen, or had just died
            rest = Child("sealer", [*self._sealer_arguments, "--drain"], self._log, keep=False)
            rest.start()
            rest.finish(timeout_s)
            rest.stop()

    def _until_drill_s(self) -> float:
        """From now to the first drill: an interval after the last that was held, whoever held it."""
        last, every_s = read_state(self._state_dir, DRILLED_FILE, Drilled), self._drill_every_s
        if every_s is None:
            return 0.0
        since_s = (datetime.now(UTC) - datetime.fromisoformat(last.at)).total_seconds() if last is not None else every_s
        return max(every_s - since_s, min(every_s, _FIRST_DRILL_S))

    def _image_is_wished(self) -> bool:
        asked = [w for w in wish.pending(self._state_dir) if w.kind in wish.FOR_IMAGER and not w.held]
        in_haste = any(w.kind != "dump" or w.id == wish.DUMP_NOW for w in asked)
        return in_haste or (bool(asked) and may_dump(self._state_dir))
