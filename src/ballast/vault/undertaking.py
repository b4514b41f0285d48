"""What `protect` has begun and not finished, noted in the state folder so that a killed run is completed by the next.

The note is left before the slot is made: a slot of that name is then known to be ours, and may be dropped. Once every
object of the new baseline is in the store, the note holds the ledger entries as well, and the next run only has to write
those that are not there. So nobody ever sees half of a baseline as a whole one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ballast.errors import BallastError
from ballast.vault import origin as origins
from ballast.vault import wish
from ballast.vault.durable import remove_file, replace_file
from ballast.vault.failpoints import reach
from ballast.vault.fingerprint import Baseline, Fingerprint, write_baseline
from ballast.vault.frames import read_frames, read_header
from ballast.vault.health import GAP_FILE, SEALER_FILE, SERVER_FILE
from ballast.vault.index import objects_of
from ballast.vault.origin import BEGUN_FILE, ORIGIN_FILE
from ballast.vault.records import Body
from ballast.vault.sealing import OWN_FILE
from ballast.vault.spoolfiles import listed
from ballast.vault.standing import Standing, note
from ballast.vault.vault import Vault

NOTE = "protecting.json"


class Undertaking(msgspec.Struct, frozen=True):
    """Content of the note."""

    slot: str
    system_identifier: str
    database: str
    after: int = 0
    """The ledger's head when `bodies` were decided on."""
    bodies: tuple[Body, ...] = ()
    """Entries to be written, in this order; empty: the objects are not all there yet."""
    timeline: int = 0
    """The timeline that is recorded from here on, anew."""
    cut: int = 0
    """Where that begins."""
    fingerprint: Fingerprint | None = None
    """How the server was at the cut; the guardian goes by it."""
    wishes: tuple[str, ...] = ()
    """Wishes that the baseline grants."""
    dumped: Standing | None = None
    """What stood there when the baseline's dump was taken; None: it has none."""


def read(state_dir: Path) -> Undertaking | None:
    """The note, if something was begun."""
    try:
        return msgspec.json.decode((state_dir / NOTE).read_bytes(), type=Undertaking)
    except FileNotFoundError:
        return None


def write(state_dir: Path, begun: Undertaking) -> None:
    """Durable when this returns."""
    replace_file(state_dir / NOTE, msgspec.json.encode(begun))


def forget(state_dir: Path) -> None:
    """It is done, or given up."""
    remove_file(state_dir / NOTE)


def can_finish(begun: Undertaking, vault: Vault) -> bool:
    """Whether every entry is decided on, and nobody has given up its objects meanwhile."""
    given_up = {ref.name for entry in vault.index.abandoned for ref in entry.objects}
    return bool(begun.bodies) and not any(ref.name in given_up for body in begun.bodies for ref in objects_of(body))


def finish(begun: Undertaking, vault: Vault, state_dir: Path) -> None:
    """Write the entries that are missing, and let the recorder begin at the new position."""
    there = [entry.body for entry in vault.ledger.read(begun.after)]
    for body in begun.bodies:
        if body not in there:
            vault.append(body)
            reach("protect.entry")
    spool = state_dir / "spool"
    for kind in ("open", "spool"):
        for _, path in listed(spool, kind):
            if path.name.startswith(f"{begun.timeline}-"):
                remove_file(path)  # `protect` has made sure that the vault holds what is in it
    # Oids of our own tables are learnt from the stream again: another server may have given them to others.
    for name in (ORIGIN_FILE, SERVER_FILE, GAP_FILE, SEALER_FILE, OWN_FILE):
        remove_file(state_dir / name)
    vault.refresh()
    replace_file(state_dir / BEGUN_FILE, msgspec.json.encode(origins.of(vault.index)))
    if begun.fingerprint is not None:
        write_baseline(state_dir, Baseline(begun.fingerprint, begun.cut))
    if begun.dumped is not None:
        note(state_dir, begun.timeline, begun.dumped)
    for asked in wish.pending(state_dir):
        if asked.id in begun.wishes:
            wish.granted(state_dir, asked)
    reach("protect.finished")


class Held(msgspec.Struct, frozen=True):
    """What the spool holds of a timeline."""

    end_lsn: int = 0
    """The cut before which it, or the vault, has everything; 0: there is no file."""
    unsealed_bytes: int = 0
    """How much of it the vault does not have."""
    content_lsn: int = 0
    """The cut after the last of it that the vault does not have; 0: it has all."""


def held(spool: Path, timeline: int, until: int) -> Held:
    """Read the spool, also beside a recorder. `until`: the cut up to which the vault has everything."""
    while True:
        try:
            return _held(spool, timeline, until)
        except FileNotFoundError:
            continue  # closed or sealed meanwhile; there is always one open file


def _held(spool: Path, timeline: int, until: int) -> Held:
    end_lsn = total = content_lsn = 0
    for kind in ("open", "spool"):
        for _, path in listed(spool, kind):
            if not path.name.startswith(f"{timeline}-"):
                continue
            with path.open("rb") as file:
                try:
                    header, start, seed = read_header(file)
                except BallastError:
                    continue  # killed before it had a header
                end_lsn = max(end_lsn, header.start_lsn)
                for frame in read_frames(file, start, seed, path.stat().st_size):
                    end_lsn = max(end_lsn, frame.end_lsn)
                    if frame.payload and frame.end_lsn > until:
                        total += len(frame.payload)
                        content_lsn = max(content_lsn, frame.end_lsn if frame.committed else content_lsn)
    return Held(end_lsn, total, content_lsn)
