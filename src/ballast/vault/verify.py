"""`verify`: walk the whole vault and name whatever does not agree.

Nothing is trusted that can be recomputed: entries by signature and chain, objects by size and SHA-256, runs by
their rows, merges by what they rearrange, and the store by what no entry names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ballast.errors import BallastError
from ballast.postgres.lsn import format_lsn
from ballast.vault import pages
from ballast.vault.audit_ledger import Walked, fold, position_faults, tiling_faults, walk
from ballast.vault.audit_merges import MergeAudit, image_faults
from ballast.vault.audit_objects import ObjectAudit, Progress, owned
from ballast.vault.batch import intended
from ballast.vault.fault import Fault, Harm, Kind, Report, fault
from ballast.vault.ledger import PREFIX, decode, encode, entry_name
from ballast.vault.records import Entry, Genesis
from ballast.vault.store import Store
from ballast.vault.vault import Vault

__all__ = ["Fault", "Kind", "Report", "verify"]

OF_CONTINUITY = "intake/"
"""Objects that are no part of the record: copies of what was accepted while the database was away, which vouch for themselves."""
_PAGE = re.compile(pages.PREFIX + r"(\d{12})\.jsonl")
_BATCH = re.compile(r"data/((\d+)-([0-9A-F]{16})-([0-9A-F]{16})-(\w+)-[0-9a-f]{8})/")


def verify(
    vault: Vault | Store,
    *,
    state_dir: Path | str | None = None,
    key: str | None = None,
    deep: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Every fault of the vault, gravest first. A store is enough: a damaged vault may not open.

    `key`: the public key that must have signed it. `state_dir`: the recorder's, whose `head.json` shows a cut-off tail
    and a replaced ledger. `deep`: also the order of rows, and the checksums of merges; without it rows are only counted.
    StoreError where the store is silent."""
    store = vault.store if isinstance(vault, Vault) else vault
    walked = walk(store, state_dir)
    if walked.last == 0:
        empty = fault(Kind.ENTRY_MISSING, entry_name(1), "there is no ledger here: no vault, or all of it is gone.")
        return Report((empty,), {"entries": 0})
    index, unfit = fold(walked.entries)
    objects = owned(walked.entries)
    listed = {name: size for name, size in store.list() if not name.startswith(OF_CONTINUITY)}
    merges = MergeAudit(index, walked.entries)
    buckets = next((e.body.buckets for e in walked.entries if isinstance(e.body, Genesis)), None)
    audit = ObjectAudit(store, objects, listed, buckets, deep=deep, on_tally=merges.take, progress=progress)
    audit.run()
    strays = [*walked.strays, *_unaccounted(store, walked, set(objects), listed, state_dir)]
    faults = [*audit.faults, *merges.faults(audit.sound, deep=deep)]
    compared = merges.compared
    if walked.whole:
        names = {id(entry.body): entry_name(entry.number) for entry in walked.entries}
        faults = [*unfit, *position_faults(index, walked.entries), *tiling_faults(index, names), *faults]
        if deep:
            images_compared, different = image_faults(store, _sound_entries(walked, faults), audit.sound)
            compared += images_compared
            faults += different
        faults += _page_faults(store, walked, listed)
        faults += [_stray(name) for name in strays]
    else:
        # What is impossible, holes, and unnamed objects follow from the entries that are not there: no faults of
        # their own, but they tell what those entries were about.
        faults = [*_explained(walked.faults, strays), *faults]
    if key and walked.public != key:
        faults.insert(0, fault(Kind.KEY, entry_name(1), f"the ledger is not signed by the key {key[:16]}…"))
    counts = {
        "entries": len(walked.entries),
        "objects": len(objects),
        "bytes": sum(o.ref.bytes for o in objects.values()),
        "rows": audit.rows,
        "segments": len(index.segments),
        "images": len(index.images),
        "merges": len(index.merges),
        "gaps": len(index.gaps),
        "merges compared": compared,
    }
    return Report(tuple(faults), counts)


def _page_faults(store: Store, walked: Walked, listed: dict[str, int]) -> list[Fault]:
    """Pages of the ledger that are not their entries put together: readers pass over them, so nothing is lost."""
    faults = []
    for name in (name for name in listed if name.startswith(pages.PREFIX)):
        match = _PAGE.fullmatch(name)
        last = int(match[1]) * pages.ENTRIES if match else 0
        if not 0 < last <= len(walked.entries):
            faults.append(_stray(name))
        elif store.get(name) != pages.encode([encode(e) for e in walked.entries[last - pages.ENTRIES : last]]):
            faults.append(
                fault(Kind.CONTENT, name, "this page of the ledger is not its entries put together. Remove it.")
            )
    return faults


def _sound_entries(walked: Walked, faults: Sequence[Fault]) -> list[Entry]:
    """Entries that nothing is wrong with so far: others would spoil what is compared with them."""
    faulty = {fault.what for fault in faults}
    return [entry for entry in walked.entries if entry_name(entry.number) not in faulty]


def _unaccounted(
    store: Store, walked: Walked, named: set[str], listed: dict[str, int], state_dir: Path | str | None
) -> list[str]:
    """Objects that no entry names, nor a batch that is under way."""
    doubtful = set(owned(walked.doubtful))
    strays = [name for name in listed if not name.startswith((PREFIX, pages.PREFIX)) and name not in named | doubtful]
    if not strays:
        return []
    underway = intended(state_dir) if state_dir is not None else set()
    # What was written while we walked is named by entries that are newer than our walk.
    since: set[str] = set()
    number = walked.last + 1
    while (names := _named_by(store, number)) is not None:
        since |= names
        number += 1
    return [n for n in strays if n not in since and not any(n.startswith(f"data/{batch}/") for batch in underway)]


def _named_by(store: Store, number: int) -> set[str] | None:
    try:
        return set(owned([decode(store.get(entry_name(number)), entry_name(number))]))
    except BallastError:
        return None


def _stray(name: str) -> Fault:
    why = "no entry of the ledger names this object. If a recorder is writing it just now, the next run will not."
    return fault(Kind.STRAY, name, why)


def _explained(faults: Sequence[Fault], strays: Sequence[str]) -> list[Fault]:
    """The ledger's faults, with the batches that nothing names any more: their names say what they hold.

    They are told with the entries that are gone or unreadable; else with those that were changed."""
    batches = {match[1]: match for name in strays if (match := _BATCH.match(name))}
    others = [_stray(name) for name in strays if not _BATCH.match(name)]
    if not batches:
        return [*faults, *others]
    told = "; ".join(f"{m[5]} {_stretch(m)} in data/{m[1]}/" for m in batches.values())
    mute = [f for f in faults if not f.where] or list(faults)
    explained = []
    for f in faults:
        if f in mute:
            only = next(iter(batches.values())) if len(batches) == len(mute) == 1 and not f.where else None
            harm = Harm(int(only[2]), int(only[3], 16), int(only[4], 16)) if only else f.harm
            f = fault(f.kind, f.what, f"{f.explanation} Nothing names these objects now: {told}.", harm)
        explained.append(f)
    return [*explained, *others]


def _stretch(batch: re.Match[str]) -> str:
    first, last = (f"{batch[2]}/{format_lsn(int(batch[n], 16))}" for n in (3, 4))
    return f"of {first} to {last}"
