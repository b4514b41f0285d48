"""What of the record is to come back: asked for by name, answered by relations, and refused where it cannot be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from ballast.errors import GapError, RestoreError
from ballast.postgres import format_lsn
from ballast.vault import Resolved, Vault, tenant_known
from ballast.vault.records import Gap, Relation


class Request(msgspec.Struct, frozen=True):
    """What is to come back. `tenants` None: all; `tables` None: all, else names as `schema.table` or `table`."""

    tenants: tuple[str, ...] | None = None
    tables: tuple[str, ...] | None = None
    replace: bool = False
    """Rows of those tenants that the target holds make room."""
    inexact: bool = False
    """Go on although the record has a gap at that moment."""
    jobs: int = 2
    """Connections at work."""


class Choice(msgspec.Struct, frozen=True):
    """What a request means at its moment."""

    relations: Mapping[int, Relation]
    """All that are recorded there."""
    chosen: Mapping[int, Relation]
    inexact: tuple[str, ...]
    """Those of the chosen whose record has a gap there."""
    gaps: tuple[Gap, ...]


def choose(vault: Vault, resolved: Resolved, request: Request) -> Choice:
    """RestoreError for tables that the record does not have; GapError for an inexact moment, unless the request says
    that it may be. Whether it knows the tenants is asked later (`refuse_unknown`)."""
    relations = vault.relations_at(resolved.cut)
    chosen = relations if request.tables is None else _named(relations, request.tables)
    gaps = tuple(gap for gap in resolved.gaps if gap.relations is None or not chosen.keys().isdisjoint(gap.relations))
    inexact = sorted(
        relation.qualified
        for number, relation in chosen.items()
        if any(gap.relations is None or number in gap.relations for gap in gaps)
    )
    if inexact and not request.inexact:
        raise GapError(
            f"The record of {_some(inexact)} is not exact at that moment: {'; '.join(map(_shown, gaps))}.",
            "Choose a moment outside, leave these tables out with --table, or add --inexact to have what the record holds.",
        )
    return Choice(relations, chosen, tuple(inexact), gaps)


def refuse_unknown(vault: Vault, tenants: tuple[str, ...]) -> None:
    """RestoreError for tenants of whom no row was ever recorded."""
    unknown = [tenant for tenant in tenants if not tenant_known(vault, tenant)]
    if unknown:
        raise RestoreError(
            f"the vault has never seen tenant {', '.join(map(repr, unknown))}",
            "A tenant is named by the text of its column, letter by letter: compare with a row of production.",
        )


def _named(relations: Mapping[int, Relation], tables: tuple[str, ...]) -> dict[int, Relation]:
    chosen: dict[int, Relation] = {}
    for name in tables:
        found = {number: relation for number, relation in relations.items() if name in names_of(relation)}
        if not found:
            known = sorted({name for relation in relations.values() for name in names_of(relation)})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'Did you mean "{near[0]}"? ' if near else ""
            listed = _some(sorted({f"{r.root_schema}.{r.root_name}" for r in relations.values()}), 20)
            raise RestoreError(f'there is no table "{name}" at that moment', f"{hint}The record has: {listed}.")
        chosen |= found
    return chosen


def names_of(relation: Relation) -> tuple[str, ...]:
    """The names by which a table can be asked for; a partition by its root's, too."""
    return relation.name, relation.qualified, relation.root_name, f"{relation.root_schema}.{relation.root_name}"


def _shown(gap: Gap) -> str:
    until = "now" if gap.to_lsn is None else f"{gap.timeline}/{format_lsn(gap.to_lsn)}"
    return f"from {gap.timeline}/{format_lsn(gap.from_lsn)} to {until} ({gap.reason})"


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
