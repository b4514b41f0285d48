"""From every version of rows to the rows that are there at the end: the newest of each key that is no delete.

Pure: blocks of versions in, lines out. The rows given are those that count (after the relation's base and its last
truncation, before the cut); which these are is the reader's affair (`sources.py`). A table without a key is a multiset:
its key is the whole row, inserts count up and deletes count down.

A patch takes what it lacks from the version before it; where the key or tenant changed with it, that is found
under the old ones by `Lookup`. Tables whose key was redefined between the versions at hand go
through `replay.py` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.errors import IntegrityError
from ballast.vault import layout
from ballast.vault.blocks import TURN, Block
from ballast.vault.layout import Gather, packed
from ballast.vault.order import PATCH, Bytes, Ints, bytes_of, ints_of, last_versions
from ballast.vault.records import Relation


class Version(msgspec.Struct, frozen=True):
    """A line and the schema version whose layout it has."""

    schema: int
    line: bytes


class Wanted(msgspec.Struct, frozen=True):
    """The row under `key` (as `schema` defines it) of `tenant` just before what stands at (timeline, lsn, seq)."""

    schema: int
    timeline: int
    lsn: int
    seq: int
    relation: int
    tenant: str | None
    key: bytes


Lookup = Callable[[Sequence[Wanted]], Mapping[Wanted, Version]]
"""Finds what patches build on; what is not in the answer is not in the vault."""


class Structure(msgspec.Struct, frozen=True):
    """What a fold knows of the tables."""

    target: Mapping[int, Relation]
    """The layout that the lines get: relations by number."""
    versions: Callable[[int], Mapping[int, Relation]]
    """Schema version to its relations."""
    keyless: frozenset[int]
    """Relations without a key, in all the versions at hand."""

    def of(self, schema: int, relation: int) -> Relation:
        """The relation as `schema` has it; IntegrityError if it has none of that number."""
        found = self.versions(schema).get(relation)
        if found is None:
            raise IntegrityError(
                f"Rows of relation {relation} name schema version {schema}, which lacks it.",
                "Run `ballast verify`.",
            )
        return completed(found, self._following(schema, relation))

    def _following(self, schema: int, relation: int) -> Relation | None:
        try:
            return self.versions(schema + 1).get(relation)
        except (IntegrityError, LookupError):  # it is the newest
            return None

    def mapping(self, schema: int, relation: int) -> layout.Mapping:
        """From lines of that version to lines as they are wanted."""
        return layout.mapping(self.of(schema, relation), self.target[relation])


def completed(found: Relation, following: Relation | None) -> Relation:
    """`found` with what the version after it knows of added columns: how rows older than they are show them.

    Of two subtransactions the server may send the first row of the second before the message that ends the first, since it
    gives both the same position. The column is then known by its name alone until the message comes."""
    told = {column.attnum: column for column in following.columns if column.has_missing} if following else {}
    if not any(column.attnum in told and not column.has_missing for column in found.columns):
        return found
    return msgspec.structs.replace(found, columns=tuple(told.get(c.attnum, c) for c in found.columns))


class Fold:
    """The rows that one block leaves, in order of tenant, relation and key."""

    def __init__(self, block: Block, structure: Structure, lookup: Lookup) -> None:
        self._block, self._structure = block, structure
        order = block.order if block.order is not None else np.arange(block.rows.num_rows)
        data, offsets = block.keys
        keyless = _flags(block.relations, structure.keyless)
        picks, firsts, bad = last_versions(order, block.groups, data, offsets, block.ops, keyless)
        if bad >= 0:
            raise _too_many_deletes(block, int(bad), structure)
        self.picks: Ints = picks
        """Of each surviving row, the version in the block that it is."""
        self._sources = picks
        self._extra = packed([])
        patches = np.flatnonzero(block.ops[picks] == PATCH)
        if len(patches):
            lines = Patches(block.rows, structure, lookup).lines(
                [order[firsts[i] : _position(order, firsts[i], picks[i]) + 1] for i in patches]
            )
            self._sources = picks.copy()
            self._sources[patches] = block.rows.num_rows + np.arange(len(lines))
            self._extra = packed(lines)
        self._relations = block.relations[picks]

    def __len__(self) -> int:
        return len(self.picks)

    def relations(self) -> list[int]:
        """The relations that have rows here, in order."""
        return [int(number) for number in _distinct(self._relations)]

    def lines(self, relation: int | None = None) -> pa.LargeBinaryArray:
        """The lines of `relation` (None: of all), in one buffer, in the layout of the structure's target."""
        at: Any = slice(None) if relation is None else np.flatnonzero(self._relations == relation)
        picks, sources = self.picks[at], self._sources[at]
        schemas = ints_of(self._block.rows["schema"])[picks]
        versions = (self._relations[at] << 32) | schemas
        distinct, by = _numbered(versions)
        gather = Gather([self._structure.mapping(int(v) & 0xFFFFFFFF, int(v) >> 32) for v in distinct])
        return gather.lines(bytes_of(self._block.rows["row"]), self._extra, sources, by)

    def parts(self) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
        """Each relation with its lines, in order of relation."""
        schemas = ints_of(self._block.rows["schema"])[self.picks]
        rows = bytes_of(self._block.rows["row"])
        yield from by_relation(self._relations, schemas, rows, self._extra, self._sources, self._structure)

    def table(self) -> pa.Table:
        """All rows with `tenant`, `relation`, `key`, `row`, in order."""
        kept = self._block.rows.select(["tenant", "relation", "key"]).take(pa.array(self.picks))
        return kept.append_column("row", self.lines())


def by_relation(
    relations: Ints, schemas: Ints, rows: Bytes, extra: Bytes, sources: Ints, structure: Structure
) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
    """Lines `sources` (of `rows`, then `extra`) by relation, in the layout of the structure's target, in one copy."""
    # Numbers of 16 bits are sorted by digits, which is several times as fast.
    small = relations.astype(np.uint16) if len(relations) and relations.max() < 1 << 16 else relations
    order = np.argsort(small, kind="stable")
    relations = relations[order]
    distinct, by = _numbered((relations << 32) | schemas[order])
    gather = Gather([structure.mapping(int(v) & 0xFFFFFFFF, int(v) >> 32) for v in distinct])
    lines = gather.lines(rows, extra, sources[order], by)
    starts = np.flatnonzero(np.diff(relations, prepend=relations[:1] - 1))
    for start, end in zip(starts, [*starts[1:], len(relations)], strict=True):
        yield int(relations[start]), lines.slice(int(start), int(end - start))


def fold(blocks: Iterable[Block], structure: Structure, lookup: Lookup) -> Iterator[Fold]:
    """Each block folded; those that leave nothing are passed over. IntegrityError where the versions do not add up."""
    for block in blocks:
        folded = Fold(block, structure, lookup)
        if len(folded):
            yield folded


class Patches:
    """Puts together the lines of patches from the versions before them."""

    def __init__(self, rows: pa.Table, structure: Structure, lookup: Lookup) -> None:
        self._rows, self._structure, self._lookup = rows, structure, lookup
        self._columns = {name: rows[name].combine_chunks() for name in rows.column_names}

    def lines(self, stories: Sequence[Ints]) -> list[bytes]:
        """For each story (rows of one key from its first version to a patch) the whole line of the patch."""
        chains = [self._chain(story) for story in stories]
        wanted = {w: None for chain in chains if (w := self._before(chain[0])) is not None}
        found = self._lookup(list(wanted)) if wanted else {}
        return [self._line(chain, found) for chain in chains]

    def _chain(self, story: Ints) -> list[int]:
        """The end of the story from what needs nothing before it within this story."""
        for start in range(len(story) - 1, -1, -1):
            row = int(story[start])
            if self._value("op", row) != "P" or self._value("before_key", row) is not None:
                return [int(i) for i in story[start:]]
        raise self._baseless(int(story[0]))

    def _before(self, row: int) -> Wanted | None:
        key = self._value("before_key", row)
        if self._value("op", row) != "P" or key is None:
            return None
        schema, timeline, lsn, seq, relation = (
            int(self._value(name, row)) for name in ("schema", TURN, "lsn", "seq", "relation")
        )
        return Wanted(schema, timeline, lsn, seq, relation, self._value("before_tenant", row), key)

    def _line(self, chain: list[int], found: Mapping[Wanted, Version]) -> bytes:
        current: Version | None = None
        for row in chain:
            own = Version(int(self._value("schema", row)), self._value("row", row))
            if self._value("op", row) == "P":
                wanted = self._before(row)
                previous = current if wanted is None else found.get(wanted)
                if previous is None:
                    raise self._baseless(row)
                own = apply_patch(
                    own,
                    self._value("missing", row) or (),
                    previous,
                    int(self._value("relation", row)),
                    self._structure,
                )
            elif self._value("op", row) == "D":
                raise self._baseless(row)
            current = own
        assert current is not None
        return current.line

    def _value(self, name: str, row: int) -> Any:
        return self._columns[name][row].as_py()

    def _baseless(self, row: int) -> IntegrityError:
        return baseless(
            self._value("tenant", row), self._value("relation", row), self._value("key", row), self._structure
        )


def apply_patch(
    patch: Version, missing: Iterable[int], previous: Version, relation: int, structure: Structure
) -> Version:
    """The patch with the columns `missing` (attnums) as they were in `previous`, which may have an older layout."""
    now = structure.of(patch.schema, relation)
    before = layout.mapping(structure.of(previous.schema, relation), now).apply(previous.line)
    places = [now.row_columns.index(attnum) for attnum in missing]
    fields = layout.patched(patch.line[:-1].split(b"\t"), before[:-1].split(b"\t"), places)
    return Version(patch.schema, b"\t".join(fields) + b"\n")


def baseless(tenant: str | None, relation: int, key: bytes, structure: Structure) -> IntegrityError:
    """The error for a patch or delete without the row that it goes to."""
    return IntegrityError(
        f"The record of {_name(relation, structure)} key {key.decode(errors='replace')!r} of {_whose(tenant)} changes"
        " a row of which no earlier version is in the vault.",
        "Run `ballast verify`. Until a new image is taken, choose a moment before the change.",
    )


def _too_many_deletes(block: Block, row: int, structure: Structure) -> IntegrityError:
    tenant, relation, key = (block.rows[name][row].as_py() for name in ("tenant", "relation", "key"))
    return IntegrityError(
        f"The record of {_name(relation, structure)} (no key) deletes the row {key.decode(errors='replace')[:200]!r} of"
        f" {_whose(tenant)} more often than it was there.",
        "Run `ballast verify`. Until a new image is taken, choose a moment before the delete.",
    )


def _name(relation: int, structure: Structure) -> str:
    known = structure.target.get(relation)
    return known.qualified if known is not None else f"relation {relation}"


def _whose(tenant: str | None) -> str:
    return "the shared rows" if tenant is None else f"tenant {tenant!r}"


def _flags(relations: Ints, chosen: frozenset[int]) -> NDArray[np.bool_]:
    flags = np.zeros(int(relations.max(initial=0)) + 1, np.bool_)
    flags[[number for number in chosen if number < len(flags)]] = True
    picked: NDArray[np.bool_] = flags[relations]
    return picked


def _distinct(values: Ints) -> Ints:
    """As np.unique, but quick where equal values are neighbours."""
    return np.unique(values[np.flatnonzero(np.diff(values, prepend=values[:1] - 1))])


def _numbered(values: Ints) -> tuple[Ints, Ints]:
    """Distinct values in order, and of each value its place among them."""
    distinct = _distinct(values)
    if len(distinct) == 1:
        return distinct, np.zeros(len(values), np.int64)
    return distinct, np.searchsorted(distinct, values).astype(np.int64)


def _position(order: Ints, first: int, row: int) -> int:
    at = int(first)
    while order[at] != row:
        at += 1
    return at
