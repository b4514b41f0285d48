"""Side branches: what the vault holds of histories that did not lead to now, since the server that goes on lacks it.

A branch is what a timeline has past the cut at which the line to the newest timeline left it (or, for a timeline off that
line, all of it). Nothing of it is lost: every position on it can be restored from, and `recovery/branch.py` puts it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import ConfigError
from ballast.vault.index import VaultIndex
from ballast.vault.moment import show
from ballast.vault.order import ints_of
from ballast.vault.plan import Stretch, after
from ballast.vault.read import tenants, warm
from ballast.vault.records import Cut, Segment
from ballast.vault.vault import Vault


class Branch(msgspec.Struct, frozen=True):
    """One side branch, named by its timeline. Positions are spelled as `--at` reads them."""

    timeline: int
    base: Cut | None
    """The last cut that it has in common with the line to now; None: nothing (another server's history)."""
    tip: Cut
    """Its end."""
    from_position: str
    until_position: str
    commits: int
    """Transactions that changed recorded rows."""
    first_commit_at: str | None
    """ISO, UTC, by the server's clock."""
    last_commit_at: str | None
    structure: tuple[str, ...]
    """What was done to the structure on it."""


def branches(vault: Vault) -> list[Branch]:
    """All that hold anything, the newest timeline first."""
    found = (_branch(vault, number) for number in sorted(vault.index.timelines, reverse=True))
    return [branch for branch in found if branch is not None and (branch.commits or branch.structure)]


def branch_of(vault: Vault, timeline: int) -> Branch:
    """The branch of that name. ConfigError where there is none, or nothing that it has in common with now."""
    known = {branch.timeline: branch for branch in branches(vault)}
    if timeline not in known:
        names = ", ".join(map(str, known)) or "none"
        raise ConfigError(f"Timeline {timeline} has no side branch.", f"Known branches: {names}.")
    if known[timeline].base is None:
        raise ConfigError(
            f"Timeline {timeline} has nothing in common with the timeline that is recorded now: it is another history.",
            f"Rows of it can be restored: --at {known[timeline].until_position}.",
        )
    return known[timeline]


def base_of(index: VaultIndex, timeline: int) -> Cut | None:
    """Where the history of `timeline` leaves the line to the newest one."""
    newest = index.newest_timeline
    line = {part.timeline: part.to_lsn for part in index.chain(Cut(newest, index.recorded_until(newest)))}
    tip = index.chain(Cut(timeline, index.recorded_until(timeline)))
    for part in reversed(tip):
        if part.timeline in line:
            return Cut(part.timeline, min(part.to_lsn, line[part.timeline]))
    return None


def concerned(vault: Vault, branch: Branch) -> dict[str | None, set[int]]:
    """Whose rows (None: shared) of which relations were changed on the branch."""
    assert branch.base is not None
    found: dict[str | None, set[int]] = {}
    emptied: set[int] = set()
    for part, segment in _segments(vault.index, branch):
        for truncation in segment.truncations:
            if part.from_lsn <= truncation.lsn < part.to_lsn:
                emptied.update(truncation.relations)
        for run in segment.runs:
            for rows in warm(vault).open(run).slices(columns=("tenant", "relation", "lsn")):
                lsns = ints_of(rows["lsn"])
                kept = rows.filter(pa.array((lsns >= part.from_lsn) & (lsns < part.to_lsn)))
                pairs = kept.select(["tenant", "relation"]).group_by(["tenant", "relation"]).aggregate([])
                for pair in pairs.to_pylist():
                    found.setdefault(pair["tenant"], set()).add(pair["relation"])
    if emptied:
        for tenant in (None, *tenants(vault, branch.base)):
            found.setdefault(tenant, set()).update(emptied)
    return found


def _branch(vault: Vault, timeline: int) -> Branch | None:
    index = vault.index
    if index.recorded_from(timeline) is None:
        return None
    base, tip = base_of(index, timeline), Cut(timeline, index.recorded_until(timeline))
    if base == tip or timeline == index.newest_timeline:
        return None
    begin = base if base is not None else index.earliest(timeline)
    assert begin is not None
    bare = Branch(timeline, base, tip, show(begin), show(tip), 0, None, None, ())
    commits, first, last = 0, None, None
    for part, segment in _segments(index, bare):
        table = vault.transactions(segment)
        if table is None:
            continue
        here = pc.and_(pc.greater_equal(table["lsn"], part.from_lsn), pc.less(table["lsn"], part.to_lsn))
        picked = table.filter(pc.and_(here, pc.greater(table["changes"], 0)))
        if picked.num_rows:
            commits += picked.num_rows
            first = first or picked["committed_at"][0].as_py()
            last = picked["committed_at"][-1].as_py()
    return msgspec.structs.replace(
        bare,
        commits=commits,
        first_commit_at=None if first is None else first.isoformat(),
        last_commit_at=None if last is None else last.isoformat(),
        structure=tuple(_structure(index, bare, set(_timelines(index, bare)))),
    )


def _structure(index: VaultIndex, branch: Branch, timelines: Collection[int]) -> Iterator[str]:
    for version in index.schemas.values():
        begun = index.timelines.get(version.timeline)
        of_commit = begun is not None and (version.lsn, version.seq) > (begun.start_lsn, 0)
        base = branch.base or Cut(branch.timeline, 0)
        if version.timeline in timelines and of_commit and Cut(version.timeline, version.lsn) >= base:
            yield version.command or version.reason


def _timelines(index: VaultIndex, branch: Branch) -> Iterator[int]:
    yield from (part.timeline for part in _parts(index, branch))


def _parts(index: VaultIndex, branch: Branch) -> Iterator[Stretch]:
    chain = index.chain(branch.tip)
    yield from (part for part in after(chain, branch.base or Cut(chain[0].timeline, 0)) if part.from_lsn < part.to_lsn)


def _segments(index: VaultIndex, branch: Branch) -> Iterator[tuple[Stretch, Segment]]:
    for part in _parts(index, branch):
        for segment in index.segments_of(part.timeline):
            if segment.first_lsn < part.to_lsn and segment.last_lsn > part.from_lsn:
                yield part, segment
