"""Many runs in which somebody kills: which are to be run, what is said of each, and that what has run is not run again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ballast.demo import kills
from ballast.demo.kills import Runs, Verdict, arguments, judge, line, play
from ballast.demo.report import document
from ballast.demo.report.document import Document
from tests.unit.demo.replayed import a_replay, changed_end

KEPT = msgspec.json.decode(document.of(a_replay()), type=Document)


def test_each_way_of_the_engineer_has_its_turn() -> None:
    said = [arguments(seed) for seed in (1, 2, 3)]
    assert {one[one.index("--how") + 1] for one in said} == {"rows", "files", "both"}
    assert arguments(4)[:-1] == said[0][:-1]


def test_a_run_that_broke_something_or_did_not_end_is_told() -> None:
    assert judge(1, 0, KEPT, 60.0).failed == ()
    lost = msgspec.json.decode(document.of(changed_end(a_replay(), orders=a_replay().end.orders[1:])), type=Document)  # type: ignore[union-attr]
    broken = judge(1, 1, lost, 60.0)
    assert broken.failed == ("lost",)
    assert "BROKEN lost" in line(broken)
    assert judge(1, 2, None, 3.0).failed == ("ended with 2",)
    assert judge(1, None, None, 900.0).failed
    assert judge(1, -11, KEPT, 60.0).failed == ("ended with -11",)


def test_what_this_code_has_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def run(runs: Runs, seed: int) -> Verdict:
        done.append(seed)
        return judge(seed, 0, KEPT, 1.0)

    monkeypatch.setattr(kills.Runs, "run", run)
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("ONE = 1")
    monkeypatch.setattr(kills, "_PACKAGE", package)
    Runs(tmp_path).keep(judge(2, 1, None, 5.0))
    verdicts = play(Runs(tmp_path), (1, 2, 3), 2)
    assert sorted(done) == [1, 3]
    assert {one.seed for one in verdicts if one.failed} == {2}
    (package / "a.py").write_text("ONE = 2")
    play(Runs(tmp_path), (2,), 1)
    assert sorted(done) == [1, 2, 3]
