"""Runs: sorted, read back alone by tenant, the same bytes for the same rows."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.errors import IntegrityError
from ballast.vault import run as runs
from ballast.vault.buckets import bucket_of
from ballast.vault.records import ObjectRef
from ballast.vault.run import RUN_SCHEMA, Run, RunWriter, open_run, sort_rows, write_run
from ballast.vault.store import open_store

Row = tuple[str | None, int, bytes, int, int, str, bytes]


def table_of(rows: list[Row]) -> pa.Table:
    tenants, relations, keys, lsns, seqs, ops, lines = zip(*rows, strict=True) if rows else ((),) * 7
    count = len(rows)
    return pa.table(
        {
            "tenant": pa.array(tenants, pa.string()),
            "relation": pa.array(relations, pa.int32()),
            "key": pa.array(keys, pa.large_binary()),
            "timeline": pa.array([1] * count, pa.int32()),
            "lsn": pa.array(lsns, pa.int64()),
            "seq": pa.array(seqs, pa.int64()),
            "op": pa.array(ops, pa.string()),
            "committed_at": pa.array([0] * count, pa.timestamp("us", "UTC")),
            "schema": pa.array([1] * count, pa.int32()),
            "row": pa.array(lines, pa.large_binary()),
            "missing": pa.array([None] * count, pa.list_(pa.int16())),
            "before_key": pa.array([None] * count, pa.large_binary()),
            "before_tenant": pa.array([None] * count, pa.string()),
        }
    )


def stored(folder: Path, table: pa.Table) -> Run:
    path = folder / "run.parquet"
    facts = write_run(path, table)
    return open_run(open_store(folder), facts.ref(ObjectRef(path.name, path.stat().st_size, ""), None))


def order(row: Row) -> tuple[object, ...]:
    tenant, relation, key, lsn, seq, op, _ = row
    return (tenant is not None, (tenant or "").encode(), relation, key, lsn, seq, op)


rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(max_size=3)),
        st.integers(1, 4),
        st.one_of(st.binary(max_size=12), st.sampled_from([b"aaaaaaaa", b"aaaaaaaab", b"aaaaaaaa\xff", b"aaaaaaa"])),
        st.integers(0, 5),
        st.integers(0, 3),
        st.sampled_from("IUD"),
        st.binary(max_size=9),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rows)
def test_the_order_is_tenant_relation_key_position(given_rows: list[Row]) -> None:
    in_order = sort_rows(runs.conform(table_of(given_rows)))
    wanted = sorted(given_rows, key=order)
    assert in_order.select(["tenant", "relation", "key", "lsn", "seq", "op", "row"]).to_pylist() == [
        dict(zip(("tenant", "relation", "key", "lsn", "seq", "op", "row"), row, strict=True)) for row in wanted
    ]


@settings(max_examples=30, deadline=None)
@given(rows, st.data())
def test_what_is_asked_for_is_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[Row], data: st.DataObject
) -> None:
    table = sort_rows(table_of(given_rows))
    run = stored(tmp_path_factory.mktemp("run"), table)
    known = st.sampled_from([row[0] for row in given_rows] or [None])
    tenants = data.draw(st.one_of(st.none(), st.sets(known)))
    relations = data.draw(st.one_of(st.none(), st.sets(st.integers(1, 4))))
    buckets = data.draw(st.one_of(st.none(), st.sets(st.integers(-1, 3))))
    read = [
        row
        for piece in run.slices(tenants, relations, buckets=buckets, bucket_count=4)
        for row in piece.select(RUN_SCHEMA.names).cast(RUN_SCHEMA).to_pylist()
    ]
    assert read == [
        row
        for row in table.to_pylist()
        if (tenants is None or row["tenant"] in tenants)
        and (relations is None or row["relation"] in relations)
        and (buckets is None or bucket_of(row["tenant"], 4) in buckets)
    ]
    assert run.tenants() == list(dict.fromkeys(table["tenant"].to_pylist()))


def many(count: int, tenants: int) -> pa.Table:
    dice = random.Random(7)
    return sort_rows(
        table_of(
            [
                (f"t{dice.randrange(tenants)}", 1, b"%d" % i, dice.randrange(9), 1, "I", b"%d\tvalue\n" % i)
                for i in range(count)
            ]
        )
    )


def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path: Path) -> None:
    table = many(50_000, 40)
    write_run(tmp_path / "whole", table)
    with RunWriter(tmp_path / "pieces") as writer:
        for start in range(0, table.num_rows, 1_234):
            writer.write(table.slice(start, 1_234))
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_one_tenant_touches_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = many(60_000, 100)
    run = stored(tmp_path, table)
    touched: set[int] = set()
    read = Run._read
    monkeypatch.setattr(Run, "_read", lambda self, i, columns: touched.add(i) or read(self, i, columns))
    for tenant in ("t0", "t50", "t99"):
        touched.clear()
        (piece,) = run.slices({tenant})
        assert set(piece["tenant"].to_pylist()) == {tenant}
        assert len(touched) <= 2
    touched.clear()
    assert list(run.slices({"u"})) == []
    assert not touched


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    table = many(100, 3)
    writer = RunWriter(tmp_path / "run")
    writer.write(table.slice(50))
    with pytest.raises(ValueError, match="in order"):
        writer.write(table.slice(0, 50))


def test_a_slice_is_one_buffer_of_copy_lines(tmp_path: Path) -> None:
    run = stored(tmp_path, many(5_000, 10))
    (piece,) = run.slices({"t3"}, columns=["row"])
    (lines,) = piece["row"].chunks
    _, offsets, data = lines.buffers()
    starts = memoryview(offsets).cast("q")[lines.offset : lines.offset + len(lines) + 1]
    assert bytes(memoryview(data)[starts[0] : starts[-1]]) == b"".join(lines.to_pylist())


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    table = many(5_000, 10)
    run = stored(tmp_path, table)
    path = tmp_path / "run.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        list(run.slices())


def test_batches_give_every_row_in_order(tmp_path: Path) -> None:
    table = many(40_000, 10)
    run = stored(tmp_path, table)
    read = pa.concat_tables(piece.cast(RUN_SCHEMA) for piece in run.batches(999))
    assert read.equals(runs.conform(table))
