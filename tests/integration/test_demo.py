"""The replay, small: a few shops, a few shoppers, everything deleted and removed. What it promises whatever the machine is kept.

How quickly shops go on is measured by the replay itself, on a machine that has nothing else to do.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

WHATEVER_THE_MACHINE = (
    "no acknowledged order is lost",
    "no order is there twice",
    "orders have the goods, total and number that their shoppers saw",
    "every payment is booked, once",
    "what merchants saved is there",
    "stock is the sum of its movements, the books balance",
    "every shop equals the record, row by row",
    "every shop is what it was before",
)


def test_nothing_is_lost_or_doubled_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    report = tmp_path / "replay.html"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ballast.cli", "demo", "--shops", "6", "--before", "5", "--after", "6"),
            *("--orders", "2", "--views", "2", "--port", str(port), "--report", str(report), "--seed", "5"),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    kept = re.findall(r"^(kept|BROKEN)\s+(.*?)(?:\s{2,}|$)", done.stdout, flags=re.MULTILINE)
    assert {promise for how, promise in kept if how == "kept"} >= set(WHATEVER_THE_MACHINE), done.stdout
    assert "all shops are home and merged" in done.stdout
    page = report.read_text()
    assert page.count("<svg") >= 4
    assert "微盟" in page or "店铺" in page
    folder = re.search(r"/tmp/ballast-replay-\w+", done.stdout)
    assert folder is not None
    assert not Path(folder[0]).exists()
