"""What the event triggers cost a change of structure: CREATE, ALTER and DROP TABLE on a protected server and on a bare one."""

from __future__ import annotations

import statistics
import sys
import time

from ballast.postgres import EmbeddedServer, connect
from bench.results_file import keep
from bench.setting import setting

_TABLES = 200
_ROUNDS = 3
_STEPS = (
    "CREATE TABLE public.t{n} (shop int, id int, name text, PRIMARY KEY (shop, id))",
    "ALTER TABLE public.t{n} ADD COLUMN price numeric",
    "DROP TABLE public.t{n}",
)


def run(server: EmbeddedServer) -> list[float]:
    """Milliseconds of each step, the mean of all tables."""
    taken = []
    with connect(server.dsn()) as conn:
        conn.execute("SET synchronous_commit = local")
        for step in _STEPS:
            started = time.perf_counter()
            for n in range(_TABLES):
                conn.execute(step.format(n=n))  # type: ignore[arg-type]
            taken.append((time.perf_counter() - started) / _TABLES * 1e3)
    return taken


def main() -> int:
    """Measure; there is nothing to reach."""
    with setting() as here:
        bare, ours = here.server("bare"), here.server("protected")
        with connect(ours.dsn()) as conn:
            conn.execute("CREATE TABLE public.item (shop int PRIMARY KEY)")
        here.protect(ours.dsn(), "shop", "vault")
        for server in (bare, ours):
            run(server)
        rounds = [(run(bare), run(ours)) for _ in range(_ROUNDS)]
    rows = []
    for number, step in enumerate(_STEPS):
        theirs = statistics.median(r[0][number] for r in rounds)
        mine = statistics.median(r[1][number] for r in rounds)
        rows.append(
            (step.split(" public", maxsplit=1)[0], f"{theirs:.2f} ms", f"{mine:.2f} ms", f"{mine / theirs:.2f}")
        )
    keep("ddl", "make bench (python -m bench ddl)", ("statement", "bare", "protected", "ratio"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
