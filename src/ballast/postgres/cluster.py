"""PostgreSQL's data folder: made whole or not at all, and looked at before it is used."""

import os
import shutil
import subprocess
from pathlib import Path

from ballast.errors import ServerError
from ballast.postgres.account import Account
from ballast.postgres.binaries import bin_dir_for

SUPERUSER = "postgres"


def check(pgdata: Path, major: int, account: Account) -> bool:
    """Whether there is a database in the folder; ServerError if there is something that cannot be used."""
    if (pgdata.parent / "PG_VERSION").exists():
        raise ServerError(
            f"{pgdata.parent} is a data folder that PostgreSQL's own tools made",
            do="Choose another folder: the server keeps its data in a folder pgdata inside it.",
        )
    if not pgdata.exists() or not any(pgdata.iterdir()):
        return False
    try:
        found = (pgdata / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise ServerError(
            f"{pgdata} is not empty and holds no database",
            do="Move away what is in it, or choose another folder.",
        ) from None
    if found != str(major):
        raise ServerError(
            f"{pgdata.parent} holds a database of PostgreSQL {found}, and PostgreSQL {major} was asked for",
            do=f"Start it with PostgreSQL {found}; to change over, restore it into a new folder.",
        )
    owner = pgdata.stat().st_uid
    if owner != account.uid:
        raise ServerError(
            f"{pgdata} belongs to user number {owner}, and PostgreSQL would run here under the account "
            f"{account.name} (number {account.uid})",
            do=f"Start as the user it belongs to, or give it away: chown -R {account.uid} {pgdata}",
        )
    return True


def make(pgdata: Path, major: int, account: Account, lock: int) -> None:
    """Run initdb: UTF8, text sorted by code point, data checksums, a superuser `postgres`.

    It works beside the place and is moved there when all is synced to disk. (That costs some 50 ms of 400; a
    folder that loses files with the power would cost more.) initdb keeps the file descriptor `lock`: should
    we be killed, nobody else begins before it has ended.
    """
    unfinished = pgdata.with_name(f"{pgdata.name}.new")
    initdb = bin_dir_for(account, major) / "initdb"
    for locale in _locales(major):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, account.uid, account.gid)
        arguments = ["-D", str(unfinished), "-U", SUPERUSER, "--encoding=UTF8", *locale]
        # Trust whoever can enter the socket's folder; were TCP opened, nobody without a password.
        arguments += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        arguments += ["--data-checksums", "--no-instructions"]
        done = subprocess.run(
            # In place of a lost server it is made beside everybody who goes on elsewhere.
            ["nice", "-n", "10", str(initdb), *arguments],
            cwd=pgdata.parent,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            check=False,
            **account.switch(),
        )
        if done.returncode == 0 or b"invalid locale" not in done.stdout:
            break
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ServerError(
            f"initdb of PostgreSQL {major} failed in {pgdata.parent}:\n{indented(done.stdout)}",
            do="Correct what it complains about, then start again; nothing was left behind.",
        )
    _append(unfinished / "postgresql.conf", "\ninclude '../settings.conf'\n")
    unfinished.rename(pgdata)
    _sync_folder(pgdata.parent)


def environment() -> dict[str, str]:
    """Nothing of ours, above all no PG* variables and no secrets; LC_ALL keeps macOS from starting
    threads."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def indented(output: bytes, *, lines: int = 20) -> str:
    """The last lines of what a program said, set off to stand in a message."""
    tail = output.decode(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in tail) or "    (it said nothing)"


def _locales(major: int) -> list[tuple[str, ...]]:
    if major >= 17:
        return [("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")]
    return [("--locale=C.UTF-8",), ("--locale=C",)]  # not every C library knows the first


def _append(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
