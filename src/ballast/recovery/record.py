"""What a restore asks of the record besides rows: structure, sequences, and how much there is."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from ballast.errors import RestoreError
from ballast.recovery.adjust import Adjustment, adjust
from ballast.vault import Vault
from ballast.vault.records import SHARED_BUCKET, Cut, SequenceState

_SEGMENTS_SURE_TO_HAVE_A_NOTE = 3


class Structure(msgspec.Struct, frozen=True):
    """The recorded scripts, and what leads from the structure that they make to that of the moment."""

    roles: str
    pre_data: str
    post_data: str
    server_version: int
    adjustment: Adjustment


def structure_at(vault: Vault, cut: Cut) -> Structure:
    """The structure at `cut`. RestoreError if none was ever dumped."""
    dump = vault.index.dump_at(cut)
    if dump is None:
        raise RestoreError(
            "the vault has no dump of the structure for that moment",
            "Create the tables in the target by hand, then run the same command again.",
        )
    roles, pre_data, post_data = (
        vault.read_object(ref).decode() for ref in (dump.roles, dump.pre_data, dump.post_data)
    )
    now = vault.index.schema_at(cut).version
    adjustment = Adjustment()
    if not vault.index.is_dumped(cut):
        adjustment = adjust(vault.schema(dump.version), vault.schema(now), sequences_at(vault, cut))
        since = [v for v in vault.index.schemas.values() if dump.version <= v.version <= now]
        beside = [v.reason for before, v in pairwise(since) if v.relations == before.relations]
        if not adjustment and not beside:
            beside = [v.reason for v in since[1:] or since]
        if beside:
            said = f"commands since the last dump: {', '.join(dict.fromkeys(beside))}"
            adjustment = msgspec.structs.replace(adjustment, unknown=(*adjustment.unknown, said))
    return Structure(roles, pre_data, post_data, dump.server_version, adjustment)


def sequences_at(vault: Vault, cut: Cut) -> list[SequenceState]:
    """The last value that the record saw of each sequence, on the way to `cut`."""
    seen: dict[tuple[str, str], SequenceState] = {}
    for part in vault.index.chain(cut):
        noted = [
            (image.lsn, image.sequences)
            for image in vault.index.images
            if image.timeline == part.timeline and image.lsn <= part.to_lsn
        ]
        noted += [
            (segment.last_lsn, segment.sequences)
            for segment in vault.index.segments_of(part.timeline)
            if segment.first_lsn < part.to_lsn
        ]
        for _, states in sorted(noted, key=lambda note: note[0]):
            seen.update({(state.schema, state.name): state for state in states})
    return list(seen.values())


def changes_of_late(vault: Vault, cut: Cut) -> int:
    """How many rows changed in the last segments before `cut`: since a sequence was last noted, no more of its values can
    have come into rows. The recorder notes them every few seconds, several times a segment under load."""
    chain = vault.index.chain(cut)
    late = [s for part in chain for s in vault.index.segments_of(part.timeline) if s.first_lsn < part.to_lsn]
    return sum(segment.changes for segment in late[-_SEGMENTS_SURE_TO_HAVE_A_NOTE:])


def rows_estimate(vault: Vault, cut: Cut) -> int:
    """About how many rows the whole database has at `cut`: those of the images that it is read from."""
    buckets = [SHARED_BUCKET, *range(vault.index.genesis.buckets)]
    runs = {base.run.object.name: base.run for bucket in buckets for base in vault.plan(cut, bucket).bases}
    return sum(run.rows for run in runs.values())
