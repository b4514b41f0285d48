"""What is to run, worked out from the settings: folder, database, addresses, and the settings of each half."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity import settings as continuity
from ballast.errors import ConfigError
from ballast.mall import settings as mall
from ballast.mall.settings import Settings
from ballast.postgres import EmbeddedServer
from ballast.postgres.account import server_account
from ballast.supervise import look
from ballast.up import secrets as keys
from ballast.up.settings import Up, load, read_document
from ballast.up.tenants import COUNTERS
from ballast.vault import config
from ballast.vault.config import Config

DATABASE = "mall"
FOLDER = "ballast-data"
_OF_ROOT = Path("/var/lib/ballast")
_OUR_SOCKETS = "/tmp/ballast-pg-"  # noqa: S108 - see EmbeddedServer
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that follows from the settings."""

    config_path: Path
    folder: Path
    up: Up
    embedded: bool
    """The server is one of our own, in `server_dir`."""
    owner_dsn: str
    """Who owns the structure; with its password, if it was given one."""
    mall: Settings
    document: Mapping[str, Any]
    """What the settings file says of the vault's half."""
    demo_password: str
    """See `Secrets.demo`."""
    sea: continuity.Settings
    """What the settings file says of continuity and recovery."""

    @property
    def server_dir(self) -> Path:
        """Where the server of our own lives."""
        return self.folder / "server"

    @property
    def continuity_dir(self) -> Path:
        """Continuity's folder on this machine."""
        return continuity.folder_of(self.sea, self.vault_config(()).state_dir, self.config_path.parent)

    def vault_config(self, shared: Iterable[str]) -> Config:
        """The vault's half of the settings, with what the file does not say. `shared`: tables that belong to no shop."""
        document = {**self.document, "dsn": without_password(self.owner_dsn)}
        document.setdefault("vault", os.environ.get("BALLAST_VAULT") or str(self.folder / "vault"))
        document.setdefault("state_dir", str(self.folder / "recorder"))
        tenants = dict(document.get("tenants", {}))
        tenants.setdefault("column", "shop_id")
        tenants["shared"] = list(dict.fromkeys((*tenants.get("shared", ()), *shared)))
        tenants["counters"] = list(dict.fromkeys((*tenants.get("counters", ()), *COUNTERS)))
        document["tenants"] = tenants
        return config.convert(document, folder=self.config_path.parent, name=str(self.config_path))


def places(config_file: Path | None, folder: Path | None) -> tuple[Path, Path]:
    """Where settings and data are: absolute. A folder that is named has its settings in it, unless they are named."""
    if config_file is None:
        config_file = folder / "ballast.toml" if folder is not None else Path("ballast.toml")
    config_file = config_file.absolute()
    if folder is not None:
        return config_file, Path(os.path.realpath(folder))
    if (config_file.parent / keys.SECRETS_FILE).exists():  # settings that stand in a platform's folder are that one's
        return config_file, Path(os.path.realpath(config_file.parent))
    said = load(read_document(config_file), {}, str(config_file)).folder
    if said:
        return config_file, Path(os.path.realpath(config_file.parent / Path(said).expanduser()))
    folder = Path(os.path.realpath(config_file.parent / FOLDER))
    # Root hands the server to another account, which may not enter root's own folders.
    reachable = folder.exists() or server_account().first_unreachable(config_file.parent) is None
    return config_file, folder if reachable else _OF_ROOT


def resolve(config_file: Path | None, folder: Path | None, said: Mapping[str, object]) -> Platform:
    """All of it. Makes the folder with its secrets, and nothing else; ConfigError."""
    config_path, folder = places(config_file, folder)
    document = read_document(config_path)
    up = load(document, said, str(config_path))
    sea = continuity.load(document, str(config_path))
    make_folder(folder)
    secret = keys.of_folder(folder)
    server = EmbeddedServer(folder / "server", major=up.postgres)
    own = server.dsn(DATABASE)
    given = os.environ.get("BALLAST_DSN") or document.get("mall", {}).get("owner_dsn") or document.get("dsn")
    written = str(document.get("dsn", ""))
    if not _is_former_place(written, folder):
        _refuse_another(str(given or ""), written, config_path)
    embedded = not given or given == own or _is_former_place(str(given), folder)
    owner_dsn = own if embedded else str(given)
    base = _address(up.host, up.port)
    found = mall.load(
        config_path,
        defaults={
            "app_dsn": _as(owner_dsn, "mall_app", secret.mall_app),
            "identity_dsn": _as(owner_dsn, "mall_identity", secret.mall_identity),
            "platform_dsn": _as(owner_dsn, "mall_platform", secret.mall_platform),
            "secret": secret.secret,
            "pictures": str(folder / "pictures"),
            "base_url": base,
            "sandbox_url": _address(up.sandbox_host, up.sandbox_port),
            "sandbox_file": str(folder / "sandbox.sqlite"),
        },
    )
    found = mall.with_owner(found, owner_dsn)
    rest = {name: value for name, value in document.items() if name not in ("up", "mall", "continuity", "recovery")}
    platform = Platform(config_path, folder, up, embedded, owner_dsn, found, rest, secret.demo, sea)
    if sea.continuity.enabled and not found.continuity:
        return replace(platform, mall=mall.with_continuity(found, str(platform.continuity_dir)))
    return platform


def mall_settings(config_file: Path) -> Settings:
    """The mall's half for a command beside a platform that runs: as the file and the environment say it, or else as `ballast up`
    gives it to the platform's processes. ConfigError."""
    document = read_document(config_file)
    if "app_dsn" in document.get("mall", {}) or mall.variable("app_dsn") in os.environ:
        return mall.load(config_file)
    path, folder = places(config_file, None)
    if not (folder / keys.SECRETS_FILE).exists():
        raise ConfigError(
            f"Nothing says where the mall's database is: {config_file} has no [mall] app_dsn, and no platform is in {folder}.",
            "Start one with `ballast up`, or name its settings with --config.",
        )
    found = resolve(path, folder, {}).mall
    running = look(folder)
    # Where it really is, whatever its command line said.
    at = {part.name: part.address for part in running.parts} if running else {}
    return msgspec.structs.replace(
        found, base_url=at.get("web") or found.base_url, sandbox_url=at.get("sandbox") or found.sandbox_url
    )


def make_folder(folder: Path) -> None:
    """For this account alone; where the server runs under another, that one may pass through."""
    mode = 0o700 if server_account().uid == os.geteuid() else 0o711
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o755)
            folder.chmod(mode)
        elif mode == 0o711 and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o111)
    except OSError as error:
        raise ConfigError(
            f"the folder {folder} cannot be made: {error.strerror or error}.", "Choose another with --folder."
        ) from error


def _refuse_another(given: str, written: str, config_path: Path) -> None:
    """ConfigError where the environment names another database than the one that is protected: that is a person's to decide."""
    if not given or not written:
        return
    one, other = (conninfo_to_dict(without_password(dsn)) for dsn in (given, written))
    if one != other:
        raise ConfigError(
            f"{config_path} says dsn = {without_password(written)!r}, and BALLAST_DSN (or [mall] owner_dsn) another.",
            "Correct one of them. If the database has moved, run `ballast protect` with the new DSN, which tells whether its"
            " record goes on.",
        )


def without_password(dsn: str) -> str:
    """The DSN as it may be written down."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "The DSN cannot be understood.",
            'Write it as "host=db dbname=mall user=postgres" or postgresql://postgres@db/mall.',
        ) from None
    if not config.has_password(dsn):
        return dsn
    return make_conninfo("", **{name: value for name, value in parts.items() if not config.is_secret(name)})


def password_of(dsn: str) -> str:
    """The password in a DSN, "" where there is none."""
    return str(conninfo_to_dict(dsn).get("password") or "")


def _as(dsn: str, role: str, password: str) -> str:
    try:
        return make_conninfo(dsn, user=role, password=password)
    except psycopg.ProgrammingError:
        without_password(dsn)  # says it better
        raise


def _is_former_place(dsn: str, folder: Path) -> bool:
    """The server of our own, whose folder was moved since its DSN was written down."""
    if not (folder / "server" / "pgdata").exists():
        return False
    try:
        return str(conninfo_to_dict(dsn).get("host") or "").startswith(_OUR_SOCKETS)
    except psycopg.ProgrammingError:
        return False


def _address(host: str, port: int) -> str:
    host = _ANY.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"
