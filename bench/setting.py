"""What the measurements have in common: a folder, embedded servers in it, the `ballast` command, a running recorder."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ballast.postgres import EmbeddedServer, connect
from ballast.postgres.account import Account, SwitchTo


class Setting:
    """One folder with all that a measurement needs; everything started in it ends with `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: list[EmbeddedServer] = []
        self._children: list[subprocess.Popen[bytes]] = []

    def server(self, name: str, **settings: str) -> EmbeddedServer:
        """A started server with a data folder of its own."""
        made = EmbeddedServer(self.folder / name, settings=settings)
        self._servers.append(made)
        made.start()
        return made

    def ballast(self, *arguments: str) -> float:
        """A command as a user would run it; seconds."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "ballast.cli", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"ballast {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
        return time.monotonic() - started

    def protect(self, dsn: str, tenant_column: str, name: str) -> Path:
        """Protects into a vault `name` of this folder; the settings file."""
        config = self.folder / f"{name}.toml"
        self.ballast(
            "protect", dsn, "--vault", str(self.folder / name), "--tenant-column", tenant_column,
            "--config", str(config), "--state-dir", str(self.folder / f"{name}-state"),
        )  # fmt: skip
        return config

    def start(self, command: list[str], log: str, account: Account | None = None) -> subprocess.Popen[bytes]:
        """A process that is ended with the rest; under another account, if one is given."""
        switch: SwitchTo = {} if account is None else account.switch()
        with (self.folder / log).open("ab") as output:
            child = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT, **switch)
        self._children.append(child)
        return child

    def record(self, config: Path) -> subprocess.Popen[bytes]:
        """`ballast record`."""
        return self.start([sys.executable, "-m", "ballast.cli", "record", "--config", str(config)], "recorder.log")

    def end(self) -> None:
        """Stops all that was started."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
        for server in self._servers:
            server.discard()


def until_synchronous(dsn: str, name: str, timeout_s: float = 60.0) -> None:
    """Waits until commits wait for this standby."""
    deadline = time.monotonic() + timeout_s
    query = "SELECT FROM pg_stat_replication WHERE application_name = %s AND sync_state IN ('sync', 'quorum')"
    with connect(dsn) as conn:
        while conn.execute(query, [name]).fetchone() is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not become a synchronous standby in {timeout_s:.0f} s")
            time.sleep(0.1)


def folder_bytes(folder: Path) -> int:
    """The size of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stop(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and wait."""
    child.send_signal(signal.SIGTERM)
    child.wait(300)


@contextlib.contextmanager
def setting() -> Iterator[Setting]:
    """A fresh `Setting`, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ballast-bench-"))
    folder.chmod(0o755)
    made = Setting(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
