"""The records of the vault: every structure that is written into it, and nothing that does I/O.

`docs/vault-format.md` says the same in prose, for readers without Ballast; change both together.
All of it is JSON by msgspec: field names here are field names there.

Positions. A transaction stands in the history at its **commit LSN** (`final_lsn` of pgoutput's Begin, the first
LSN of its Commit), and its n-th change at sequence n, counted from 1. A **cut** is an LSN between commits: a row
version belongs to the state at a cut exactly when its `lsn < cut` (on the same timeline). The Commit's `end_lsn`, a slot's
consistent point and a snapshot exported with it are cuts; so is what PostgreSQL calls the flush position.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

FORMAT_VERSION = 1


class Op(StrEnum):
    """What a row version in a run says of its key."""

    INSERT = "I"
    """The row is here from now on (also: every row of an image)."""
    UPDATE = "U"
    """The row at this key is now this whole row."""
    PATCH = "P"
    """As UPDATE, but the columns in `missing` (attnums) stand as `\\N` in `row` and keep the value they had."""
    DELETE = "D"
    """No row at this key from now on (without a key: one row equal to `key` less)."""


class Cut(msgspec.Struct, frozen=True, order=True):
    """A boundary between commits: everything on `timeline` with commit LSN < `lsn` is before it."""

    timeline: int
    lsn: int


class Column(msgspec.Struct, frozen=True):
    """A column as rows carry it. `attnum` is its identity: it survives a rename and is not reused."""

    attnum: int
    name: str
    type: str
    """As format_type() prints it, e.g. `numeric(12,2)`."""
    not_null: bool = False
    generated: bool = False
    """Generated columns are listed but never in `row_columns`: their values are not in the stream."""
    identity: str = ""
    default: str | None = None
    has_missing: bool = False
    missing: str | None = None
    """With `has_missing`: the text value that rows older than this column have (attmissingval); None is null."""


class ByColumn(msgspec.Struct, frozen=True, tag="column"):
    """Tenant = the text of this column; null there means the row belongs to nobody and is kept as shared."""

    attnum: int


class Via(msgspec.Struct, frozen=True, tag="via"):
    """Tenant = the tenant of the row of `parent` (oid) whose `parent_columns` equal this row's `columns` (attnums)."""

    columns: tuple[int, ...]
    parent: int
    parent_columns: tuple[int, ...]


class Shared(msgspec.Struct, frozen=True, tag="shared"):
    """Rows of all tenants together (tenant null). `declared` False: nobody said so, the mapping had no other answer."""

    declared: bool = True


TenantRule = ByColumn | Via | Shared


class Numbering(msgspec.Struct, frozen=True):
    """How a server numbers the columns of a table that the record numbers otherwise (see `renumbering.py`)."""

    pairs: tuple[tuple[int, int], ...]
    """(attnum on the server, attnum in the record) of the columns that there were at the fork."""
    beyond: int
    """To be added to the server's attnum of every other column."""

    def of(self, attnum: int) -> int:
        """The record's number of the server's column `attnum`."""
        return dict(self.pairs).get(attnum, attnum + self.beyond)


class Relation(msgspec.Struct, frozen=True):
    """One table (for partitioned tables: one leaf) from one schema version on, until the next that redefines it."""

    number: int
    """Stable for the life of the table in this vault; a table created later under the same name has another."""
    oid: int
    schema: str
    name: str
    root_schema: str
    root_name: str
    """Topmost partitioned ancestor's name, or the own name."""
    columns: tuple[Column, ...]
    row_columns: tuple[int, ...]
    """attnums in the order in which `row` holds them."""
    key: tuple[int, ...]
    """attnums of the identity in `key`, in this order; empty: no key, the table is a multiset and `key` is the whole row."""
    tenant: TenantRule
    root_oid: int = 0
    """oid of the topmost partitioned ancestor, which `Via.parent` names for all its leaves; 0: no partition."""
    root_attnums: tuple[int, ...] = ()
    """For a leaf: the ancestor's attnum of each of `columns`, in their order (they differ once columns were dropped)."""
    numbering: Numbering | None = None
    """On a server that was made anew from the record: what its own attnums are. None: those of the record."""

    @property
    def qualified(self) -> str:
        """`schema.name`, unquoted, for people."""
        return f"{self.schema}.{self.name}"


class SequenceState(msgspec.Struct, frozen=True):
    """A sequence's value as seen at a position."""

    schema: str
    name: str
    last_value: int
    is_called: bool
    increment: int = 1
    cache: int = 1


class ObjectRef(msgspec.Struct, frozen=True):
    """An object of the store, as the ledger vouches for it."""

    name: str
    bytes: int
    sha256: str


class RunRef(msgspec.Struct, frozen=True):
    """A run: one Parquet file sorted by (tenant, relation, key, lsn, seq); nulls (shared) first."""

    object: ObjectRef
    rows: int
    bucket: int | None
    """Tenant bucket that all rows belong to (`SHARED_BUCKET` for shared rows); None: rows of many buckets."""
    min_tenant: str | None
    max_tenant: str | None
    """Smallest and largest tenant by bytes of UTF-8; None where the smallest (largest) is shared."""
    relations: tuple[int, ...]


SHARED_BUCKET = -1


class Truncation(msgspec.Struct, frozen=True):
    """A TRUNCATE: every row version of these relations (numbers) before (lsn, seq) is gone, whatever its tenant."""

    lsn: int
    seq: int
    relations: tuple[int, ...]


# --- ledger entry bodies -------------------------------------------------------------------------------------------


class Genesis(msgspec.Struct, frozen=True, tag="genesis"):
    """Entry 1: which vault this is."""

    format: int
    vault_id: str
    public_key: str
    """Ed25519 public key, hex: every entry is signed with its private half."""
    buckets: int
    created_by: str


class Timeline(msgspec.Struct, frozen=True, tag="timeline"):
    """An unbroken history of one database begins (first protect), or forks from `parent` at `fork_lsn`."""

    timeline: int
    system_identifier: str
    database: str
    server_version: int
    slot: str
    publication: str
    start_lsn: int
    parent: int | None = None
    """The timeline that this one goes on from: its state at the cut `fork_lsn` is what this one's changes come after,
    where no image of this one says otherwise."""
    fork_lsn: int | None = None
    recovery: str | None = None
    """Names the recovery that put the parent's rows into this server. None: the server is no recovered one."""


MANY = "more commands than are told one by one"


class SchemaVersion(msgspec.Struct, frozen=True, tag="schema"):
    """The structure that holds from (lsn, seq) on, until the next one. `relations` is complete, not a difference.

    Where `reason` is `MANY`, what only dumps tell may change at any position until the next one begins."""

    version: int
    timeline: int
    lsn: int
    seq: int
    relations: ObjectRef
    """JSON array of `Relation`."""
    reason: str
    command: str | None = None


class SchemaDump(msgspec.Struct, frozen=True, tag="dump"):
    """`pg_dump --schema-only` in two sections and the roles, taken under one snapshot at `lsn` (a cut).

    Exact for the schema version in force at `lsn`; `version` names it. Where it says the same as the dump before, it names the
    same objects. A version may have several: the last at or before a cut is that of the cut, or else the first."""

    timeline: int
    lsn: int
    version: int
    pre_data: ObjectRef
    post_data: ObjectRef
    roles: ObjectRef
    server_version: int


class Image(msgspec.Struct, frozen=True, tag="image"):
    """Whole rows as of a cut. `relations` None: of every relation known at that cut.

    Supersedes, for its relations, everything before `lsn` on its timeline."""

    timeline: int
    lsn: int
    schema: int
    relations: tuple[int, ...] | None
    runs: tuple[RunRef, ...]
    sequences: tuple[SequenceState, ...]
    reason: str


class Segment(msgspec.Struct, frozen=True, tag="segment"):
    """Every change of the commits with first_lsn <= commit LSN < last_lsn (a stretch between two cuts, gapless)."""

    timeline: int
    first_lsn: int
    last_lsn: int
    first_committed_at: str | None
    last_committed_at: str | None
    runs: tuple[RunRef, ...]
    transactions: ObjectRef | None
    """Parquet, a line a transaction: see `docs/vault-format.md`."""
    truncations: tuple[Truncation, ...]
    sequences: tuple[SequenceState, ...]
    changes: int


class Merge(msgspec.Struct, frozen=True, tag="merge"):
    """Rearranges a stretch that is already in the vault; says nothing new.

    kind "changes": the runs hold exactly the changes of the stretch for `buckets`.
    kind "image": the runs hold the whole rows of `buckets` at `last_lsn`, of every relation; first_lsn = last_lsn."""

    timeline: int
    kind: Literal["changes", "image"]
    buckets: tuple[int, ...] | None
    """Whose rows it rearranges (`SHARED_BUCKET`: the shared ones); None: everybody's."""
    level: int
    """How many times the rows were merged before they lay like this, from 1."""
    first_lsn: int
    last_lsn: int
    schema: int
    runs: tuple[RunRef, ...]

    def holds(self, bucket: int) -> bool:
        """Whether the rows of `bucket` are among those rearranged."""
        return self.buckets is None or bucket in self.buckets


class Gap(msgspec.Struct, frozen=True, tag="gap"):
    """Between these cuts the record cannot be trusted for `relations` (None: all). Closed by a later image at `to_lsn`.

    `to_lsn` None: still open when written; a later Gap entry with the same `gap_id` closes it."""

    gap_id: str
    timeline: int
    from_lsn: int
    to_lsn: int | None
    relations: tuple[int, ...] | None
    reason: str
    detected_at: str


class Abandoned(msgspec.Struct, frozen=True, tag="abandoned"):
    """Objects that an interrupted writer left behind; known, and used by nothing."""

    objects: tuple[ObjectRef, ...]


class Mapping(msgspec.Struct, frozen=True, tag="mapping"):
    """What the owner said at `protect`: how tenants are found, and what the server looked like when it was intact."""

    timeline: int
    tenant_column: str
    rules: dict[str, TenantRule]
    fingerprint: ObjectRef


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something worth keeping that says nothing of any row: how a drill went. Whoever does not know its topic passes over it."""

    topic: str
    content: msgspec.Raw
    """A JSON object, as the topic has it (`drill`: `ballast.vault.drilled.Drilled`)."""


Body = Genesis | Timeline | SchemaVersion | SchemaDump | Image | Segment | Merge | Gap | Abandoned | Mapping | Note


class Entry(msgspec.Struct, frozen=True):
    """One line of the ledger, stored as `ledger/<number, 12 digits>.json`.

    `previous` is the SHA-256 (hex) of the whole stored bytes of entry number-1 ("" for entry 1). `signature`
    is Ed25519 (hex) over the JSON of the entry with `signature` = ""."""

    number: int
    previous: str
    written_at: str
    writer: str
    body: Body
    signature: str = ""
