"""The account that a server of ours runs under.

PostgreSQL refuses to run as root. So whoever is root hands the server to an unprivileged account, and then
has to care for what that account can reach; everybody else runs it as themselves.
"""

import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ballast.errors import ServerError

_SHOW_FIRST_UNREACHABLE = 'for p; do [ -x "$p" ] || { printf %s "$p"; exit 0; }; done'


class SwitchTo(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change the account; empty where there is nothing to change."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account: the server's processes, its data and its socket belong to it."""

    name: str
    uid: int
    gid: int

    def switch(self) -> SwitchTo:
        """How to start a process under this account from the one we are in."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def first_unreachable(self, path: Path) -> Path | None:
        """The first of `path`'s parents, or `path` itself, that this account may not enter or execute.

        The kernel is asked, under that account, since mode bits alone say nothing about ACLs.
        """
        if self.uid == os.geteuid():
            return None
        asked = subprocess.run(
            ["/bin/sh", "-c", _SHOW_FIRST_UNREACHABLE, "sh", *_from_root(path)],
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=30,
            check=True,
            **self.switch(),
        )
        return Path(os.fsdecode(asked.stdout)) if asked.stdout else None


def server_account() -> Account:
    """Our own account; for root the one that BALLAST_PGUSER names, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return _own_account()
    wanted = os.environ.get("BALLAST_PGUSER")
    for name in (wanted,) if wanted else ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        raise ServerError(
            f'PostgreSQL does not run as root, and the account "{name}" is root',
            do="Set BALLAST_PGUSER to an unprivileged account.",
        )
    raise ServerError(
        f'PostgreSQL does not run as root, and there is no account "{wanted or "postgres"}" to run it under',
        do="Create an unprivileged account and name it in BALLAST_PGUSER, or run Ballast as another user.",
    )


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a number that no account has
        name = str(uid)
    return Account(name, uid, os.getegid())


def _from_root(path: Path) -> Iterable[str]:
    absolute = path.absolute()
    return [str(p) for p in (*reversed(absolute.parents), absolute)]
