"""`python -m ballast.demo`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ballast.demo import proof
from ballast.demo.proof import Claim
from ballast.demo.visitors import Visitors
from ballast.postgres import EmbeddedServer, connect, format_lsn, snapshot_at_cut, tool
from ballast.recovery import Tally

TENANT = 7
ACCOUNTS = 1_000
FILL = (
    "INSERT INTO public.pgbench_branches (bid, bbalance) SELECT b, 0 FROM generate_series(1, %(tenants)s) b",
    "INSERT INTO public.pgbench_tellers (tid, bid, tbalance)"
    " SELECT (b - 1) * 10 + t, b, 0 FROM generate_series(1, %(tenants)s) b, generate_series(1, 10) t",
    "INSERT INTO public.pgbench_accounts (aid, bid, abalance, filler)"
    " SELECT (b - 1) * %(accounts)s + a, b, 0, '' FROM generate_series(1, %(tenants)s) b, generate_series(1, %(accounts)s) a",
)
say = Console(highlight=False).print


class Demonstration:
    """One run in one folder; `main` goes through its steps in order and removes the folder at the end."""

    def __init__(self, folder: Path, *, scale: int, clients: int, seconds: int) -> None:
        self.folder, self.scale, self.clients, self.seconds = folder, scale, clients, seconds
        self.production = EmbeddedServer(folder / "production")
        self.restored = EmbeddedServer(folder / "restored")
        self.alone = EmbeddedServer(folder / "alone")
        self.vault = folder / "vault"
        self.config = folder / "ballast.toml"
        self.children: list[subprocess.Popen[bytes]] = []
        self.recorder: subprocess.Popen[bytes] | None = None
        self.figures: list[tuple[str, str]] = []
        self.visits_were_whole = False

    def ballast(self, *arguments: str) -> float:
        """Runs a command as a user would; its output is shown. Seconds that it took; exits when it fails."""
        say(f"[bold]$ ballast {' '.join(arguments).replace(str(self.folder) + '/', '')}[/bold]")
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "ballast.cli", *arguments], cwd=self.folder, check=False)
        if done.returncode:
            raise SystemExit(f"ballast {arguments[0]} ended with exit code {done.returncode}")
        return time.monotonic() - started

    def build(self) -> None:
        """A production database of `scale` tenants."""
        self.production.start()
        say(f"production: PostgreSQL 18, pgbench's tables for {self.scale} tenants of {ACCOUNTS:,} accounts")
        pgbench = [str(tool("pgbench", 18)), "-i", "-q", "-d", self.production.dsn()]
        subprocess.run([*pgbench, "-I", "t"], check=True, stderr=subprocess.DEVNULL)
        with connect(self.production.dsn()) as conn:
            for statement in FILL:
                conn.execute(statement.encode(), {"tenants": self.scale, "accounts": ACCOUNTS})
        subprocess.run([*pgbench, "-I", "p"], check=True, stderr=subprocess.DEVNULL)

    def protect(self) -> None:
        """First image under the slot's snapshot, then the recorder."""
        took = self.ballast(
            "protect",
            self.production.dsn(),
            "--vault",
            str(self.vault),
            "--tenant-column",
            "bid",
            "--config",
            str(self.config),
        )
        self.figures.append(("protect, first image included", f"{took:.1f} s"))
        self.recorder = self._start(
            [sys.executable, "-m", "ballast.cli", "record", "--config", str(self.config)], "recorder.log"
        )
        self._wait_until_synchronous()

    def _wait_until_synchronous(self) -> None:
        deadline = time.monotonic() + 60
        with connect(self.production.dsn()) as conn:
            while time.monotonic() < deadline:
                row = conn.execute(
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"
                ).fetchone()
                if row and row[0]:
                    return
                time.sleep(0.1)
        raise SystemExit(
            f"the recorder did not become a synchronous standby within a minute: see {self.folder}/recorder.log"
        )

    def load(self) -> tuple[int, dict[str, Tally]]:
        """Clients commit; in the middle the state of one tenant is noted. Returns that position and state."""
        say(f"load: {self.clients} clients for {self.seconds} s; after {self.seconds - 60} s tenant {TENANT} is noted")
        for number in range(self.clients):
            self._start(
                [
                    sys.executable,
                    "-m",
                    "ballast.demo.clients",
                    self.production.dsn(),
                    str(number),
                    str(self.scale),
                    str(ACCOUNTS),
                    str(self._journal(number)),
                ],
                f"client-{number}.log",
            )
        time.sleep(max(1, self.seconds - 60))
        with snapshot_at_cut(self.production.dsn()) as (conn, cut):
            noted = proof.tenant_tallies(conn, TENANT)
        say(f"  noted at {format_lsn(cut)}: {sum(tally.rows for tally in noted.values()):,} rows of tenant {TENANT}")
        time.sleep(min(60, self.seconds))
        return cut, noted

    def destroy(self) -> float:
        """SIGKILL to every process of the server, its folder removed. The moment, by the monotonic clock."""
        say("[bold red]SIGKILL to the server, and its data folder is removed[/bold red]")
        self.production.kill()
        shutil.rmtree(self.folder / "production")
        return time.monotonic()

    def bring_back(self, lost_at: float) -> None:
        """The recorder is stopped cleanly (it seals what it holds), and the platform recovered on a new server, under visits."""
        assert self.recorder is not None
        self.recorder.send_signal(signal.SIGTERM)
        if self.recorder.wait(timeout=120):
            raise SystemExit(
                f"the recorder ended with exit code {self.recorder.returncode}: see {self.folder}/recorder.log"
            )
        sealed_s = time.monotonic() - lost_at
        self.restored.start()
        answered_s = time.monotonic() - lost_at
        say("a visitor for a random tenant every 10 ms, while the platform comes back")
        with Visitors(self.restored.dsn(), self.scale, lost_at) as visitors:
            took = self.ballast("recover", "--vault", str(self.vault), "--into", self.restored.dsn())
        back_s = time.monotonic() - lost_at
        self.visits_were_whole = not visitors.problems
        if visitors.problems:
            say(f"visitors met problems: {visitors.problems[:3]}")
        first = visitors.first_served_s
        self.figures += [
            ("from loss until the last commit is in the vault", f"{sealed_s:.1f} s"),
            ("from loss until the new server answered", f"{answered_s:.1f} s"),
            ("from loss until the first tenant was served", "nobody was" if first is None else f"{first:.1f} s"),
            ("first visits to tenants not yet back", _waits(visitors.first_visits_s)),
            ("recover, until all are back and proven", f"{took:.1f} s"),
            ("from loss until all are back and proven", f"{back_s:.1f} s"),
        ]

    def bring_back_one(self, cut: int) -> None:
        """One tenant alone, as it was at the noted position, into another empty server."""
        self.alone.start()
        took = self.ballast(
            "restore",
            "--vault",
            str(self.vault),
            "--into",
            self.alone.dsn(),
            "--tenant",
            str(TENANT),
            "--at",
            f"1/{format_lsn(cut)}",  # a position of before the loss: the recovered server has a timeline of its own
        )
        self.figures.append((f"restore of tenant {TENANT} alone, structure included", f"{took:.1f} s"))

    def prove(self, noted: dict[str, Tally]) -> list[Claim]:
        """Every claim of the report."""
        acknowledged = proof.read_journals(self._journal(number) for number in range(self.clients))
        waits = sorted(acknowledged.values())
        rate = len(waits) / self.seconds
        self.figures.insert(1, ("commits under load", f"{rate:,.0f}/s, p50 {waits[len(waits) // 2] * 1e3:.1f} ms"))
        return [
            proof.Claim("whoever was served was served whole", "every visit", self.visits_were_whole),
            proof.nothing_lost(self.restored.dsn(), acknowledged),
            proof.sums_agree(self.restored.dsn()),
            proof.tenant_equals(self.alone.dsn(), TENANT, noted),
        ]

    def end(self) -> None:
        """Stops all that was started."""
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
        for server in (self.production, self.restored, self.alone):
            server.discard()

    def _journal(self, number: int) -> Path:
        return self.folder / f"client-{number}.journal"

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as output:
            child = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT)
        self.children.append(child)
        return child


def _waits(seconds: list[float]) -> str:
    if not seconds:
        return "none: all were back before anybody came"
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"{len(ordered):,}, p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms"


def report(figures: list[tuple[str, str]], claims: list[Claim]) -> None:
    """The figures, then each promise with what was seen."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, figure in figures:
        table.add_row(name, figure)
    for claim in claims:
        mark = "[green]kept  [/green]" if claim.kept else "[bold red]BROKEN[/bold red]"
        table.add_row(f"{mark} {claim.promise}", claim.seen)
    say()
    say(table)


def main() -> int:
    """Exit code 0 when every promise was kept, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="ballast.demo", description=__doc__)
    parser.add_argument("--scale", type=int, default=500, help="tenants (at least 7)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=70, help="how long the load lasts, more than 60")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    options = parser.parse_args()
    if options.scale < TENANT or options.seconds <= 60:
        parser.error("the demonstration needs --scale 7 or more and --seconds above 60")
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="ballast-demo-"))
    folder.chmod(0o755)
    demonstration = Demonstration(folder, scale=options.scale, clients=options.clients, seconds=options.seconds)
    try:
        demonstration.build()
        demonstration.protect()
        cut, noted = demonstration.load()
        lost_at = demonstration.destroy()
        demonstration.bring_back(lost_at)
        demonstration.bring_back_one(cut)
        claims = demonstration.prove(noted)
        report(demonstration.figures, claims)
        say(f"{time.monotonic() - started:.0f} s in all")
        return 0 if all(claim.kept for claim in claims) else 1
    except BaseException as failure:
        if not isinstance(failure, KeyboardInterrupt | SystemExit):
            say(f"[bold red]the demonstration failed:[/bold red] {failure}")
        _show_log(folder / "recorder.log")
        raise
    finally:
        demonstration.end()
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _show_log(log: Path) -> None:
    if log.exists():
        say("the recorder's last lines:")
        sys.stdout.write(os.linesep.join(log.read_text(errors="replace").splitlines()[-10:]) + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
