"""Sequences after a restore: never behind what the rows hold, nor behind what the record saw.

Values of sequences are not in the replication stream. The recorder notes them now and then; between two notes
production may have handed out more, up to one cache per session. So each is set past the larger of the recorded value
plus its cache and the largest value in any column that it feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from psycopg import sql

from ballast.postgres import Sequence
from ballast.recovery.target import Target
from ballast.vault.records import SequenceState

_ADVANCE = sql.SQL(
    "SELECT setval({literal}::regclass, past.value) FROM {sequence} AS seq,"
    " (SELECT greatest(least({best}({candidates}), {max}), {min}) AS value WHERE {best}({candidates}) IS NOT NULL) AS past"
    " WHERE past.value {beyond} seq.last_value OR (past.value = seq.last_value AND NOT seq.is_called)"
)
_UNTOUCHED = sql.SQL("SELECT setval({literal}::regclass, {value}, false) FROM {sequence} WHERE NOT is_called")
_INTEGERS = ("smallint", "integer", "bigint")

Which = Callable[[int], sql.Composable]
"""Table oid to the condition that picks the rows (of `t`) that count."""


def past_rows(target: Target, tables: Iterable[int], which: Which) -> list[sql.Composed]:
    """Statements that set the sequences that feed columns of `tables` (oids) at least to the largest value there."""
    chosen = frozenset(tables)
    statements = []
    for sequence in target.catalog.sequences:
        floors = _extremes(target, sequence, chosen, which)
        if floors:
            statements.append(_advance(sequence, floors))
    return statements


def past_record(target: Target, recorded: Iterable[SequenceState], *, margin: int = 0) -> list[sql.Composed]:
    """Statements that set every sequence past its recorded value by its cache, and past all rows that it feeds.

    `margin`: so many values more, where rows that are still to come cannot be looked at."""
    states = {(state.schema, state.name): state for state in recorded}
    everywhere = frozenset(target.tables)
    statements = []
    for sequence in target.catalog.sequences:
        floors = _extremes(target, sequence, everywhere, lambda oid: sql.SQL("true"))
        state = states.get((sequence.schema, sequence.name))
        if state is not None and state.is_called:
            floors.append(sql.Literal(state.last_value + sequence.increment * (sequence.cache + margin)))
        elif state is not None and sequence.min <= state.last_value <= sequence.max:
            statements.append(
                _UNTOUCHED.format(
                    literal=_literal(sequence), value=sql.Literal(state.last_value), sequence=_name(sequence)
                )
            )
        if floors:
            statements.append(_advance(sequence, floors))
    return statements


def past_value(sequence: Sequence, value: int) -> sql.Composed:
    """The statement that sets this sequence at least to `value`, and never back."""
    return _advance(sequence, [sql.Literal(value)])


def fed(target: Target, tables: Iterable[int]) -> list[Sequence]:
    """The sequences that `past_rows` sets."""
    chosen = frozenset(tables)
    return [s for s in target.catalog.sequences if _extremes(target, s, chosen, lambda oid: sql.SQL("true"))]


def advanced(target: Target, recorded: Iterable[SequenceState]) -> list[Sequence]:
    """The sequences that `past_record` may set."""
    states = {(state.schema, state.name) for state in recorded}
    by_rows = fed(target, target.tables)
    return [s for s in target.catalog.sequences if s in by_rows or (s.schema, s.name) in states]


def _extremes(target: Target, sequence: Sequence, tables: frozenset[int], which: Which) -> list[sql.Composable]:
    extremes: list[sql.Composable] = []
    for oid, attnum in sequence.feeds:
        if oid not in tables:
            continue
        table = target.tables[oid]
        column = table.column(attnum)
        # A default may put a sequence's value into a text; what that means for the sequence is not known.
        if column.base_type in _INTEGERS:
            extremes.append(
                sql.SQL("(SELECT {}({})::bigint FROM {} AS t WHERE {})").format(
                    sql.SQL("max" if sequence.increment > 0 else "min"),
                    sql.Identifier("t", column.name),
                    sql.Identifier(table.schema, table.name),
                    which(oid),
                )
            )
    return extremes


def _advance(sequence: Sequence, candidates: list[sql.Composable]) -> sql.Composed:
    up = sequence.increment > 0
    return _ADVANCE.format(
        literal=_literal(sequence),
        best=sql.SQL("greatest" if up else "least"),
        candidates=sql.SQL(", ").join(candidates),
        min=sql.Literal(sequence.min),
        max=sql.Literal(sequence.max),
        sequence=_name(sequence),
        beyond=sql.SQL(">" if up else "<"),
    )


def _name(sequence: Sequence) -> sql.Identifier:
    return sql.Identifier(sequence.schema, sequence.name)


def _literal(sequence: Sequence) -> sql.Literal:
    return sql.Literal(_name(sequence).as_string(None))
