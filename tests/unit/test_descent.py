"""Where a server's history comes from, which of its tables go on, and what became of rows that a branch had: the rules."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.postgres.replication import Identity, Slot
from ballast.recovery.reconcile import LostRow, lost_rows, verdict
from ballast.vault import ancestry, wish
from ballast.vault.ancestry import Descent
from ballast.vault.baseline import Place
from ballast.vault.branches import base_of
from ballast.vault.carryover import carried
from ballast.vault.config import Config, Tenants
from ballast.vault.index import VaultIndex
from ballast.vault.inheritance import wish_for_later
from ballast.vault.marker import Marker
from ballast.vault.records import (
    Body,
    ByColumn,
    Cut,
    Entry,
    Gap,
    Genesis,
    Image,
    Numbering,
    ObjectRef,
    Relation,
    SchemaDump,
    SchemaVersion,
    Segment,
    Timeline,
    Via,
)
from ballast.vault.registry import Registry, relation_of
from ballast.vault.renumbering import numbering_of, renumbered
from ballast.vault.situation import Situation
from ballast.vault.tables import TableColumn, TableFacts, TableKey
from tests.unit.test_moment import NOON, Recorded
from tests.unit.world import World

NOTHING = ObjectRef("x", 1, "")


class Line:
    """An index with timeline 1 of a server `old`, recorded from 10 to 100."""

    def __init__(self) -> None:
        self.index = VaultIndex()
        self.add(Genesis(1, "v", "", 2, "test"))
        self.begin(1, "old", 10)
        self.add(Image(1, 10, 1, None, (), (), "first"))
        self.segment(1, 10, 100)

    def add(self, body: Body) -> None:
        self.index.apply(Entry(self.index.head + 1, "", NOON.isoformat(), "", body))

    def begin(
        self, number: int, server: str, start: int, parent: Cut | None = None, recovery: str | None = None
    ) -> None:
        fork = (parent.timeline, parent.lsn) if parent is not None else (None, None)
        self.add(Timeline(number, server, "shop", 180000, "slot", "pub", start, *fork, recovery))

    def segment(self, timeline: int, first: int, last: int) -> None:
        self.add(Segment(timeline, first, last, None, None, (), None, (), (), 0))


def server(name: str, timeline: int = 1) -> Identity:
    return Identity(name, timeline, 0, "shop")


MARKER = Marker("v", Cut(1, 60), "16384/16390", finished=False, left_out=True)


def test_a_marker_leads_to_a_new_timeline_once() -> None:
    line = Line()
    assert ancestry.recovered(line.index, MARKER, server("new")) == Descent(
        Cut(1, 60), "recovered", MARKER.recovery, finished=False
    )
    line.begin(2, "new", 5, Cut(1, 60), MARKER.recovery)
    assert ancestry.recovered(line.index, MARKER, server("new")) is None, "it has begun"
    # Promoted meanwhile, and protected again: the marker on its disk is still that of timeline 2.
    line.segment(2, 5, 50)
    line.begin(3, "new", 40, Cut(2, 40))
    assert ancestry.recovered(line.index, MARKER, server("new")) is None
    # Lost once more, and recovered into a third server as of the same cut.
    again = msgspec.structs.replace(MARKER, recovery="16384/16999")
    found = ancestry.recovered(line.index, again, server("third"))
    assert found is not None
    assert found.parent == Cut(1, 60)


@pytest.mark.parametrize(
    "marker",
    [
        None,
        msgspec.structs.replace(MARKER, vault_id="another"),
        msgspec.structs.replace(MARKER, cut=Cut(1, 101)),
        msgspec.structs.replace(MARKER, cut=Cut(1, 9)),
        msgspec.structs.replace(MARKER, cut=Cut(7, 60)),
    ],
)
def test_a_marker_that_leads_nowhere_is_no_descent(marker: Marker | None) -> None:
    assert ancestry.recovered(Line().index, marker, server("new")) is None


def test_a_promoted_server_goes_on_from_where_it_left() -> None:
    line = Line()
    assert ancestry.promoted(line.index, server("old"), 60) == Descent(Cut(1, 60), "promoted")
    assert ancestry.promoted(line.index, server("other"), 60) is None
    assert ancestry.promoted(line.index, server("old"), 0) is None, "nobody knows where"
    assert ancestry.promoted(line.index, server("old"), None) is None
    assert ancestry.promoted(line.index, server("old"), 5) is None, "before the record begins"
    # Promoted twice: the second standby may have been behind the first promotion.
    line.begin(2, "old", 60, Cut(1, 60))
    line.segment(2, 60, 90)
    assert ancestry.promoted(line.index, server("old"), 70) == Descent(Cut(2, 70), "promoted")
    assert ancestry.promoted(line.index, server("old"), 50) == Descent(Cut(1, 50), "promoted")


def test_where_a_branch_leaves_the_line_to_now() -> None:
    line = Line()
    line.begin(2, "new", 5, Cut(1, 60))
    line.segment(2, 5, 50)
    assert base_of(line.index, 1) == Cut(1, 60)
    assert base_of(line.index, 2) == Cut(2, 50)
    line.begin(3, "third", 7, Cut(1, 40))  # recovered anew, from further back
    assert base_of(line.index, 1) == Cut(1, 40)
    assert base_of(line.index, 2) == Cut(1, 40)
    line.begin(4, "stranger", 7)
    line.add(Image(4, 7, 1, None, (), (), "its own"))
    assert base_of(line.index, 2) is None, "nothing in common with now"


def test_the_dump_of_a_side_branch_is_not_that_of_now() -> None:
    line = Line()
    for version, lsn in ((1, 10), (2, 80)):
        line.add(SchemaVersion(version, 1, lsn, 0, NOTHING, "test"))
        line.add(SchemaDump(1, lsn + 5, version, NOTHING, NOTHING, NOTHING, 180000))
    line.begin(2, "new", 5, Cut(1, 60))
    line.add(SchemaVersion(3, 2, 5, 0, NOTHING, "test"))
    found = line.index.dump_at(Cut(2, 5))
    assert found is not None
    assert found.version == 1
    later = line.index.dump_at(Cut(1, 90))
    assert later is not None
    assert later.version == 2


def test_a_gap_of_the_parent_ends_with_images_of_its_tables_on_the_child() -> None:
    line = Line()
    line.add(Gap("g", 1, 50, None, (3, 4), "test", ""))
    line.begin(2, "new", 5, Cut(1, 60))
    assert line.index.gap_at(Cut(2, 5))
    line.add(Image(2, 5, 1, (3,), (), (), "test"))
    assert line.index.gap_at(Cut(2, 5)), "one of the two is not imaged"
    assert not line.index.gap_at(Cut(2, 5), relation=3)
    line.add(Image(2, 5, 1, (4,), (), (), "test"))
    assert not line.index.gap_at(Cut(2, 5))
    assert line.index.gap_at(Cut(1, 60)), "on the parent it lasts"


def test_the_earliest_moment_is_that_of_the_whole_line() -> None:
    line = Line()
    line.begin(2, "new", 5, Cut(1, 60))
    assert line.index.earliest(2) == Cut(1, 10)
    line.begin(3, "stranger", 7)
    assert line.index.earliest(3) is None


# Moments


def crossing(*, missed: bool) -> Recorded:
    """Commits at 2 and 4 s; promoted or recovered at 3 s, protected at 10 s, commits at 12 and 14 s."""
    vault = Recorded()
    vault.begin()
    vault.segment(10, 30, [(12, 2), (20, 4)])
    vault.add(Timeline(2, "t", "d", 180000, "slot", "pub", 5, 1, 18), NOON + timedelta(seconds=10))
    if missed:
        vault.add(Gap("fork-2", 2, 0, 5, None, "written to before it was protected", ""))
    vault.segment(5, 40, [(20, 12), (30, 14)], timeline=2)
    return vault


@pytest.mark.parametrize(
    ("at", "cut"),
    [("12:00:01.5Z", Cut(1, 12)), ("12:00:02.5Z", Cut(2, 20)), ("12:00:05Z", Cut(2, 20)), ("12:00:13Z", Cut(2, 30)),
     ("12:00:20Z", Cut(2, 40))],
)  # fmt: skip
def test_a_time_leads_over_the_fork(at: str, cut: Cut) -> None:
    found = crossing(missed=False).resolve(at, NOON)
    assert found.cut == cut
    assert found.exact


def test_a_moment_of_which_something_was_missed_is_not_exact() -> None:
    vault = crossing(missed=True)
    assert [bool(vault.resolve(f"12:00:{s:02}Z", NOON).gaps) for s in (2, 5, 9, 11, 13, 20)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert vault.resolve("2/0/14").exact
    assert vault.resolve("1/0/14").exact, "the lost branch can still be asked for"


# Tables


def table(oid: int, name: str, columns: list[tuple[int, str]], **kw: object) -> TableFacts:
    facts = TableFacts(
        oid=oid, schema="public", name=name, kind="r", persistence="p", is_partition=False, root_oid=oid,
        root_schema="public", root_name=name, replica_identity="d", identity_columns=(columns[0][0],),
        primary_key=(columns[0][0],), columns=tuple(TableColumn(n, c, "text", True) for n, c in columns),
    )  # fmt: skip
    return msgspec.structs.replace(facts, **kw)


def recorded(*relations: tuple[int, TableFacts]) -> list[Relation]:
    registry = Registry(Tenants(column="shop"))
    registry.read([facts for _, facts in relations], "test")
    return list(registry.relations)


PARENT = table(100, "item", [(2, "id"), (5, "shop")])
CHILD = table(101, "part", [(1, "id"), (3, "item")], foreign_keys=(TableKey("fk", (3,), 100, (2,)),))


def test_tables_made_anew_go_on_under_the_numbers_of_the_record() -> None:
    then = recorded((1, PARENT), (2, CHILD))
    here = [
        table(7, "item", [(1, "id"), (2, "shop")]),
        table(8, "part", [(1, "id"), (2, "item")], foreign_keys=(TableKey("fk", (2,), 7, (1,)),)),
    ]
    found = carried(then, here, Tenants(column="shop"), {1: 6, 2: 3}, same_server=False)
    assert found.otherwise == {}
    item, part = found.relations
    assert (item.number, item.oid, item.tenant) == (then[0].number, 7, ByColumn(5))
    assert item.numbering == Numbering(((1, 2), (2, 5)), 4)
    assert (part.oid, part.tenant) == (8, Via((3,), 7, (2,)))
    # What the server says from then on is understood in the record's numbers, new columns included.
    registry = Registry(Tenants(column="shop"), found.relations, highest=2)
    assert not registry.read(here, "again").changes_relations
    grown = msgspec.structs.replace(here[0], columns=(*here[0].columns, TableColumn(3, "colour", "text")))
    assert registry.read([grown, here[1]], "grown").altered == (item.number,)
    now = registry.by_oid(7)
    assert now is not None
    assert now.row_columns == (2, 5, 7), "6 was given once: it is never given again"
    assert now.key == (2,)


def test_tables_that_are_others_do_not_go_on() -> None:
    then = recorded((1, PARENT), (2, CHILD))
    here = [
        table(7, "item", [(1, "id"), (2, "shop"), (3, "more")]),
        table(9, "new", [(1, "id"), (2, "shop")]),
    ]
    found = carried(then, here, Tenants(column="shop"), {1: 6, 2: 3}, same_server=False)
    assert set(found.otherwise) == {"public.item", "public.new"}
    assert not found.relations, "columns that cannot be told apart begin anew"
    # On the promoted server itself the numbers are those of the record.
    same = [msgspec.structs.replace(PARENT, columns=(*PARENT.columns, TableColumn(6, "more", "text")))]
    promoted = carried(then, same, Tenants(column="shop"), {1: 5, 2: 3}, same_server=True)
    assert [r.number for r in promoted.relations] == [then[0].number]
    assert set(promoted.otherwise) == {"public.item"}


def test_another_tenant_rule_is_another_table() -> None:
    then = recorded((1, table(100, "item", [(1, "id"), (2, "shop"), (3, "owner")])))
    here = [table(7, "item", [(1, "id"), (2, "shop"), (3, "owner")])]
    same = carried(then, here, Tenants(column="shop"), {1: 3}, same_server=False)
    assert same.otherwise == {}
    other = carried(then, here, Tenants(column="owner"), {1: 3}, same_server=False)
    assert "other tenants" in other.otherwise["public.item"]


@given(st.sets(st.integers(1, 12), min_size=1), st.integers(0, 4), st.integers(1, 5))
def test_no_number_is_ever_given_twice(kept: set[int], dropped: int, added: int) -> None:
    names = [(n, f"c{n}") for n in sorted(kept)]
    relation = relation_of(table(100, "t", names), 1, ByColumn(min(kept)))
    highest = max(kept) + dropped
    anew = table(7, "t", [(i, name) for i, (_, name) in enumerate(names, 1)])
    numbering = numbering_of(relation, anew, highest)
    numberings = {7: numbering} if numbering is not None else {}
    grown = msgspec.structs.replace(
        anew, columns=(*anew.columns, *(TableColumn(len(kept) + i, f"new{i}", "text") for i in range(1, added + 1)))
    )
    columns = renumbered(grown, numberings).columns
    assert [c.attnum for c in columns[: len(kept)]] == sorted(kept)
    news = [c.attnum for c in columns[len(kept) :]]
    assert news == list(range(highest + 1, highest + added + 1))


# Rows of a branch

STATES = st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2"]))


@given(STATES, STATES, STATES)
def test_what_nobody_touched_becomes_what_the_branch_had(
    base: dict[bytes, bytes], tip: dict[bytes, bytes], here: dict[bytes, bytes]
) -> None:
    after = dict(here)
    for row in lost_rows(base, tip):
        if verdict(row, here.get(row.key)) == "put back":
            if row.after is None:
                del after[row.key]
            else:
                after[row.key] = row.after
    for key in base.keys() | tip.keys() | here.keys():
        touched_there, touched_here = base.get(key) != tip.get(key), base.get(key) != here.get(key)
        expected = tip.get(key) if touched_there and not touched_here else here.get(key)
        assert after.get(key) == expected
    again = [verdict(row, after.get(row.key)) for row in lost_rows(base, tip)]
    assert "put back" not in again, "done once, it is done"


@pytest.mark.parametrize(
    ("before", "after", "what"), [(None, b"1", "added"), (b"1", b"2", "changed"), (b"1", None, "removed")]
)
def test_conflicts_are_told_from_what_is_there(before: bytes | None, after: bytes | None, what: str) -> None:
    row = LostRow(b"k", before, after)
    assert row.what == what
    verdicts = {here: verdict(row, here) for here in (None, b"1", b"2", b"3")}
    assert verdicts[before] == "put back"
    assert verdicts[after] == "there already"
    assert all(v == "conflict" for here, v in verdicts.items() if here not in (before, after))


def test_a_gap_at_the_fork_is_imaged_when_everybody_is_back(tmp_path: Path) -> None:
    world = World(tmp_path, Random(1))
    world.transaction()
    world.seal()
    world.vault.append(Gap("g", 1, world.lsn - 1, None, (1,), "lost", ""))
    settings = Config(dsn="", vault="", state_dir=tmp_path / "recorder")
    for finished, expected in ((True, []), (False, [(2, "image", (world.relations[1].oid,))])):
        descent = Descent(Cut(1, world.lsn), "recovered", "16384/16390", finished=finished)
        situation = Situation("fork", timeline=1, until=world.lsn, descent=descent)
        place = Place(situation, server("new"), Slot("ballast", 5, None), 180000, ())
        wish_for_later(settings, world.vault, place, list(world.relations.values()))
        assert [(w.timeline, w.kind, w.oids) for w in wish.pending(settings.state_dir)] == expected
