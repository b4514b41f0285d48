"""`python -m bench [NAME …] [--option …]`: options, such as `physical --sizes 0.5,1`, go to each measurement named."""

from __future__ import annotations

import subprocess
import sys

from bench import page

ALL = (
    "seal",
    "ddl",
    "tpcb",
    "restore",
    "recover",
    "rewind",
    "physical",
    "checkout",
    "vendure",
    "pages",
    "overload",
)
DEFAULT = tuple(name for name in ALL if name != "physical")
"""What `make bench` runs: the physical backup wants 25 GB of room."""


def main() -> int:
    """Runs each measurement in a process of its own, one after the other."""
    given = sys.argv[1:]
    first_option = next((n for n, word in enumerate(given) if word.startswith("-")), len(given))
    names, more = given[:first_option] or DEFAULT, given[first_option:]
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no measurement {', '.join(unknown)}: there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    worst = max(
        subprocess.run([sys.executable, "-m", f"bench.{name}", *more], check=False).returncode for name in names
    )
    page.main()
    return worst


if __name__ == "__main__":
    sys.exit(main())
