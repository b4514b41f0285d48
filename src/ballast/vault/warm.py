"""`python -m ballast.vault.warm`: compile every kernel once, so that no first segment or restore waits for it."""

from __future__ import annotations

import sys
import time

from ballast.postgres import checksum, copylines, rowkernel
from ballast.postgres.compiled import compile_all
from ballast.vault import layout, order

KERNELS_IN = (checksum, copylines, rowkernel, layout, order)


def main() -> None:
    """Says how many and how long."""
    started = time.monotonic()
    count = compile_all()
    sys.stdout.write(f"{count} kernels in {len(KERNELS_IN)} modules, {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main()
