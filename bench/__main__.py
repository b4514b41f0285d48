"""`python -m bench [NAME …]`."""

from __future__ import annotations

import subprocess
import sys

from bench import page

ALL = ("seal", "ddl", "tpcb", "restore", "recover", "rewind")


def main() -> int:
    """Runs each measurement in a process of its own, one after the other."""
    names = sys.argv[1:] or ALL
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no measurement {', '.join(unknown)}: there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    worst = max(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode for name in names)
    page.main()
    return worst


if __name__ == "__main__":
    sys.exit(main())
