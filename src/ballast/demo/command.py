"""A command of ours as anybody would call it, for what it says to a program."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec


async def command(*said: str, config: Path, seconds: float) -> tuple[int, Any, str]:
    """Its exit code, the JSON that it says or None, and what it complains of. It is ended with whoever waits for it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ballast.cli", *said, "--json", "--config", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            out, complained = await process.communicate()
    except TimeoutError:
        return 1, None, f"`ballast {said[0]}` took more than {seconds:.0f} s"
    finally:
        if process.returncode is None:  # a scratch server ends with it
            process.terminate()
            await process.wait()
    problem = complained.decode(errors="replace").strip()[-300:]
    try:
        return process.returncode or 0, msgspec.json.decode(out), problem
    except msgspec.DecodeError:
        return (
            process.returncode or 0,
            None,
            problem or out.decode(errors="replace").strip()[-300:] or "it said nothing",
        )
