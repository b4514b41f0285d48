"""Options that change: which SKU stays which, in all histories that hypothesis thinks of."""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.mall.rules import specs
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Had, Spec, SpecValue

_IDS = UUID(int=7)


def _spec(name: str, *values: str) -> Spec:
    option = specs.option_id(name, [])
    made: list[SpecValue] = []
    for value in values:
        made.append(SpecValue(specs.value_id(option, value, [one.id for one in made]), value))
    return Spec(option, name, "", tuple(made))


def _had(arranged: specs.Arranged, had: tuple[Had, ...]) -> tuple[Had, ...]:
    """The SKUs after what `arranged` says was written."""
    now = {one.sku_id: one for one in had}
    for stays in arranged.stays:
        now[stays.sku_id] = Had(stays.sku_id, stays.options, stays.active)
    for sku_id in (*arranged.retired, *arranged.aside):
        now[sku_id] = Had(sku_id, arranged.aside.get(sku_id, now[sku_id].options), False)
    for options, _ in arranged.added:
        sku_id = uuid5(_IDS, f"{len(now)}")
        now[sku_id] = Had(sku_id, options, True)
    return tuple(now.values())


def _change(before: tuple[Spec, ...], now: tuple[Spec, ...], had: tuple[Had, ...]) -> tuple[Had, ...]:
    return _had(specs.arrange(before, now, had), had)


def _offered(had: tuple[Had, ...]) -> dict[tuple[str, ...], UUID]:
    return {one.options: one.sku_id for one in had if one.active}


def test_a_value_that_goes_and_comes_back_brings_its_sku() -> None:
    both, one = (_spec("颜色", "红", "蓝"),), (_spec("颜色", "红"),)
    had = _change((), both, ())
    first = _offered(had)
    had = _change(both, one, had)
    assert _offered(had) == {("红",): first[("红",)]}
    had = _change(one, both, had)
    assert _offered(had) == first
    assert len(had) == 2


def test_renaming_keeps_the_sku_even_where_two_names_change_places() -> None:
    before = (_spec("颜色", "红", "蓝"),)
    had = _change((), before, ())
    first = _offered(had)
    values = before[0].values
    swapped = msgspec.structs.replace(before[0], values=(SpecValue(values[0].id, "蓝"), SpecValue(values[1].id, "红")))
    assert _offered(_change(before, (swapped,), had)) == {("蓝",): first[("红",)], ("红",): first[("蓝",)]}


def test_a_new_option_gives_its_first_value_to_what_is_there() -> None:
    colour, size = _spec("颜色", "红", "蓝"), _spec("尺码", "S", "M")
    had = _change((), (colour,), ())
    first = _offered(had)
    wide = _change((colour,), (colour, size), had)
    assert _offered(wide)[("红", "S")] == first[("红",)]
    assert len(_offered(wide)) == 4


def test_what_was_taken_off_by_hand_stays_off() -> None:
    before = (_spec("颜色", "红", "蓝"),)
    had = tuple(msgspec.structs.replace(one, active=one.options != ("蓝",)) for one in _change((), before, ()))
    after = _change(before, (_spec("颜色", "红", "蓝", "绿"),), had)
    assert set(_offered(after)) == {("红",), ("绿",)}


def test_a_name_that_was_given_away_belongs_to_whom_it_was_given() -> None:
    """Blue goes, red is renamed blue: the old blue's SKU gives way, and nothing has two SKUs."""
    before = (_spec("颜色", "红", "蓝"),)
    had = _change((), before, ())
    red = _offered(had)[("红",)]
    had = _change(before, (_spec("颜色", "红"),), had)
    renamed = (msgspec.structs.replace(before[0], values=(SpecValue(before[0].values[0].id, "蓝"),)),)
    had = _change((_spec("颜色", "红"),), renamed, had)
    assert _offered(had) == {("蓝",): red}
    assert len({one.options for one in had}) == len(had)


_names = st.sampled_from(["红", "蓝", "绿", "S", "M"])
_matrices = st.lists(
    st.tuples(st.sampled_from(["颜色", "尺码", "款式"]), st.lists(_names, min_size=1, max_size=3, unique=True)),
    max_size=3,
    unique_by=lambda one: one[0],
).map(lambda found: tuple(_spec(name, *values) for name, values in found))


@settings(max_examples=200)
@given(st.lists(_matrices, min_size=1, max_size=5), st.data())
def test_after_any_history_exactly_the_matrix_is_there_and_no_text_twice(
    history: list[tuple[Spec, ...]], data: st.DataObject
) -> None:
    before: tuple[Spec, ...] = ()
    had: tuple[Had, ...] = ()
    for now in history:
        if before and data.draw(st.booleans()):
            now = _renamed(before, data)
        was = {one.sku_id for one in had}
        had = _change(before, now, had)
        assert was <= {one.sku_id for one in had}, "no SKU may vanish"
        assert len({one.options for one in had}) == len(had), "the table has each text once"
        assert set(_offered(had)) == set(specs.texts(now))
        before = specs.read(specs.written(now))
        assert before == now


def _renamed(before: tuple[Spec, ...], data: st.DataObject) -> tuple[Spec, ...]:
    found = []
    for spec in before:
        names = data.draw(st.lists(_names, min_size=len(spec.values), max_size=len(spec.values), unique=True))
        found.append(
            msgspec.structs.replace(
                spec, values=tuple(SpecValue(v.id, n) for v, n in zip(spec.values, names, strict=True))
            )
        )
    return tuple(found)


def test_options_of_older_data_have_ids_that_follow_from_their_names() -> None:
    read = specs.read(
        '[{"name":"规格","name_en":"Size","values":[{"value":"V0","value_en":"V0"},{"value":"V1","value_en":"V1"}]}]'
    )
    assert read == specs.read(specs.written(read))
    assert read[0].values[0].id == _spec("规格", "V0").values[0].id


def test_too_much_is_refused() -> None:
    with pytest.raises(Refused):
        specs.check([_spec("a", *[f"{n}" for n in range(700)])])
    with pytest.raises(Refused):
        specs.check([_spec("a", "x", "X")])
