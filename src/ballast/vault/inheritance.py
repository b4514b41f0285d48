"""A timeline that goes on from its parent: which tables do, which must be imaged all the same, and what was missed.

What is assumed is that the server held exactly the parent's rows when it began its own life. It is not believed but looked
at (`agreement.py`), under the snapshot of the slot with which the new timeline begins:

- after a promotion, or a recovery that is finished, every table is compared as a whole. One that differs has been written to
  before the slot was there: it is imaged, and the time until then is told as a gap;
- while a recovery still puts tenants back, those that are there must be what the record says of them. Then nobody has
  written yet, and an image would be wrong: it would say of all others that they have no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from ballast.errors import ProtectionError
from ballast.vault import wish
from ballast.vault.agreement import differing, strangers
from ballast.vault.ancestry import Descent
from ballast.vault.carryover import Carried, carried
from ballast.vault.config import Config, Tenants
from ballast.vault.health import now_iso
from ballast.vault.image import Family
from ballast.vault.records import Gap, Relation
from ballast.vault.tables import TableFacts
from ballast.vault.vault import Vault

if TYPE_CHECKING:
    from ballast.vault.baseline import Place, Watcher

_SHOWN = 5


def going_on_from(vault: Vault, place: Place, tables: Sequence[TableFacts], tenants: Tenants) -> Carried | None:
    """The parent's relations as this server has them; None where there is no parent."""
    descent = place.situation.descent
    if descent is None:
        return None
    then = vault.relations_at(descent.parent)
    highest: dict[int, int] = {}
    for version in vault.index.schemas:
        for number, form in vault.schema(version).items():
            highest[number] = max([highest.get(number, 0), *(c.attnum for c in form.columns)])
    return carried(then.values(), tables, tenants, highest, same_server=descent.how == "promoted")


def imaged_anew(
    conn: psycopg.Connection[Any],
    vault: Vault,
    descent: Descent | None,
    relations: Sequence[Relation],
    going_on: Carried,
    watch: Watcher,
    expected_rows: int,
) -> dict[int, str]:
    """Relations that must be imaged, and why. `relations`: all of this server. ProtectionError where that cannot be."""
    assert descent is not None
    if not descent.finished and not descent.left_out:
        watch.say(
            "tenants still come back, and not under a replication origin: what comes back is recorded like any change, and an"
            " image is taken of what is there. Until it is back, a tenant has no rows on the new timeline"
        )
        return {r.number: "it comes back through the stream" for r in relations}
    why = {r.number: going_on.otherwise[r.qualified] for r in relations if r.qualified in going_on.otherwise}
    if descent.finished:
        for gap in vault.index.gap_at(descent.parent):
            inexact = (r for r in relations if gap.relations is None or r.number in gap.relations)
            why |= {r.number: f"its record has a gap at the fork: {gap.reason}" for r in inexact}
    compared = [r for r in relations if r.number not in why]
    family = Family(relations)
    watch.begin("comparing with the record", expected_rows)
    if descent.finished:
        why |= differing(conn, vault, descent.parent, compared, family, watch.advance)
        names = {r.number: r.qualified for r in relations}
        for number, reason in sorted(why.items()):
            watch.say(f"{names[number]} is imaged: {reason}")
        same = len(relations) - len(why)
        watch.say(f"{same} of {len(relations)} tables are what the record says: they need no image")
        return why
    _refuse(sorted(f"{name}: {reason}" for name, reason in going_on.otherwise.items()), "tables")
    _refuse(strangers(conn, vault, descent.parent, compared, family, watch.advance), "rows")
    watch.say("what is back so far is what the record says: no image is needed, and tenants may come back meanwhile")
    return {}


def wish_for_later(settings: Config, vault: Vault, place: Place, relations: Sequence[Relation]) -> None:
    """What the parent's record has a gap of, and cannot be imaged while tenants come back, is imaged when they are there."""
    descent = place.situation.descent
    gaps = vault.index.gap_at(descent.parent) if descent is not None and not descent.finished else ()
    if gaps:
        whole = any(gap.relations is None for gap in gaps)
        numbers = {number for gap in gaps for number in gap.relations or ()}
        oids = None if whole else {r.oid for r in relations if r.number in numbers}
        reason = f"the record has a gap at the fork: {gaps[0].reason}"
        wish.leave(settings.state_dir, "image", place.timeline, reason, oids=oids, id=f"gap-at-fork-{place.timeline}")


def _refuse(found: Sequence[str], what: str) -> None:
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ProtectionError(
            f"Tenants still come back, and {what} are not what the record has: {'; '.join(found[:_SHOWN])}{more}.",
            "Somebody has written or changed tables before protection began. Let the recovery finish, then run the command"
            " again: it takes an image of what differs. (To need none, protect before tenants may write.)",
        )


def missed(
    place: Place, descent: Descent, relations: Sequence[Relation], imaged: dict[int, str] | None
) -> Iterator[Gap]:
    """What happened to the imaged tables between the fork and the slot is not in the record.

    On another server positions begin anew: what is missed there begins at its first."""
    if not imaged or not descent.finished:
        return
    begin = descent.parent.lsn if descent.how == "promoted" else 0
    numbers = None if len(imaged) == len(relations) else tuple(sorted(imaged))
    reason = f"the server was {descent.how}, and written to before it was protected"
    yield Gap(f"fork-{place.timeline}", place.timeline, min(begin, place.lsn), place.lsn, numbers, reason, now_iso())
