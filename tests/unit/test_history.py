"""A row's history says at every cut what a dictionary, changed op by op, held there; and keys as people write them."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from ballast.errors import ConfigError
from ballast.vault.history import History, history
from ballast.vault.records import ByColumn, Column, Cut, Relation
from ballast.vault.rowkey import as_stored, key_in, split
from ballast.vault.story import RowVersion, fields_of, key_numbers, text
from tests.unit.test_fold import live
from tests.unit.world import World


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


Wanted = tuple[str | None, tuple[str, ...]]
Row = dict[str, str | None]


def rows_at(world: World, cut: Cut, number: int, key: tuple[int, ...]) -> dict[Wanted, Row]:
    """The rows of a table as of a cut by tenant and key."""
    form, lines = world.states[cut][number]
    names = {column.attnum: column.name for column in form.columns}
    found: dict[Wanted, Row] = {}
    for tenant, line in lines:
        fields = {attnum: text(field or b"") for attnum, field in fields_of(line, form).items()}
        named = tuple(fields[attnum] for attnum in key)
        if None not in named:
            found[tenant, named] = {names[attnum]: value for attnum, value in fields.items()}  # type: ignore[index]
    return found


def told_at(said: History, cut: Cut, tenant: str | None, key: Row) -> Row | None:
    """What a history says that the row was at a cut."""
    told = None
    for version in said.versions:
        before_cut = (version.timeline, version.lsn + (version.what not in ("image", "absent"))) <= (
            cut.timeline,
            cut.lsn,
        )
        if version.tenant == tenant and before_cut:
            if version.values is not None and key.items() <= version.values.items():
                told = version.values
            elif key.items() <= former(version).items():
                told = None
    return told


def former(version: RowVersion) -> Row:
    """The row that this version changed or ended."""
    before = {c.column: c.before for c in version.changed if c.before is not UNSET}
    return {**version.key, **(version.values or {}), **before}  # type: ignore[dict-item]


def check(world: World) -> int:
    """Holds each row's history against every state since its table has the key that it has now; how many."""
    until = Cut(world.timeline, world.vault.index.recorded_until(world.timeline))
    ends = {part.timeline: part.to_lsn for part in world.vault.index.chain(until)}
    cuts = sorted(cut for cut in world.cuts() if cut.lsn <= ends.get(cut.timeline, -1))
    checked = 0
    for number, form in world.vault.relations_at(until).items():
        keyed_so = [cut for cut in cuts if set(world.states[cut][number][0].key) == set(form.key)]
        if not form.key:
            with pytest.raises(ConfigError, match="has no key"):
                history(world.vault, form.name, ["1"], tenant="a")
            continue
        for cut in reversed(cuts):
            if cut not in keyed_so:
                keyed_so = [later for later in keyed_so if later > cut]
                break
        everybody = {wanted for cut in keyed_so for wanted in rows_at(world, cut, number, form.key)}
        for tenant, key in sorted(everybody, key=str):
            said = history(world.vault, form.qualified, key, tenant=tenant)
            assert [(v.timeline, v.lsn, v.seq) for v in said.versions] == sorted(
                (v.timeline, v.lsn, v.seq) for v in said.versions
            )
            for cut in keyed_so:
                wanted = rows_at(world, cut, number, form.key).get((tenant, key))
                names = {c.name for c in world.states[cut][number][0].columns}
                told = told_at(said, cut, tenant, dict(zip((f"c{a}" for a in form.key), key, strict=True)))
                if told is not None and wanted is not None:
                    # A version is told in the columns of its time: those that came or went since are the table's affair.
                    told = {name: value for name, value in told.items() if name in names}
                    wanted = {name: value for name, value in wanted.items() if name in told}
                assert told == wanted, (number, tenant, key, cut)
                checked += 1
    return checked


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(dice=st.randoms(use_true_random=False))
def test_a_history_agrees_with_every_state(tmp_path_factory: pytest.TempPathFactory, dice: Random) -> None:
    world = World(tmp_path_factory.mktemp("world"), dice)
    live(world, 25)
    world.seal()
    check(world)


@pytest.mark.parametrize("seed", range(12))
def test_histories_of_long_lives(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, Random(seed))
    live(world, 60)
    world.seal()
    check(world)


def form(*key: str) -> Relation:
    columns = (
        Column(1, "shop", "text", True),
        Column(2, "id", "bigint", True),
        Column(3, "at", "timestamp with time zone", True),
        Column(4, "name", "text", True),
    )
    attnums = tuple(next(c.attnum for c in columns if c.name == name) for name in key)
    return Relation(1, 1, "public", "t", "public", "t", columns, (1, 2, 3, 4), attnums, ByColumn(1))


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("1,2", ["1", "2"]),
        ("", [""]),
        (",", ["", ""]),
        (r"a\,b,c", ["a,b", "c"]),
        (r"a\\,c", ["a\\", "c"]),
        (r"C:\dir", [r"C:\dir"]),
    ],
)
def test_several_values_in_one_argument(argument: str, values: list[str]) -> None:
    assert split(argument) == values


def test_one_column_takes_the_argument_as_it_is() -> None:
    assert key_in(form("name"), ["Smith, John"], "lin").value == b"Smith, John"


def test_the_tenant_may_be_left_out_of_the_key() -> None:
    assert key_in(form("shop", "id"), ["7"], "lin").value == b"lin\t7"
    assert key_in(form("id", "shop"), ["7"], "lin").value == b"7\tlin"
    assert key_in(form("shop", "id"), ["lin", "7"], "lin").value == b"lin\t7"
    assert key_in(form("shop", "id"), ["lin,7"], "lin").value == b"lin\t7"
    with pytest.raises(ConfigError, match=r"named by \(shop, id\), and 3 values are given"):
        key_in(form("shop", "id"), ["a,b,c"], "lin")


def test_values_are_spelled_as_the_vault_has_them() -> None:
    assert as_stored(" 007", "bigint") == "7"
    assert as_stored("007", "text") == "007"
    assert as_stored("6F9619FF-8B86-D011-B42D-00C04FC964FF", "uuid") == "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    assert as_stored("2026-03-01 18:55:00.120+08", "timestamp with time zone") == "2026-03-01 10:55:00.12+00"
    assert as_stored("infinity", "timestamp with time zone") == "infinity"
    assert key_in(form("name"), ["a\tb"], None).value == rb"a\tb"
    assert key_numbers(form("id", "shop")) == (2, 1)
