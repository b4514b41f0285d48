"""Whether a server holds what the record says that it does, at one cut: compared by counts and checksums, table by table.

A timeline that goes on from its parent stands on that. So before it begins, every row that is there is read once under
the snapshot of the new slot, and set beside the parent's rows at the fork: nothing is written, and what differs is imaged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from ballast.postgres.checksum import checksum_sum, row_checksums
from ballast.vault.image import Family, copied
from ballast.vault.read import bucket_groups, rows
from ballast.vault.records import SHARED_BUCKET, Cut, Relation
from ballast.vault.vault import Vault

Progress = Callable[[int], None]
"""Told how many rows more of the server's were read."""
Tallies = Mapping[int, tuple[int, int]]
"""Relation number to rows and checksum (see `postgres/checksum.py`)."""
_MASK = (1 << 64) - 1
_GROUPS = 8


def differing(
    conn: psycopg.Connection[Any],
    vault: Vault,
    cut: Cut,
    relations: Sequence[Relation],
    family: Family,
    progress: Progress,
) -> dict[int, str]:
    """Relations whose rows on the server are not those of the record at `cut`, and how they differ.

    `relations` as the server has them, with the same columns as at `cut`. GapError, IntegrityError, StoreError."""
    here = {r.number: _read(conn, r, family, progress) for r in relations}
    there = _recorded(vault, cut, {r.number for r in relations})
    return {
        number: f"it has {mine[0]:,} rows, and the record {there.get(number, (0, 0))[0]:,}"
        if mine[0] != there.get(number, (0, 0))[0]
        else f"its {mine[0]:,} rows are not those of the record"
        for number, mine in here.items()
        if mine != there.get(number, (0, 0))
    }


def strangers(
    conn: psycopg.Connection[Any],
    vault: Vault,
    cut: Cut,
    relations: Sequence[Relation],
    family: Family,
    progress: Progress,
) -> list[str]:
    """While tenants still come back: what is there of some, and is not what the record has of them; a line each.

    A tenant that has any row must have all of them. Shared tables stand for themselves: empty, or whole."""
    here: defaultdict[str | None, dict[int, tuple[int, int]]] = defaultdict(dict)
    for relation in relations:
        for tenant, tally in _read_by_tenant(conn, relation, family, progress).items():
            here[tenant][relation.number] = tally
    names = {r.number: r.qualified for r in relations}
    found = []
    for tenant, mine in here.items():
        there = _sum(rows(vault, cut, tenant=tenant, relations=names.keys()))
        looked_at = mine if tenant is None else names
        wrong = sorted(names[n] for n in looked_at if mine.get(n, (0, 0)) != there.get(n, (0, 0)))
        if wrong:
            whose = "the rows that all tenants share" if tenant is None else f"tenant {tenant!r}"
            found.append(f"{whose} in {', '.join(wrong)}")
    return sorted(found)


def _recorded(vault: Vault, cut: Cut, numbers: Collection[int]) -> Tallies:
    every = (SHARED_BUCKET, *range(vault.index.genesis.buckets))
    total: Counter[int] = Counter()
    sums: Counter[int] = Counter()
    for group in bucket_groups(vault, cut, every, _GROUPS):
        for number, (count, checksum) in _sum(rows(vault, cut, buckets=group, relations=numbers)).items():
            total[number] += count
            sums[number] = (sums[number] + checksum) & _MASK
    return {number: (total[number], sums[number]) for number in total}


def _sum(chunks: Any) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for chunk in chunks:
        count, checksum = found.get(chunk.relation.number, (0, 0))
        found[chunk.relation.number] = (count + chunk.rows, (checksum + chunk.checksum) & _MASK)
    return found


def _read(conn: psycopg.Connection[Any], relation: Relation, family: Family, progress: Progress) -> tuple[int, int]:
    count = checksum = 0
    with closing(copied(conn, relation, family)) as parts:
        for lines in parts:
            count += len(lines)
            checksum = (checksum + checksum_sum(row_checksums(lines.row.data, lines.row.offsets))) & _MASK
            progress(len(lines))
    return count, checksum


def _read_by_tenant(
    conn: psycopg.Connection[Any], relation: Relation, family: Family, progress: Progress
) -> dict[str | None, tuple[int, int]]:
    found: dict[str | None, tuple[int, int]] = {}
    with closing(copied(conn, relation, family)) as parts:
        for lines in parts:
            checksums = row_checksums(lines.row.data, lines.row.offsets)
            encoded = pa.compute.dictionary_encode(lines.partition.to_text(), null_encoding="encode")
            places: Any = encoded.indices.to_numpy(zero_copy_only=False)
            names = encoded.dictionary.to_pylist()
            sums = np.zeros(len(names), np.uint64)
            np.add.at(sums, places, checksums)
            counts = np.bincount(places, minlength=len(names))
            for name, rows_here, sum_here in zip(names, counts.tolist(), sums.tolist(), strict=True):
                before = found.get(name, (0, 0))
                found[name] = (before[0] + rows_here, (before[1] + sum_here) & _MASK)
            progress(len(lines))
    return found
