"""Which tables of a history a name means: the one that bears it now, and those that bore it until they were dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from ballast.errors import ConfigError
from ballast.vault.plan import Stretch
from ballast.vault.records import Relation, SchemaVersion
from ballast.vault.story import Event, key_numbers
from ballast.vault.vault import Vault


class Phase(msgspec.Struct, frozen=True):
    """Schema versions, one after another, in which a table's key is of the same columns (see `story.numbers`)."""

    numbers: tuple[int, ...]
    versions: frozenset[int]


class Table(msgspec.Struct, frozen=True):
    """One table's life: a relation, or all partitions of one partitioned table, in every version of it."""

    name: str
    forms: dict[int, tuple[tuple[SchemaVersion, Relation], ...]]
    """By number of the relation, in order."""

    @property
    def relations(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(self.forms)

    @property
    def last(self) -> Relation:
        """The newest version (of one of the partitions)."""
        return max((forms[-1] for forms in self.forms.values()), key=lambda form: form[0].version)[1]

    @property
    def phases(self) -> list[Phase]:
        """The times between which the key's columns were chosen anew, in order."""
        known = {v.version: (v, key_numbers(form)) for forms in self.forms.values() for v, form in reversed(forms)}
        in_order = sorted(known.values(), key=lambda k: (k[0].timeline, k[0].lsn, k[0].seq, k[0].version))
        phases: list[Phase] = []
        for numbers, versions in groupby(in_order, key=lambda k: k[1]):
            phases.append(Phase(numbers, frozenset(version.version for version, _ in versions)))
        return phases

    def marks(self, vault: Vault, chain: Sequence[Stretch]) -> Iterator[Event]:
        """What happened to all of its rows at once. A partition's end is one of a part only: not told."""
        ends = {part.timeline: part.to_lsn for part in chain}
        alone = len(self.forms) == 1
        for segment in vault.index.segments:
            for truncation in segment.truncations:
                if truncation.lsn < ends.get(segment.timeline, 0):
                    for number in set(self.forms).intersection(truncation.relations):
                        place = (segment.timeline, truncation.lsn, truncation.seq)
                        version, form = self._form_at(number, place)
                        yield Event(place, "truncate", form, version.version)
        for image in vault.index.images:
            if image.timeline in ends and image.lsn <= ends[image.timeline]:
                here = vault.schema(image.schema)
                covered = [n for n in self.forms if n in here and (image.relations is None or n in image.relations)]
                if covered and len(covered) == sum(n in here for n in self.forms):
                    yield Event((image.timeline, image.lsn, 0), "imaged", here[covered[0]], image.schema)
        for version in versions_of(vault, chain):
            for number, forms in self.forms.items():
                last = forms[-1]
                if alone and last[0].version < version.version and number not in vault.schema(version.version):
                    yield Event((version.timeline, version.lsn, version.seq), "drop", last[1], last[0].version)

    def _form_at(self, number: int, place: tuple[int, int, int]) -> tuple[SchemaVersion, Relation]:
        forms = self.forms[number]
        before = [known for known in forms if (known[0].timeline, known[0].lsn, known[0].seq) <= place]
        return before[-1] if before else forms[0]


def versions_of(vault: Vault, chain: Sequence[Stretch]) -> list[SchemaVersion]:
    """The schema versions of a history, in order."""
    ends = {part.timeline: part.to_lsn for part in chain}
    known = [v for v in vault.index.schemas.values() if v.timeline in ends and v.lsn <= ends[v.timeline]]
    return sorted(known, key=lambda v: (v.timeline, v.lsn, v.seq, v.version))


def tables_named(vault: Vault, chain: Sequence[Stretch], name: str) -> list[Table]:
    """The tables that bear the name, the newest last. ConfigError where there is none, or several at a time."""
    forms: dict[int, list[tuple[SchemaVersion, Relation]]] = {}
    for version in versions_of(vault, chain):
        for number, form in vault.schema(version.version).items():
            forms.setdefault(number, []).append((version, form))
    by_last_name = [n for n, versions in forms.items() if _bears(versions[-1][1], name)]
    chosen = by_last_name or [n for n, versions in forms.items() if any(_bears(f, name) for _, f in versions)]
    lives: dict[tuple[int, int], list[int]] = {}
    for number in chosen:
        form = forms[number][-1][1]
        whole = form.root_oid and name in (_root(form), form.root_name)
        lives.setdefault((form.root_oid, 0) if whole else (0, number), []).append(number)
    if not lives:
        raise _no_such(name, [versions[-1][1] for versions in forms.values()])
    tables = [
        Table(_root(forms[n[0]][-1][1]) if key[0] else forms[n[0]][-1][1].qualified, {i: tuple(forms[i]) for i in n})
        for key, n in lives.items()
    ]
    schemas = sorted({table.name for table in tables})
    if by_last_name and len(schemas) > 1:
        raise ConfigError(f"{name} may be any of {', '.join(schemas)}.", "Say which: schema.table.")
    return sorted(tables, key=lambda table: max(forms[-1][0].version for forms in table.forms.values()))


def _bears(form: Relation, name: str) -> bool:
    return name in (form.qualified, form.name, _root(form), form.root_name)


def _root(form: Relation) -> str:
    return f"{form.root_schema}.{form.root_name}"


def _no_such(name: str, forms: Sequence[Relation]) -> ConfigError:
    known = sorted({_root(form) for form in forms})
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return ConfigError(f"The vault has no table {name}.", f"Its tables: {shown or 'none'}.")
