"""`ballast …` in this process: what a command says and with what code it ends, without a new interpreter for each."""

from dataclasses import dataclass

from typer.testing import CliRunner

from ballast.cli.app import commands, exit_code
from ballast.errors import BallastError


@dataclass(frozen=True)
class Said:
    """As of a process."""

    returncode: int
    stdout: str
    stderr: str


def ballast(*arguments: str) -> Said:
    """Runs a command; errors that are none of Ballast's own are raised."""
    result = CliRunner().invoke(commands(), list(arguments))
    if isinstance(result.exception, BallastError):
        return Said(exit_code(result.exception), result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)
