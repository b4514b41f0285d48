"""The commands. Thin: each parses, calls one thing below, and shows what came of it.

A file a command. `output.py` knows how results and errors are shown, to a person or (`--json`) to a program.
Exit code 0 only when what was asked is done; 1 when it was not; 2 when the call itself was wrong.
"""

from ballast.cli.app import main

__all__ = ["main"]
