"""How many rows a read of a bucket takes in: counted by reading nothing but the tenants of the runs of its plan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ballast.vault.buckets import bucket_of
from ballast.vault.merge_rules import Weight, image_due
from ballast.vault.order import ints_of, ranks_of
from ballast.vault.plan import Plan
from ballast.vault.read import warm
from ballast.vault.records import SHARED_BUCKET, Cut, RunRef
from ballast.vault.vault import Vault

_EVER = 1 << 63


class Scales:
    """Weighs buckets at one cut; what is counted for one serves the next."""

    def __init__(self, vault: Vault, cut: Cut) -> None:
        self._vault, self._cut = vault, cut
        self._buckets = vault.index.genesis.buckets
        self._counts: dict[tuple[str, int, int], NDArray[np.int64]] = {}

    def image_due(self, bucket: int) -> bool:
        """Whether `bucket` is to get a merged image at the cut. GapError, IntegrityError, StoreError."""
        plan = self._vault.plan(self._cut, bucket)
        runs = len(plan.changes)
        if not runs:
            return False
        # What the ledger says is enough to tell that few rows or runs are no reason.
        at_most = Weight(0, sum(change.run.rows for change in plan.changes), runs)
        return image_due(at_most) and image_due(self._weigh(plan, bucket))

    def _weigh(self, plan: Plan, bucket: int) -> Weight:
        base = sum(self._count(b.run, 0, _EVER, bucket) for b in plan.bases)
        changed = sum(self._count(c.run, c.from_lsn, c.to_lsn, bucket) for c in plan.changes)
        return Weight(base, changed, len(plan.changes))

    def _count(self, run: RunRef, from_lsn: int, to_lsn: int, bucket: int) -> int:
        if run.bucket is not None and from_lsn == 0:
            return run.rows if run.bucket == bucket else 0
        key = (run.object.name, from_lsn, to_lsn)
        if key not in self._counts:
            self._counts[key] = self._counted(run, from_lsn, to_lsn)
        return int(self._counts[key][bucket - SHARED_BUCKET])

    def _counted(self, run: RunRef, from_lsn: int, to_lsn: int) -> NDArray[np.int64]:
        counts = np.zeros(self._buckets - SHARED_BUCKET, np.int64)
        for rows in warm(self._vault).open(run).slices(columns=("lsn",)):
            ranks, names = ranks_of(rows["tenant"])
            places: Any = np.array([bucket_of(name, self._buckets) - SHARED_BUCKET for name in names])
            lsns = ints_of(rows["lsn"])
            picked = places[ranks[(lsns >= from_lsn) & (lsns < to_lsn)]]
            counts += np.bincount(picked, minlength=len(counts))
        return counts
