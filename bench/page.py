"""Puts the figures of `bench/results` into `docs/benchmarks.md`, between the marks of each measurement; the words around stay."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
PAGE = _HERE.parent / "docs" / "benchmarks.md"


def table(found: dict[str, Any]) -> str:
    """One measurement as Markdown: when, on what, by which command, the figures."""
    on = found["machine"]
    said = f"{found['measured_at'][:16].replace('T', ' ')} UTC, commit {found['commit']}, {on['cores']} cores ({on['cpu']}), "
    said += f"{on['memory_gib']} GiB, Python {on['python']}: `{found['command']}`"
    rows = [found["columns"], ["---"] * len(found["columns"]), *found["rows"]]
    return said + "\n\n" + "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def main() -> None:
    """Rewrite the page."""
    page = PAGE.read_text()
    for path in sorted((_HERE / "results").glob("*.json")):
        marked = re.compile(rf"(<!-- {path.stem} -->\n).*?(<!-- end -->)", re.DOTALL)
        shown = table(json.loads(path.read_text()))
        page = marked.sub(lambda found, shown=shown: f"{found[1]}{shown}\n{found[2]}", page)  # type: ignore[misc]
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
