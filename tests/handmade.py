"""A small whole vault written by hand: every kind of entry, rows of five tenants and shared ones, two buckets.

It stands for what the recorder, the imager and the merger write, so that what reads or checks a vault can be tested
without them. Table 1 (`shop.item`: tenant, id, text) has a key; table 2 (`shop.setting`) is shared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ballast.vault import signing
from ballast.vault.batch import Batch
from ballast.vault.buckets import bucket_of
from ballast.vault.records import (
    Abandoned,
    ByColumn,
    Column,
    Cut,
    Gap,
    Genesis,
    Image,
    Mapping,
    Merge,
    ObjectRef,
    Relation,
    RunRef,
    SchemaDump,
    SchemaVersion,
    Segment,
    SequenceState,
    Shared,
    Timeline,
)
from ballast.vault.run import RUN_SCHEMA, sort_rows, write_run
from ballast.vault.vault import Vault

BUCKETS = 2
START = 0x100
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANTS = ("ada", "bob", "cyd", "dee", "eve")
ITEM = Relation(
    1,
    16_001,
    "shop",
    "item",
    "shop",
    "item",
    (Column(1, "tenant", "text", True), Column(2, "id", "integer", True), Column(3, "label", "text")),
    (1, 2, 3),
    (1, 2),
    ByColumn(1),
)
SETTING = Relation(
    2,
    16_002,
    "shop",
    "setting",
    "shop",
    "setting",
    (Column(1, "name", "text", True), Column(2, "value", "text")),
    (1, 2),
    (1,),
    Shared(),
)


@dataclass
class HandmadeVault:
    """The vault, open for writing, and the rows that its history has led to."""

    vault: Vault
    state_dir: Path
    scratch: Path
    now: dict[tuple[int, str], tuple[str | None, str]] = field(default_factory=dict)
    """(relation, key) to (tenant, line)."""
    changes: list[dict[str, object]] = field(default_factory=list)
    """Every change so far, as rows of RUN_SCHEMA."""
    at: int = START

    def put(self, batch: Batch, rows: Iterable[dict[str, object]], bucket: int | None) -> tuple[RunRef, ...]:
        """Rows as a run (none, if there are no rows)."""
        table = table_of(list(rows))
        if not table.num_rows:
            return ()
        path = self.scratch / "run.parquet"
        facts = write_run(path, table)
        return (facts.ref(batch.put("run", "parquet", path), bucket),)

    def begin(self) -> None:
        """Timeline, schema, image, dump and mapping."""
        with self.batch("schema", START, START) as batch:
            relations = batch.put("relations", "json", msgspec.json.encode([ITEM, SETTING]))
            text = batch.put("dump", "sql", b"CREATE TABLE ...;\n")
            roles = batch.put("roles", "sql", b"CREATE ROLE app;\n")
            self.vault.append(Timeline(1, "7000", "shop", 180_004, "ballast", "ballast", START))
            self.vault.append(SchemaVersion(1, 1, START, 0, relations, "first"))
            self.vault.append(SchemaDump(1, START, 1, text, text, roles, 180_004))
            self.vault.append(Mapping(1, "tenant", {"shop.item": ByColumn(1), "shop.setting": Shared()}, text))
            batch.done()
        for tenant in TENANTS:
            for number in range(8):
                self.set_item(tenant, number, "first")
        self.set_setting("colour", "blue")
        self.changes.clear()
        self.at = START
        self.image()

    def batch(self, kind: str, first: int, last: int) -> Batch:
        """A batch of this vault."""
        return Batch(self.vault.store, self.state_dir, kind, 1, first, last)

    def image(self) -> None:
        """Whole rows of everything, as they are now, a run for each bucket."""
        with self.batch("image", self.at, self.at) as batch:
            runs = tuple(
                ref for bucket in range(-1, BUCKETS) for ref in self.put(batch, self.whole_rows(bucket), bucket)
            )
            sequences = (SequenceState("shop", "item_id_seq", 8, True),)
            self.vault.append(Image(1, self.at, 1, None, runs, sequences, "first"))
            batch.done()

    def whole_rows(self, bucket: int) -> list[dict[str, object]]:
        """The rows of a bucket as of now."""
        return [
            row_of(relation, key, tenant, line, "I", self.at, 0)
            for (relation, key), (tenant, line) in self.now.items()
            if bucket_of(tenant, BUCKETS) == bucket
        ]

    def set_item(self, tenant: str, number: int, label: str) -> None:
        """One commit that inserts or updates an item."""
        key = f"{tenant}\t{number}"
        op = "U" if (1, key) in self.now else "I"
        self._commit(1, key, tenant, f"{key}\t{label}\n", op)

    def delete_item(self, tenant: str, number: int) -> None:
        """One commit that deletes an item."""
        self._commit(1, f"{tenant}\t{number}", tenant, "", "D")

    def set_setting(self, name: str, value: str) -> None:
        """One commit to the shared table."""
        self._commit(2, name, None, f"{name}\t{value}\n", "U" if (2, name) in self.now else "I")

    def _commit(self, relation: int, key: str, tenant: str | None, line: str, op: str) -> None:
        if op == "D":
            del self.now[relation, key]
        else:
            self.now[relation, key] = (tenant, line)
        self.changes.append(row_of(relation, key, tenant, line, op, self.at, 1))
        self.at += 8

    def segment(self) -> Segment:
        """Seal the commits since the last segment."""
        first = max((s.last_lsn for s in self.vault.index.segments), default=self.vault.index.images[0].lsn)
        rows = [row for row in self.changes if first <= row["lsn"]]  # type: ignore[operator]
        with self.batch("segment", first, self.at) as batch:
            transactions = pa.table(
                {
                    "lsn": pa.array([r["lsn"] for r in rows], pa.int64()),
                    "end_lsn": pa.array([r["lsn"] + 8 for r in rows], pa.int64()),  # type: ignore[operator]
                    "xid": pa.array([700 + n for n in range(len(rows))], pa.int64()),
                    "committed_at": pa.array([r["committed_at"] for r in rows], pa.timestamp("us", "UTC")),
                    "changes": pa.array([1] * len(rows), pa.int64()),
                    "actor": pa.array([None] * len(rows), pa.string()),
                    "tag": pa.array([None] * len(rows), pa.string()),
                }
            )
            pq.write_table(transactions, self.scratch / "transactions.parquet")
            segment = Segment(
                1,
                first,
                self.at,
                moment_of(first).isoformat(),
                max(r["committed_at"] for r in rows).isoformat() if rows else None,  # type: ignore[type-var]
                self.put(batch, rows, None),
                batch.put("transactions", "parquet", self.scratch / "transactions.parquet"),
                (),
                (),
                len(rows),
            )
            self.vault.append(segment)
            batch.done()
        return segment

    def merge_changes(self, bucket: int, first: int, last: int) -> None:
        """Gather the changes of a bucket."""
        rows = [
            row
            for row in self.changes
            if first <= row["lsn"] < last and bucket_of(row["tenant"], BUCKETS) == bucket  # type: ignore[operator,arg-type]
        ]
        with self.batch("merge", first, last) as batch:
            self.vault.append(Merge(1, "changes", (bucket,), 1, first, last, 1, self.put(batch, rows, bucket)))
            batch.done()

    def merge_image(self, bucket: int) -> None:
        """Gather the whole rows of a bucket as they are now."""
        with self.batch("merge", self.at, self.at) as batch:
            runs = self.put(batch, self.whole_rows(bucket), bucket)
            self.vault.append(Merge(1, "image", (bucket,), 2, self.at, self.at, 1, runs))
            batch.done()

    def abandon(self, content: bytes = b"left behind") -> ObjectRef:
        """An object that an interrupted writer left."""
        with self.batch("segment", self.at, self.at) as batch:
            ref = batch.put("run", "parquet", content)
            self.vault.append(Abandoned((ref,)))
            batch.done()
        return ref


def row_of(relation: int, key: str, tenant: str | None, line: str, op: str, lsn: int, seq: int) -> dict[str, object]:
    """A row of RUN_SCHEMA."""
    return {
        "tenant": tenant,
        "relation": relation,
        "key": key.encode(),
        "timeline": 1,
        "lsn": lsn,
        "seq": seq,
        "op": op,
        "committed_at": moment_of(lsn),
        "schema": 1,
        "row": line.encode(),
        "missing": None,
        "before_key": None,
        "before_tenant": None,
    }


def moment_of(lsn: int) -> datetime:
    """When the commit at `lsn` was: a second for each from noon."""
    return NOON + timedelta(seconds=(lsn - START) // 8)


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    """Rows in order, as `write_run` wants them."""
    plain = pa.schema([f if f.name != "op" else pa.field("op", pa.string()) for f in RUN_SCHEMA])
    return sort_rows(pa.Table.from_pylist(rows, schema=plain))


def make(url: str, folder: Path) -> HandmadeVault:
    """The vault at `url`: an image, three segments, merges of both kinds, a gap that was closed, an abandoned object."""
    state, scratch = folder / "state", folder / "scratch"
    scratch.mkdir(parents=True)
    key = signing.create_key(state / signing.KEY_FILE)
    vault = Vault.create(url, Genesis(1, "vault-1", key.public, BUCKETS, "test"), state_dir=state)
    made = HandmadeVault(vault, state, scratch)
    made.begin()
    segments = []
    for label in ("second", "third", "fourth"):
        for tenant in TENANTS:
            made.set_item(tenant, 0, label)
            made.set_item(tenant, 100 + made.at, label)
        made.delete_item("ada", {"second": 1, "third": 2, "fourth": 3}[label])
        made.set_setting("colour", label)
        segments.append(made.segment())
        if label == "third":
            for bucket in range(-1, BUCKETS):
                made.merge_changes(bucket, segments[0].first_lsn, segments[1].last_lsn)
                made.merge_image(bucket)
    vault.append(Gap("gap-1", 1, segments[1].first_lsn, segments[1].last_lsn, (2,), "test", NOON.isoformat()))
    made.abandon()
    return made


def newest(made: HandmadeVault) -> Cut:
    """The last cut of the handmade vault."""
    return Cut(1, made.at)
