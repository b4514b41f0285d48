"""`ballast.toml`: what the owner decides, read with every mistake named and written with every choice explained.

One table, `_KEYS`, says for each key what it is for and what is allowed; the written file's comments and the error
messages both come from it, so they cannot differ from each other.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from ballast.errors import ConfigError
from ballast.vault.drilled import seconds_of

_CONTINUE = re.compile(r"continue after (\d+(?:\.\d+)?) ?s")
_SLOT = re.compile(r"ballast[a-z0-9_]{0,56}")
_PUBLICATION = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_TABLE = re.compile(r"\s*\[+\s*\"?([\w-]+)")
_IN_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<at>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(unknown|required) field `(?P<name>[^`]*)`")
_SECRET = re.compile(
    r"(^|[\s?&])\s*(password|sslpassword|scram_\w+_key|oauth_client_secret)\s*=|://[^/@:]*:.*@",
    re.IGNORECASE | re.DOTALL,
)
"""In a connection string that libpq does not understand."""


class ViaColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a table leads to its tenant where no foreign key says so (names, not attnums: this is what people write)."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


class Tenants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tenant a row belongs to. Tables are named `schema.table`."""

    column: str = "tenant_id"
    shared: tuple[str, ...] = ()
    tables: dict[str, str] = {}
    """Table → its tenant column."""
    via: dict[str, str | ViaColumns] = {}
    """Table → the table that its foreign key leads to, or the columns that lead there."""
    counters: tuple[str, ...] = ()
    """Columns, `schema.table.column`, to which the application adds and from which it subtracts."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the recorder records, and what happens when it cannot."""

    acknowledge: Literal["spool", "store", "off"] = "spool"
    on_recorder_loss: str = "wait"
    on_blind: Literal["stop", "continue"] = "stop"
    spool_limit_bytes: int = 8 << 30
    seal_after_s: float = 10.0
    seal_bytes: int = 64 << 20
    check_every_s: float = 5.0
    merge_every_s: float = 300.0
    drill_every: str = "off"
    drill_tenants: int = 20

    @property
    def continue_after_s(self) -> float | None:
        """Seconds without the recorder after which commits stop waiting for it; None: they wait for ever."""
        match = _CONTINUE.fullmatch(self.on_recorder_loss)
        return float(match[1]) if match else None

    @property
    def drill_every_s(self) -> int | None:
        """Seconds from one drill to the next; None: the recorder holds none."""
        return seconds_of(self.drill_every)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Paths are absolute here, and relative to the file's folder in it where that is shorter."""

    dsn: str
    vault: str
    state_dir: Path
    slot: str = "ballast"
    """Also the recorder's name as a standby (`application_name`, `synchronous_standby_names`)."""
    publication: str = "ballast"
    key: str = ""
    """The public half of the key that signs the vault, in hex; "" before there is a vault."""
    tenants: Tenants = Tenants()
    record: Record = Record()

    @property
    def spool_dir(self) -> Path:
        """Where the recorder's spool lies."""
        return self.state_dir / "spool"


class _Key(msgspec.Struct, frozen=True):
    """One key: what it is for (the comment above it), and what may stand there (the error message)."""

    purpose: str
    allowed: str


_KEYS: dict[str, _Key] = {
    "dsn": _Key(
        "The production database. No password here: use PGPASSWORD, PGPASSFILE (~/.pgpass) or a service.",
        'a libpq connection string or postgresql:// URL without a password, such as "host=db dbname=shop user=ballast"',
    ),
    "vault": _Key(
        "Where everything is kept: a folder, or s3://bucket/prefix (endpoint and credentials from AWS_… variables).",
        'a folder, a file:// URL or s3://bucket/prefix, such as "vault" or "s3://shop-vault/production"',
    ),
    "state_dir": _Key(
        "The recorder's own folder: the spool (fsynced before production is told), keys, locks, state files.",
        'a folder on a local disk, such as ".ballast"',
    ),
    "slot": _Key(
        "Name of the replication slot, and of the recorder as a standby. Two recorders need two names.",
        "a slot name that starts with ballast: lower-case letters, digits and underscores, such as"
        ' "ballast" or "ballast_a"',
    ),
    "publication": _Key(
        "Name of the publication on production.",
        'a publication name of lower-case letters, digits and underscores, such as "ballast"',
    ),
    "key": _Key(
        "The vault's public key; a vault signed by another is refused. Written by `ballast protect`.",
        "64 hexadecimal digits, or nothing before there is a vault",
    ),
    "tenants.column": _Key(
        "The column that names the tenant, in every table that has it.",
        'a column name, such as "tenant_id" or "shop_id"',
    ),
    "tenants.shared": _Key(
        "Tables whose rows belong to all tenants together; they are restored as a whole.",
        'a list of "schema.table", such as ["public.countries"]',
    ),
    "tenants.counters": _Key(
        "Columns to which the application adds and from which it subtracts, such as stock or points. `ballast undo\n"
        "--on-conflict merge` takes from them what the undone transaction had added, and keeps what was counted since.",
        'a list of "schema.table.column", such as ["public.stock.on_hand"]',
    ),
    "tenants.tables": _Key(
        'Tables whose tenant column has another name:  "public.audit" = "shop"',
        'a line "schema.table" = "column" for each such table',
    ),
    "tenants.via": _Key(
        'Tables without a tenant column that belong to a row of another table:  "public.order_line" = "public.orders"\n'
        "takes the columns from the foreign key; where there is none, name them:\n"
        '"public.order_line" = { columns = ["order_no"], parent = "public.orders", parent_columns = ["no"] }',
        'a line "schema.table" = "schema.parent", or = { columns = […], parent = "schema.parent", parent_columns = […] }'
        " with as many columns as parent_columns",
    ),
    "record.acknowledge": _Key(
        "When production's commits are let go:\n"
        '"spool": when they are fsynced on the recorder\'s disk. Survives the loss of all of production.\n'
        '"store": when they are in the vault\'s object store. Survives the loss of the recorder too; slower.\n'
        '"off":   at once; the newest commits can be lost with production.',
        '"spool", "store" or "off"',
    ),
    "record.on_recorder_loss": _Key(
        'What commits do while the recorder is away:  "wait", or "continue after 5s" (unprotected meanwhile).',
        '"wait" or "continue after <seconds>s", such as "continue after 5s"',
    ),
    "record.on_blind": _Key(
        "What the recorder does when somebody has made it blind to changes (a dropped publication, an unlogged table…):\n"
        '"stop" acknowledging, so that commits wait, or "continue" and record the gap.',
        '"stop" or "continue"',
    ),
    "record.spool_limit_bytes": _Key(
        "The spool may grow to this while the object store is away. At the limit the recorder stops reading.",
        "a whole number of bytes, at least twice seal_bytes",
    ),
    "record.seal_after_s": _Key(
        "What has been recorded is moved into the vault after this many seconds at the latest …",
        "a number of seconds from 0.1 to 3600",
    ),
    "record.seal_bytes": _Key(
        "… or when this much has come together.", "a whole number of bytes from 65536 to 1073741824"
    ),
    "record.check_every_s": _Key(
        "How often the recorder proves that nobody has made it blind.", "a number of seconds from 0.5 to 3600"
    ),
    "record.merge_every_s": _Key(
        "How often it is looked whether the vault's files should be merged.",
        "a number of seconds from 1 to 86400",
    ),
    "record.drill_every": _Key(
        "How often the recorder restores tenants into a scratch server and compares them with production (`ballast drill`).",
        '"off", or a time such as "1d", "12h" or "30m"',
    ),
    "record.drill_tenants": _Key(
        "How many tenants, chosen at random, each of these drills restores; 0: all of them.",
        "a whole number, at least 0",
    ),
}
_GROUPS = ("tenants", "record")
_OF_OTHERS = ("mall", "up", "continuity", "recovery")
"""Tables of the same file that are not the vault's: passed over here, and kept when the file is written anew."""


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in this file; ConfigError names the key that is wrong and what is allowed there."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {file}.", "Run `ballast protect` to make one, or name it with --config."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    return parse(text, folder=file.absolute().parent, name=str(file))


def parse(text: str, *, folder: Path, name: str = "ballast.toml") -> Config:
    """The configuration in `text`, with relative paths taken from `folder`; ConfigError as in `load`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}.", "Strings stand in double quotes.") from None
    return convert(document, folder=folder, name=name)


def convert(document: dict[str, Any], *, folder: Path, name: str = "ballast.toml") -> Config:
    """The same of what is in the file, as tomllib reads it."""
    document = {key: value for key, value in document.items() if key not in _OF_OTHERS}
    document.setdefault("state_dir", ".ballast")
    if "nodes" in document:
        raise ConfigError(
            f"{name} names several nodes, and this command works on one.",
            "Give it the settings of that node, --config <state_dir>/nodes/<node>/ballast.toml, or its vault,"
            " --vault <vault>/nodes/<node>.",
        )
    try:
        config = msgspec.convert(document, Config, dec_hook=lambda _, value: _path(value, folder))
    except msgspec.ValidationError as error:
        raise _explain(str(error), name) from None
    config = msgspec.structs.replace(config, vault=_absolute_url(config.vault, folder))
    for key, good in _checks(config).items():
        if not good:
            raise _wrong(key, _value(config, key), name)
    return config


def render(config: Config, *, folder: Path, without: Collection[str] = ()) -> str:
    """The file's text for this configuration, every key with what it is for; `parse` gives it back.

    `without`: keys that have no place in it, because each node has its own."""
    lines = [
        "# How Ballast protects this database. Changes take effect when `ballast record` starts again.",
        "",
    ]
    for key in ("dsn", "vault", "state_dir", "slot", "publication", "key"):
        if key in without:
            continue
        value = _value(config, key)
        if key in ("vault", "state_dir"):
            value = _relative(str(value), folder)
        lines += _with_comment(key, f"{key} = {in_toml(value)}")
    for group in _GROUPS:
        lines += [f"[{group}]"]
        plain = [k for k in _KEYS if k.startswith(group + ".") and not isinstance(_value(config, k), dict)]
        for key in plain:
            lines += _with_comment(key, f"{key.partition('.')[2]} = {in_toml(_value(config, key))}")
        for key in (k for k in _KEYS if k.startswith(group + ".") and k not in plain):
            entries = [f"{in_toml(k)} = {in_toml(v)}" for k, v in _value(config, key).items()]
            lines += [f"[{key}]", *_with_comment(key, *entries)]
    return "\n".join(lines).rstrip() + "\n"


def write(config: Config, path: str | os.PathLike[str]) -> None:
    """Write the file, whole or not at all, with what is in it of others; OSError."""
    file = Path(path)
    kept = tables_of_others(file.read_text(encoding="utf-8")) if file.exists() else ""
    replace_file(file, render(config, folder=file.absolute().parent) + (f"\n{kept}" if kept else ""))


def tables_of_others(text: str) -> str:
    """The text of the tables in a settings file that are not the vault's, with the comments inside and right above them."""
    kept: list[str] = []
    above: list[str] = []
    ours = True
    for line in text.splitlines(keepends=True):
        table = _TABLE.match(line)
        if table is not None:
            ours = table[1] not in _OF_OTHERS
        if not ours:
            kept += [*above, line]
            above = []
        else:
            above = [*above, line] if line.startswith("#") else []
    return "".join(kept).rstrip() + "\n" if kept else ""


def replace_file(file: Path, text: str) -> None:
    """Settings are written whole or not at all; OSError."""
    new = file.with_name(file.name + ".new")
    with new.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def pin(config: Config, path: str | os.PathLike[str], key: str) -> Config:
    """The settings with the vault's key, which is put into the file beside whatever the owner wrote there; OSError."""
    pinned = msgspec.structs.replace(config, key=key)
    file = Path(path)
    text = file.read_text(encoding="utf-8")
    line = f"key = {in_toml(key)}"
    text, count = re.subn(r'^key *= *""', line, text, count=1, flags=re.MULTILINE)
    if not count:
        head, table, rest = re.fullmatch(r"(.*?)(^\[|\Z)(.*)", text, re.DOTALL | re.MULTILINE).groups()  # type: ignore[union-attr]
        text = (
            head.rstrip("\n") + "\n\n" + "\n".join(_with_comment("key", line)) + ("\n" + table + rest if table else "")
        )
    with contextlib.suppress(ConfigError):
        if parse(text, folder=file.absolute().parent) == pinned:
            replace_file(file, text)
            return pinned
    write(pinned, file)
    return pinned


def set_in_record(path: str | os.PathLike[str], **record: Any) -> Config:
    """Changes keys of [record] in the file, beside whatever the owner wrote there; ConfigError, OSError."""
    file = Path(path)
    former = load(file)
    wanted = msgspec.structs.replace(former, record=msgspec.structs.replace(former.record, **record))
    for key, good in _checks(wanted).items():
        if not good:
            raise _wrong(key, _value(wanted, key), str(file))
    text = file.read_text(encoding="utf-8")
    for name, value in record.items():
        line = f"{name} = {in_toml(value)}"
        table = re.search(r"^\[record\][^\n]*\n(?:(?!\[).*\n?)*", text, re.MULTILINE)
        if table is None:
            text = text.rstrip("\n") + "\n\n[record]\n" + "\n".join(_with_comment(f"record.{name}", line))
            continue
        block, count = re.subn(rf"^{name}\s*=.*$", line.replace("\\", r"\\"), table[0], count=1, flags=re.MULTILINE)
        if not count:
            block = block.rstrip("\n") + "\n\n" + "\n".join(_with_comment(f"record.{name}", line)) + "\n"
        text = text[: table.start()] + block + text[table.end() :]
    with contextlib.suppress(ConfigError):
        if parse(text, folder=file.absolute().parent) == wanted:
            replace_file(file, text)
            return wanted
    write(wanted, file)
    return wanted


def is_secret(keyword: str) -> bool:
    """Whether an option of a connection string may not be written down: what libpq itself hides, and keys."""
    hidden = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    return keyword in hidden | {"password", "sslpassword", "oauth_client_secret"} or (
        keyword.startswith("scram_") and keyword.endswith("_key")
    )


def has_password(dsn: str) -> bool:
    """Whether a connection string holds what must not be written down."""
    try:
        return any(value and is_secret(keyword) for keyword, value in conninfo_to_dict(dsn).items())
    except psycopg.ProgrammingError:
        return _SECRET.search(dsn) is not None


def _checks(config: Config) -> dict[str, bool]:
    record, tenants = config.record, config.tenants
    via = [v for v in tenants.via.values() if isinstance(v, ViaColumns)]
    return {
        "dsn": bool(config.dsn.strip()) and not has_password(config.dsn),
        "vault": bool(config.vault)
        and (not is_address(config.vault) or config.vault.startswith(("s3://", "file:///"))),
        "slot": _SLOT.fullmatch(config.slot) is not None,
        "publication": _PUBLICATION.fullmatch(config.publication) is not None,
        "key": re.fullmatch(r"([0-9a-f]{64})?", config.key) is not None,
        "tenants.column": bool(tenants.column),
        "tenants.shared": all("." in table for table in tenants.shared),
        "tenants.counters": all(name.count(".") >= 2 for name in tenants.counters),
        "tenants.tables": all("." in table and column for table, column in tenants.tables.items()),
        "tenants.via": all("." in t for t in tenants.via)
        and all("." in v for v in tenants.via.values() if isinstance(v, str))
        and all("." in v.parent and v.columns and len(v.columns) == len(v.parent_columns) for v in via),
        "record.on_recorder_loss": record.on_recorder_loss == "wait" or bool(record.continue_after_s),
        "record.seal_after_s": 0.1 <= record.seal_after_s <= 3600,
        "record.seal_bytes": 64 << 10 <= record.seal_bytes <= 1 << 30,
        "record.spool_limit_bytes": record.spool_limit_bytes >= 2 * record.seal_bytes,
        "record.check_every_s": 0.5 <= record.check_every_s <= 3600,
        "record.merge_every_s": 1 <= record.merge_every_s <= 86400,
        "record.drill_every": _is_interval(record.drill_every),
        "record.drill_tenants": record.drill_tenants >= 0,
    }


def _is_interval(text: str) -> bool:
    try:
        seconds_of(text)
    except ValueError:
        return False
    return True


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _wrong(key: str, value: Any, name: str) -> ConfigError:
    shown = "a connection string with a password" if key == "dsn" and has_password(value) else in_toml(value)
    return ConfigError(f"{name}: {key} is {shown}.", f"Allowed is {_KEYS[key].allowed}.")


def _explain(message: str, name: str) -> ConfigError:
    """msgspec's words, turned into the key and what may stand there."""
    parts = _IN_MESSAGE.fullmatch(message)
    what, at = (parts["what"], parts["at"] or "") if parts else (message, "")
    field = _FIELD.search(what)
    if field and field[1] == "unknown":
        key = f"{at}.{field['name']}".lstrip(".")
        known = [*_KEYS, *_GROUPS]
        near = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(
            field["name"], [k.rpartition(".")[2] for k in known], n=1
        )
        siblings = [k for k in known if k.rpartition(".")[0] == at]
        return ConfigError(
            f"{name}: there is no key {key}.",
            f"Did you mean {near[0]}?" if near else f"Known keys there: {', '.join(siblings or known)}.",
        )
    if field:
        key = f"{at}.{field['name']}".lstrip(".")
        found = f"{name}: {key} is missing."
    else:
        key = at
        found = f"{name}: {key} is wrong: {what[:1].lower()}{what[1:]}."
    base = next((k for k in sorted(_KEYS, key=len, reverse=True) if key.startswith(k)), None)
    return ConfigError(found, f"Allowed is {_KEYS[base].allowed}." if base else "")


def is_address(text: str) -> bool:
    """Whether this is to be an address with a scheme (`s3://…`, and what is mistyped as `s3:/…`), not a folder's path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text) is not None


def _path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("expected the name of a folder")
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _absolute_url(url: str, folder: Path) -> str:
    return str(_path(url, folder)) if url and not is_address(url) else url


def _relative(path: str, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        return path if is_address(path) else str(Path(path).relative_to(folder))
    return path


def _with_comment(key: str, *lines: str) -> list[str]:
    return [*(f"# {line}" for line in _KEYS[key].purpose.split("\n")), *lines, ""]


def in_toml(value: Any) -> str:
    """A value as it stands in the file."""
    if isinstance(value, ViaColumns):
        fields = msgspec.structs.asdict(value)
        return "{ " + ", ".join(f"{name} = {in_toml(v)}" for name, v in fields.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{in_toml(k)} = {in_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
