"""What the recorder must know of the vault before it begins: which history it continues, and how far that is kept.

Asked in a process of its own, so that the libraries that read a vault are never loaded where commits wait:

    python -m ballast.vault.origin --config ballast.toml

prints one JSON object, an `Answer`. The recorder keeps the last one in `origin.json`, and needs the vault only where
its spool is empty.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ballast.errors import BallastError, ConfigError, StoreError
from ballast.vault import config
from ballast.vault.continuation import Origin
from ballast.vault.durable import keep_private

if TYPE_CHECKING:
    from ballast.vault.index import VaultIndex

ORIGIN_FILE = "origin.json"
BEGUN_FILE = "begun.json"
"""The origin of a history that `protect` has just begun: the recorder that begins to record it need not ask the vault first."""


class Answer(msgspec.Struct, frozen=True):
    """Either the origin, or why there is none."""

    origin: Origin | None = None
    what: str = ""
    do: str = ""
    passing: bool = False
    """The store does not answer: asking again later helps."""


def asking(config_path: Path) -> subprocess.Popen[bytes]:
    """A process that asks the vault; `answer_of` reads it."""
    return subprocess.Popen(
        [sys.executable, "-m", "ballast.vault.origin", "--config", str(config_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )


def answer_of(process: subprocess.Popen[bytes], timeout_s: float = 600.0) -> Origin:
    """The vault's answer. StoreError where asking again helps, ConfigError where it does not."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise StoreError(f"The vault did not answer in {timeout_s:.0f} s.", "The recorder asks again.") from None
    try:
        answer = msgspec.json.decode(output, type=Answer)
    except msgspec.DecodeError:
        raise StoreError(
            f"The process that asks the vault ended with code {process.returncode}.", "Its own message stands above."
        ) from None
    if answer.origin is None:
        raise (StoreError if answer.passing else ConfigError)(answer.what, answer.do)
    return answer.origin


def find(settings: config.Config) -> Origin:
    """Read the ledger: the newest timeline of the vault. ConfigError where nothing is protected yet, StoreError."""
    from ballast.vault.vault import Vault

    return of(Vault.open(settings.vault, state_dir=settings.state_dir).index)


def of(index: VaultIndex) -> Origin:
    """The newest timeline, and the cut from which the recorder must go on where its spool is empty."""
    timeline = index.timelines[index.newest_timeline]
    until = recorded_until(index, timeline.timeline)
    return Origin(
        vault_id=index.genesis.vault_id,
        timeline=timeline.timeline,
        system_identifier=timeline.system_identifier,
        database=timeline.database,
        recorded_until=until,
    )


def recorded_until(index: VaultIndex, timeline: int) -> int:
    """The cut up to which the stream is sealed, or given up for lost in a gap that is closed."""
    until = max([index.timelines[timeline].start_lsn, *(s.last_lsn for s in index.segments_of(timeline))])
    # Not an image's position: what was committed before it and is not sealed can still be had from the server.
    for gap in sorted(index.gaps.values(), key=lambda gap: gap.from_lsn):
        if gap.timeline == timeline and gap.relations is None and gap.to_lsn and gap.from_lsn <= until:
            until = max(until, gap.to_lsn)
    return until


def main() -> None:
    """`python -m ballast.vault.origin`."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.vault.origin")
    parser.add_argument("--config", type=Path, required=True)
    settings = config.load(parser.parse_args().config)
    try:
        answer = Answer(origin=find(settings))
    except BallastError as error:
        passing = isinstance(error, StoreError)
        answer = Answer(what=error.what, do=error.do, passing=passing)
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


if __name__ == "__main__":
    main()
