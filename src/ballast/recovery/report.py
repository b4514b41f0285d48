"""What a restore did, and the proof that it is what the record says."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ballast.vault.records import Cut


class Tally(msgspec.Struct, frozen=True):
    """Rows and their checksum: the sum modulo 2^64 of XXH64 (seed 0) over each COPY text line with its newline."""

    rows: int = 0
    checksum: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.rows + other.rows, (self.checksum + other.checksum) % (1 << 64))

    def __str__(self) -> str:
        return f"{self.rows} rows (checksum {self.checksum:016x})"


class TableProof(msgspec.Struct, frozen=True):
    """One table as the record has it beside what was read back from the target."""

    table: str
    recorded: Tally
    restored: Tally

    @property
    def equal(self) -> bool:
        """True when every row of the record was read back, and nothing else."""
        return self.recorded == self.restored


class Report(msgspec.Struct, frozen=True):
    """The end of a restore."""

    cut: Cut
    tenants: tuple[str, ...] | None
    """None: all of them."""
    tables: tuple[TableProof, ...]
    rows: int
    elapsed_s: float
    schema_rebuilt: bool
    inexact: tuple[str, ...] = ()
    """Tables whose record has a gap at this moment."""
    broken_foreign_keys: tuple[str, ...] = ()
    """One line each: the constraint and a row that has no parent."""
    warnings: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """True when every table equals the record and no foreign key is broken."""
        return all(proof.equal for proof in self.tables) and not self.broken_foreign_keys


def added(proofs: Iterable[TableProof]) -> list[TableProof]:
    """One proof a table, of those of several tenants."""
    totals: dict[str, TableProof] = {}
    for proof in proofs:
        before = totals.get(proof.table, TableProof(proof.table, Tally(), Tally()))
        totals[proof.table] = TableProof(
            proof.table, before.recorded + proof.recorded, before.restored + proof.restored
        )
    return [totals[name] for name in sorted(totals)]
