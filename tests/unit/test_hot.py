"""Row groups kept decoded give what the run itself gives, however often they are read and whatever had to go meanwhile."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ballast.vault import hot
from ballast.vault import run as runs
from ballast.vault.hot import HotGroups
from ballast.vault.run import Run, sort_rows
from tests.unit.test_run import Row, rows, stored, table_of

COLUMNS = ("tenant", "relation", "key", "lsn", "seq", "op", "schema", "row", "missing", "before_tenant")


def lines(tables: list[pa.Table]) -> list[dict[str, object]]:
    return [row for table in tables for row in table.select(COLUMNS).to_pylist()]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows,
    st.lists(st.tuples(st.integers(0, 99), st.sets(st.integers(1, 4)) | st.none()), min_size=1, max_size=8),
    st.sampled_from([0, 200, 1 << 20]),
)
def test_each_read_is_as_that_of_the_run(
    tmp_path: Path, made: list[Row], reads: list[tuple[int, set[int] | None]], most_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "GROUP_ROWS", 7)
        patch.setattr(hot, "_SHARE", 1)
        run = stored(tmp_path, sort_rows(table_of(made)))
    kept, names = HotGroups(most_bytes), [*run.tenants(), "nobody"]
    for which, relations in reads:
        tenants = {names[which % len(names)], names[which // 7 % len(names)]}
        found = list(kept.slices("run", run, tenants, relations, COLUMNS))
        assert lines(found) == lines(list(run.slices(tenants, relations, columns=COLUMNS)))


def test_a_group_that_is_read_again_is_not_read_from_the_store(tmp_path: Path) -> None:
    made: list[Row] = [(f"t{n:02}", 1, bytes([n]), 1, 1, "I", b"line") for n in range(20)]
    run = stored(tmp_path, sort_rows(table_of(made)))
    kept = HotGroups()
    for tenant in ("t01", "t02"):
        assert lines(list(kept.slices("run", run, {tenant}, None, COLUMNS)))
    (tmp_path / "run.parquet").unlink()
    found = lines(list(kept.slices("run", run, {"t07"}, None, COLUMNS)))
    assert [row["tenant"] for row in found] == ["t07"]


def test_more_than_may_be_kept_is_read_again(tmp_path: Path) -> None:
    made: list[Row] = [("t", 1, bytes([n]), 1, 1, "I", b"line" * 100) for n in range(20)]
    run: Run = stored(tmp_path, sort_rows(table_of(made)))
    kept = HotGroups(most_bytes=100)
    for _ in range(3):
        assert len(lines(list(kept.slices("run", run, {"t"}, None, COLUMNS)))) == 20
    (tmp_path / "run.parquet").unlink()
    with pytest.raises(Exception, match=r"run\.parquet"):
        list(kept.slices("run", run, {"t"}, None, COLUMNS))
