"""What every measurement does with its figures: a table for people, a JSON file for `docs/benchmarks.md`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }


def keep(name: str, command: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **more: Any) -> None:
    """Prints the rows and writes `bench/results/<name>.json`."""
    _RESULTS.mkdir(exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=_RESULTS
    ).stdout.strip()
    document = {
        "name": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "command": command,
        "machine": machine(),
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        **more,
    }
    (_RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    print(f"\n{name}  ({command})")
    for line in (columns, *rows):
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)))
