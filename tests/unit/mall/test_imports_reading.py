"""Files as they come: encodings, quotation marks that are never closed, lines of another width; and which lines belong together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.mall.imports import values
from ballast.mall.imports.columns import COLUMNS
from ballast.mall.imports.grouping import groups
from ballast.mall.imports.reading import Line, UnreadableFile, encoding_of, lines
from ballast.mall.rules.refused import Refused

HEAD = "shop,order,placed_at,status,product_name,price_yuan,quantity\n"
GOOD = "lin,E{n},2025-01-01,closed,茶,1.00,1\n"
Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(data: bytes) -> Path:
        path = tmp_path / "orders.csv"
        path.write_bytes(data)
        return path

    return make


def _read(path: Path) -> list[Line]:
    return list(lines(path, "orders"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_the_encoding_is_recognised(write: Write, encoding: str) -> None:
    path = write((HEAD + GOOD.format(n=1)).encode(encoding))
    assert [line.cells["product_name"] for line in _read(path)] == ["茶"]
    assert [line.number for line in _read(path)] == [2]


def test_a_broken_line_does_not_change_the_encoding_of_the_others(write: Write) -> None:
    good = GOOD.format(n=1).encode()
    path = write(HEAD.encode() + good + good.replace("茶".encode(), b"\xff\xfe") + good)
    assert encoding_of(path) == "utf-8-sig"
    found = _read(path)
    assert [line.wrong == "" for line in found] == [True, False, True]
    assert "Line 3" in found[1].wrong


def test_a_file_of_utf_16_is_refused_with_what_to_do(write: Write) -> None:
    with pytest.raises(UnreadableFile, match="CSV UTF-8"):
        _read(write(HEAD.encode("utf-16")))


def test_a_quotation_mark_that_is_never_closed_costs_its_own_part_of_the_file_alone(write: Write) -> None:
    bad = 'lin,"E0,2025-01-01,closed,x,1.00,1\n'
    text = HEAD + GOOD.format(n=1) + bad + "".join(GOOD.format(n=n) for n in range(2, 4000))
    found = _read(write(text.encode()))
    assert found[0].cells["order"] == "E1"
    assert "is not closed" in found[1].wrong
    assert found[1].number == 3
    # From there on it is read again, to the end.
    assert found[-1].cells["order"] == "E3999"
    assert found[-1].number == 4001
    assert 1990 < len(found) < 2010


def test_cells_may_hold_lines_and_commas(write: Write) -> None:
    path = write((HEAD + 'lin,E1,2025-01-01,closed,"茶,\r\n两行",1.00,1\r\n' + GOOD.format(n=2)).encode())
    found = _read(path)
    assert found[0].cells["product_name"] == "茶,\r\n两行"
    assert [line.number for line in found] == [2, 4]


def test_a_line_of_another_width_is_bad(write: Write) -> None:
    path = write((HEAD + "lin,E1,2025-01-01,closed,a,b,1.00,1\n" + GOOD.format(n=2) + ",,,,,,\n\n").encode())
    assert [bool(line.wrong) for line in _read(path)] == [True, False]


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ("", "empty"),
        ("shop,order\n", "placed_at"),
        (HEAD.replace("shop", "shop,shop"), "twice"),
        (HEAD.replace("shop", "shop,wat"), "wat"),
    ],
)
def test_a_first_line_that_is_none_is_refused(write: Write, head: str, word: str) -> None:
    with pytest.raises(UnreadableFile, match=word):
        _read(write(head.encode()))


def _line(number: int, code: str, wrong: str = "") -> Line:
    return Line(number, {"shop": "lin", "order": code}, wrong)


def test_lines_of_an_order_are_together_and_one_bad_line_is_of_them_all() -> None:
    found = list(groups(iter([_line(2, "A"), _line(3, "A", "x"), _line(4, "B"), _line(5, "A")]), "orders"))
    assert [(group.code, group.numbers, group.wrong) for group in found] == [
        ("A", [2, 3], (3, "x")),
        ("B", [4], None),
        ("A", [5], None),
    ]


def test_neither_neighbour_of_a_line_without_a_name_is_taken() -> None:
    found = list(groups(iter([_line(2, "A"), _line(3, "B"), Line(4, {}, "x"), _line(5, "C"), _line(6, "D")]), "orders"))
    assert [bool(group.wrong) for group in found] == [False, True, True, True, False]


def test_an_order_without_end_is_refused_and_not_held() -> None:
    found = list(groups((_line(n, "A") for n in range(2, 5000)), "orders"))
    assert [len(group.lines) for group in found] == [600]
    assert found[0].wrong is not None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-04-02 20:15:08", datetime(2025, 4, 2, 12, 15, 8, tzinfo=UTC)),
        ("2025/4/2 8:05", datetime(2025, 4, 2, 0, 5, tzinfo=UTC)),
        ("2025-04-02", datetime(2025, 4, 1, 16, tzinfo=UTC)),
        ("2025-04-02T20:15:08+02:00", datetime(2025, 4, 2, 18, 15, 8, tzinfo=UTC)),
        ("2025-04-02T20:15:08Z", datetime(2025, 4, 2, 20, 15, 8, tzinfo=UTC)),
    ],
)
def test_moments_are_of_china_unless_they_say_otherwise(written: str, meant: datetime) -> None:
    assert values.moment({"at": written}, "at", None) == meant


@pytest.mark.parametrize(
    "written", ["yesterday", "2025-13-01", "2025/2/30", "1999-01-01", "0001-01-01", "9999-12-31T23:59:59-12:00"]
)
def test_what_is_no_moment_is_refused(written: str) -> None:
    with pytest.raises(Refused):
        values.moment({"at": written}, "at", datetime(2026, 1, 1, tzinfo=UTC))


def test_every_example_can_be_read_and_every_name_is_known_once() -> None:
    for columns in COLUMNS.values():
        for names in ([one.name for one in columns], [one.zh for one in columns]):
            assert len(set(names)) == len(names)


def test_the_documentation_names_every_column() -> None:
    page = (Path(__file__).parents[3] / "docs" / "import.md").read_text(encoding="utf-8")
    for kind, columns in COLUMNS.items():
        section = page.split(f"\n## {kind}.csv")[1].split("\n## ")[0]
        for one in columns:
            assert f"| `{one.name}`" in section, (kind, one.name)
            assert one.zh in section, (kind, one.zh)
