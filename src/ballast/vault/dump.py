"""The structure of a database and its roles, as scripts: what `pg_dump` says under an image's snapshot.

A dump holds what the owner made, and nothing of ours: a rebuilt server gets that when it is protected again. Roles belong
to the whole cluster and to no snapshot; passwords are never read.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from ballast.errors import ServerError
from ballast.postgres.binaries import pg_dump_for
from ballast.postgres.session import connect
from ballast.vault.server import EVENT_TRIGGERS
from ballast.vault.tables import OWN_SCHEMA, UNRECORDED

_LOCK_WAIT = "60s"
"""pg_dump locks every table against changes of its structure; who waits longer than this behind somebody comes again."""
_FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
_ROLES = sql.SQL("SELECT rolname, {} FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname").format(
    sql.SQL(", ").join(sql.Identifier(name) for name in _FLAGS)
)
_MEMBERS = """SELECT DISTINCT g.rolname, m.rolname, a.admin_option FROM pg_auth_members a
 JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member WHERE m.rolname !~ '^pg_' ORDER BY 1, 2, 3"""

_LEFT_OUT = """SELECT 'publication ' || quote_ident(pubname) FROM pg_publication WHERE pubname <> %s
 UNION ALL SELECT 'subscription ' || quote_ident(subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
 WHERE d.datname = current_database() ORDER BY 1"""
# pg_dump cannot leave out single event triggers. Only an entry that reads as ours to its last word is taken out.
_OUR_TRIGGER = re.compile(
    rf"""^--\n--\ Name:\ (?P<name>{"|".join(EVENT_TRIGGERS)});\ Type:\ EVENT\ TRIGGER;.*\n--\n
    \n*CREATE\ EVENT\ TRIGGER\ (?P=name)\ ON\ [^;]*EXECUTE\ FUNCTION\ {OWN_SCHEMA}\.\w+\(\);\n
    (?:\n*ALTER\ EVENT\ TRIGGER\ (?P=name)\ .*;\n)*\n*""".encode(),
    re.MULTILINE | re.VERBOSE,
)
_ITS_COMMENT = re.compile(
    rf"""^--\n--\ Name:\ EVENT\ TRIGGER\ (?P<name>{"|".join(EVENT_TRIGGERS)});\ Type:\ COMMENT;.*\n--\n
    \n*COMMENT\ ON\ EVENT\ TRIGGER\ (?P=name)\ IS\ '(?:[^']|'')*';\n\n*""".encode(),
    re.MULTILINE | re.VERBOSE,
)

_STRING = rb"(?:E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')"
_WORD = rb'(?:\w+|"(?:[^"]|"")+")'
_OPTION = re.compile(rb"(?P<name>%b) %b" % (_WORD, _STRING), re.DOTALL)
_WITH_OPTIONS = re.compile(
    rb"""^CREATE\ (?P<what>(?:SERVER|USER\ MAPPING|FOREIGN\ DATA\ WRAPPER)\ (?:[^';"]|"[^"]*"|%(string)b)*?)
    \ OPTIONS\ \(\s*(?P<options>%(word)b\ %(string)b(?:,\s*%(word)b\ %(string)b)*)\s*\);"""
    % {b"word": _WORD, b"string": _STRING},
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_RESTRICTED = re.compile(rb"^\\restrict (\w+)$", re.MULTILINE)
_SECRET = re.compile(rb"pass|pw|secret|token|key|cred", re.IGNORECASE)
_NO_SECRET_OF_A_USER = frozenset((b"user", b"username", b'"user"'))


class Dump(msgspec.Struct, frozen=True):
    """SQL scripts in UTF-8."""

    pre_data: bytes
    """Types, functions, tables: what must stand before rows."""
    post_data: bytes
    """Keys, indexes, foreign keys, triggers, policies."""
    roles: bytes


def take_dump(dsn: str, snapshot: str, server_major: int, *, publication: str = "ballast") -> Dump:
    """The database of `dsn` as the exported `snapshot` shows it, without `ballast`'s objects; roles as they are now.

    ServerError with what the server said."""
    pre, post = (_section(dsn, snapshot, server_major, name) for name in ("pre-data", "post-data"))
    pre, secrets = without_secrets(pre)
    post = _ITS_COMMENT.sub(b"", _OUR_TRIGGER.sub(b"", post)) + _left_out(dsn, publication, secrets)
    return Dump(pre, post, _roles(dsn, server_major))


def _section(dsn: str, snapshot: str, server_major: int, section: str) -> bytes:
    return _run(
        dsn,
        pg_dump_for(server_major),
        f"--section={section}",
        f"--snapshot={snapshot}",
        *(f"--exclude-schema={schema}" for schema in sorted(UNRECORDED)),
        f"--lock-wait-timeout={_LOCK_WAIT}",
        "--no-publications",
        "--no-subscriptions",
        "--encoding=UTF8",
    )


def same_scripts(one: Iterable[bytes], other: Iterable[bytes]) -> bool:
    """Whether they say the same. Since 2025 each begins with a word of its own, by which psql tells its end."""
    return [_without_key(script) for script in one] == [_without_key(script) for script in other]


def _without_key(script: bytes) -> bytes:
    found = _RESTRICTED.search(script)
    return script.replace(found[1], b"") if found else script


def without_secrets(script: bytes) -> tuple[bytes, list[str]]:
    """pg_dump's script without the options of foreign servers and user mappings that may hold secrets; and whose they
    were."""
    found: list[str] = []

    def cleaned(statement: re.Match[bytes]) -> bytes:
        what = statement["what"]
        options = list(_OPTION.finditer(statement["options"]))
        of_user = what.startswith(b"USER MAPPING")
        kept = [
            option[0]
            for option in options
            if (option["name"] in _NO_SECRET_OF_A_USER if of_user else not _SECRET.search(option["name"]))
        ]
        if len(kept) == len(options):
            return statement[0]
        found.append(f"options of {' '.join(what.decode().split()).lower()} that may be passwords")
        rest = b" OPTIONS (\n    %b\n)" % b",\n    ".join(kept) if kept else b""
        return b"CREATE %b%b;" % (what, rest)

    return _WITH_OPTIONS.sub(cleaned, script), found


def _left_out(dsn: str, publication: str, secrets: Sequence[str]) -> bytes:
    """Lines for the end of post-data: what of the owner's a restore must not bring to life by itself, and `secrets`.
    `publication` is ours."""
    with connect(dsn) as conn, conn.cursor(row_factory=tuple_row) as cursor:
        names = [" ".join(what.split()) for (what,) in cursor.execute(_LEFT_OUT.encode(), [publication])]
        names += secrets
        return "".join(f"-- Left out: {name}\n" for name in names).encode()


def _roles(dsn: str, server_major: int) -> bytes:
    program = pg_dump_for(server_major).with_name("pg_dumpall")
    arguments = ["--roles-only", "--no-role-passwords", "--encoding=UTF8"]
    if database := conninfo_to_dict(dsn).get("dbname"):
        arguments.append(f"--database={database}")  # on managed servers `postgres` may be closed to us
    try:
        return _run(dsn, program, *arguments)
    except ServerError:
        return roles_of_catalog(dsn)


def roles_of_catalog(dsn: str) -> bytes:
    """What everybody may know of the roles, written as pg_dumpall writes it."""
    with connect(dsn) as conn, conn.cursor(row_factory=tuple_row) as cursor:
        roles = cursor.execute(_ROLES).fetchall()
        members = cursor.execute(_MEMBERS.encode()).fetchall()
        statements: list[sql.Composed] = []
        for name, *flags in roles:
            said = " ".join(word if on else f"NO{word}" for word, on in zip(_FLAGS.values(), flags, strict=True))
            statements.append(sql.SQL("CREATE ROLE {};").format(sql.Identifier(name)))
            statements.append(sql.SQL("ALTER ROLE {} WITH {};").format(sql.Identifier(name), sql.SQL(said)))
        for group, member, admin in members:
            ending = sql.SQL(" WITH ADMIN OPTION;" if admin else ";")
            names = sql.Identifier(group), sql.Identifier(member)
            statements.append(sql.SQL("GRANT {} TO {}{}").format(*names, ending))
        return ("\n".join(statement.as_string(conn) for statement in statements) + "\n").encode()


def _run(dsn: str, program: Path, *arguments: str) -> bytes:
    environment, rest = _environment(dsn)
    command = [str(program), *arguments]
    if rest and program.name == "pg_dump":
        command.append(f"--dbname={rest}")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
        said = next((line.partition("error: ")[2] for line in lines if "error: " in line), lines[-1])
        raise ServerError(
            f"{program.name} could not read the structure of the database: {said}.",
            "Give the role of the dsn the right to read every table (pg_read_all_data), then try again.",
        )
    return done.stdout


def _environment(dsn: str) -> tuple[dict[str, str], str]:
    """The dsn as libpq's variables, since a command line can be read by everybody on the machine; and the rest of it."""
    variables = {option.keyword.decode(): option for option in pq.Conninfo.get_defaults()}
    environment = dict(os.environ)
    rest = {}
    for keyword, value in conninfo_to_dict(dsn).items():
        option = variables[keyword]
        if option.envvar:
            environment[option.envvar.decode()] = str(value)
        elif option.dispchar != b"*":  # that marks passwords
            rest[keyword] = value
    return environment, make_conninfo("", **rest) if rest else ""
