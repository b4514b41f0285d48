"""The table of docs/capture-integrity.md says which test shows each row, and on which PostgreSQL: it must be so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "capture-integrity.md").read_text(encoding="utf-8")
TABLE = PAGE.split("<!-- ways: begin -->")[1].split("<!-- ways: end -->")[0]
ROWS = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in TABLE.strip().splitlines()[2:]]
NAMED = re.compile(r"`([a-z0-9_]+)(…?)(?:\[\w+\])?`( \(18\))?")


def on_both() -> dict[str, bool]:
    """Every test of faults/blinding, without its article: whether it runs on 16 as well as on 18."""
    files = (ROOT / "tests" / "faults" / "blinding").glob("test_*.py")
    found = {}
    for test in (each for file in files for each in ast.parse(file.read_text(encoding="utf-8")).body):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            arguments = {argument.arg for argument in test.args.args}
            name = re.sub("^(a|an|the)_", "", test.name.removeprefix("test_"))
            found[name] = bool(arguments & {"pg", "major"})
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_way_names_its_test(row: list[str]) -> None:
    assert len(row) == 5, row
    named = NAMED.findall(row[-1])
    assert named, row
    tests = on_both()
    for name, shortened, only_18 in named:
        (both,) = [both for test, both in tests.items() if test == name or (shortened and test.startswith(name))]
        assert both is not bool(only_18), f"{name} runs on {'16 and 18' if both else '18 only'}"
