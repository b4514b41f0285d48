"""The key of a row as people name it: the values of the key's columns, in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from ballast.errors import ConfigError
from ballast.postgres.copytext import escape
from ballast.vault.records import ByColumn, Relation
from ballast.vault.story import key_numbers, key_texts

_SPLIT = re.compile(r"\\(.)|(,)", re.DOTALL)
_WHOLE_NUMBERS = ("smallint", "integer", "bigint")


class Key(msgspec.Struct, frozen=True):
    """Values (fields of a COPY line joined by tabs, as in runs) of these columns (see `story.numbers`)."""

    numbers: tuple[int, ...]
    value: bytes

    @classmethod
    def of(cls, value: bytes, form: Relation) -> Key:
        """The `key` of a row of a run."""
        return cls(key_numbers(form), value)

    def under(self, form: Relation) -> bytes | None:
        """The `key` that rows of this version of the table bear; None where its key is of other columns."""
        wanted = key_numbers(form)
        if wanted == self.numbers:
            return self.value
        if set(wanted) != set(self.numbers):
            return None
        values = dict(zip(self.numbers, self.value.split(b"\t"), strict=True))
        return b"\t".join(values[number] for number in wanted)

    def texts(self, form: Relation) -> dict[str, str | None]:
        """The values by column name."""
        under = self.under(form)
        return key_texts(under, form) if under is not None else {}

    def matches(self, fields: Mapping[int, bytes | None]) -> bool:
        """Whether a row shows these values."""
        return all(fields.get(n) == value for n, value in zip(self.numbers, self.value.split(b"\t"), strict=True))


def split(argument: str) -> list[str]:
    r"""`a,b` as values; `\,` is a comma and `\\` a backslash within a value."""
    values, at = [""], 0
    for found in _SPLIT.finditer(argument):
        values[-1] += argument[at : found.start()]
        at = found.end()
        if found[2]:
            values.append("")
        else:
            values[-1] += found[1] if found[1] in (",", "\\") else found[0]
    values[-1] += argument[at:]
    return values


def key_in(form: Relation, given: Sequence[str], tenant: str | None) -> Key:
    r"""The key that a person means: one argument a column, or one with commas (`\,` for a comma in a value).

    The tenant's column may be left out: it is known. ConfigError where the table has no key, or another one."""
    if not form.key:
        raise ConfigError(
            f"The table {form.qualified} has no key: its rows cannot be told apart, so that none has a history.",
            "`ballast restore --table … --at …` into a scratch database shows its rows as of a moment. Give the table a"
            " primary key, and rows have a history from then on.",
        )
    columns = {column.attnum: column for column in form.columns}
    values = split(given[0]) if len(given) == 1 and len(form.key) > 1 else list(given)
    tenants = form.tenant.attnum if isinstance(form.tenant, ByColumn) else None
    if tenants in form.key and tenant is not None and len(values) == len(form.key) - 1:
        values.insert(form.key.index(tenants), tenant)
    if len(values) != len(form.key):
        names = ", ".join(columns[attnum].name for attnum in form.key)
        raise ConfigError(
            f"A row of {form.qualified} is named by ({names}), and {len(values)}"
            f" {'value is' if len(values) == 1 else 'values are'} given.",
            "Give the values in this order, each an argument of its own or all in one with commas"
            r" (\, for a comma in a value).",
        )
    fields = [escape(as_stored(v, columns[a].type).encode()) for v, a in zip(values, form.key, strict=True)]
    return Key(key_numbers(form), b"\t".join(fields))


def as_stored(text: str, type_: str) -> str:
    """A value as the vault spells it, where people have several ways to write the same."""
    if type_ in _WHOLE_NUMBERS and re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return str(int(text))
    if type_ == "uuid":
        return text.strip().lower()
    if type_.startswith("timestamp") and type_.endswith("with time zone"):
        try:
            moment = datetime.fromisoformat(re.sub(r"\s+([+-])", r"\1", text.strip()))
        except ValueError:
            return text
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
            return f"{moment.isoformat(' ').rstrip('0') if moment.microsecond else moment.isoformat(' ')}+00"
    return text
