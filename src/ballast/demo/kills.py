"""Many small replays, in each of which somebody kills: whatever dies when, nothing is lost and every shop comes home.

    python -m ballast.demo.kills --runs 50 --from-seed 1

A line a run. What has run stands in the folder `--out`, a file a seed, so that a command that was ended goes on where it was;
what another version of the code has run is run again.
Exit code 1 where a run broke a promise or did not end; how to repeat it is said.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import IO

import msgspec

import ballast
from ballast.demo.report.document import Document
from ballast.demo.stage import is_free
from ballast.demo.wanted import How, Victim

KILLS = 3
_SMALL = ("--shops", "8", "--orders", "1.5", "--views", "8", "--before", "5", "--after", "8")
_PATIENCE_S, _RUN_S, _END_S = 240.0, 1200.0, 120.0
_SET_UPS, _NOT_SET_UP = 2, b"StageError"
"""So often a platform is set up that could not be, and what the replay says then."""
_PACKAGE = Path(ballast.__file__).parent
_SOURCES = (".py", ".sql", ".html", ".js", ".css", ".toml")
_PORTS = 21_000
"""From here on; two a run."""
_HOWS: tuple[How, ...] = ("rows", "files", "both")
"""Those by which something is lost."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one run went."""

    seed: int
    how: How
    failed: tuple[str, ...]
    """Promises that were broken; or what else went wrong."""
    took_s: float
    killed: str
    """Who, and when."""
    code: str = ""
    """Fingerprint of what ran."""


def fingerprint(package: Path) -> str:
    """SHA-256 over the source files of a package, their names and what they hold."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.suffix in _SOURCES:
            held = path.read_bytes()
            digest.update(f"{path.relative_to(package)}\0{len(held)}\0".encode() + held)
    return digest.hexdigest()


def arguments(seed: int) -> list[str]:
    """Of `ballast demo`, for the run of this seed. Each way of the engineer in turn."""
    whoever = [word for victim in Victim for word in ("--kill", victim.value)]
    how = _HOWS[seed % len(_HOWS)]
    patience = ("--patience", f"{_PATIENCE_S:g}")
    return ["demo", *_SMALL, "--how", how, *whoever, "--kills", str(KILLS), *patience, "--seed", str(seed)]


def judge(seed: int, code: int | None, document: Document | None, took_s: float) -> Verdict:
    """What came of it. `code` None: it had to be ended."""
    how = _HOWS[seed % len(_HOWS)]
    if code is None:
        return Verdict(seed=seed, how=how, failed=(f"did not end within {_RUN_S:.0f} s",), took_s=took_s, killed="")
    if document is None:
        return Verdict(seed=seed, how=how, failed=(f"ended with {code}",), took_s=took_s, killed="")
    killed = ", ".join(f"{one.victim} {one.after_s:+.1f} s" for one in document.killed)
    failed = tuple(document.failed) or ((f"ended with {code}",) if code else ())
    return Verdict(seed=seed, how=how, failed=failed, took_s=took_s, killed=killed)


def line(verdict: Verdict) -> str:
    """For people."""
    result = "BROKEN " + ", ".join(verdict.failed) if verdict.failed else "kept"
    return (
        f"seed {verdict.seed:<4} {verdict.how:<5} {verdict.took_s:4.0f} s  {result}  (killed: {verdict.killed or '?'})"
    )


class Runs:
    """Those of one command."""

    def __init__(self, out: Path) -> None:
        self._out, self._code = out, fingerprint(_PACKAGE)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._port = _PORTS
        self.is_over = False

    def known(self, seed: int) -> Verdict | None:
        """Of an earlier command, by the code of now."""
        try:
            found = msgspec.json.decode((self._out / f"{seed}.verdict").read_bytes(), type=Verdict)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if found.code == self._code else None

    def run(self, seed: int) -> Verdict | None:
        """One. None: it was stopped."""
        for left in reversed(range(_SET_UPS)):
            if self.is_over:
                return None
            begun = time.monotonic()
            code, document = self._play(seed)
            if left and not self.is_over and document is None and _NOT_SET_UP in self._log(seed).read_bytes():
                continue  # nothing was lost and nobody was killed yet
            break
        if self.is_over:
            return None
        verdict = judge(seed, code, document, round(time.monotonic() - begun, 1))
        self.keep(verdict)
        return verdict

    def keep(self, verdict: Verdict) -> None:
        """For the next command."""
        of_now = msgspec.structs.replace(verdict, code=self._code)
        (self._out / f"{verdict.seed}.verdict").write_bytes(msgspec.json.encode(of_now))

    def _log(self, seed: int) -> Path:
        return self._out / f"{seed}.log"

    def _play(self, seed: int) -> tuple[int | None, Document | None]:
        told = self._out / f"{seed}.json"
        told.unlink(missing_ok=True)
        files = ("--json", str(told), "--report", str(told.with_suffix(".html")))
        with self._log(seed).open("wb") as log:
            process = self._start([*arguments(seed), *files], log)
            try:
                code: int | None = process.wait(_RUN_S)
            except subprocess.TimeoutExpired:
                code = None
                _end(process)
            finally:
                with self._lock:
                    self._running.discard(process)
        return code, msgspec.json.decode(told.read_bytes(), type=Document) if told.exists() else None

    def stop(self) -> None:
        """Those that run end in order, and no other begins. May be called by a signal's handler."""
        self.is_over = True
        for process in list(self._running):
            process.send_signal(signal.SIGTERM)

    def _start(self, said: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            self._port += 2
            while not (is_free(self._port) and is_free(self._port + 1)):
                self._port += 2
            process = subprocess.Popen(
                [sys.executable, "-m", "ballast.cli", *said, "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is ours
            )
            self._running.add(process)
        if self.is_over:
            process.send_signal(signal.SIGTERM)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def play(runs: Runs, seeds: Iterable[int], at_once: int) -> list[Verdict]:
    """Run them, each told as it ends."""
    verdicts: list[Verdict] = []
    wanted = []
    for seed in seeds:
        known = runs.known(seed)
        if known is None:
            wanted.append(seed)
        else:
            verdicts.append(known)
            print(line(known), " [earlier]", flush=True)
    with ThreadPoolExecutor(at_once) as crew:
        for done in as_completed([crew.submit(runs.run, seed) for seed in wanted]):
            if (verdict := done.result()) is not None:
                verdicts.append(verdict)
                print(line(verdict), flush=True)
    return verdicts


def main() -> int:
    """0: every promise was kept in every run; 1: not so; 130: it was ended before its end."""
    parser = argparse.ArgumentParser(prog="python -m ballast.demo.kills", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--from-seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="so many side by side")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out/kills"), help="what this code has run is not run again"
    )
    said = parser.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    runs = Runs(said.out)

    def told(number: int, frame: FrameType | None) -> None:
        runs.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    seeds = range(said.from_seed, said.from_seed + said.runs)
    verdicts = play(runs, seeds, said.at_once)
    broken = [verdict for verdict in verdicts if verdict.failed]
    for verdict in broken:
        print(f"again: ballast {shlex.join(arguments(verdict.seed))}")
    print(f"{len(verdicts)} of {said.runs} runs, {len(broken)} with broken promises")
    if broken:
        return 1
    return 0 if len(verdicts) == said.runs else 130


if __name__ == "__main__":
    sys.exit(main())
