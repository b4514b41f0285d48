"""`ballast record`."""

from __future__ import annotations

from ballast.cli import options


def record(config: options.ConfigFile = options.DEFAULT_CONFIG, node: options.Node = None) -> None:
    """Record every committed change, until told to stop (SIGTERM, Ctrl-C).

    One JSON object a line on standard error for each event worth knowing. Killed at any moment it goes on at the next start
    without losing or doubling a change. `ballast status` tells how it is. Where the settings name several nodes, a recorder
    runs for each of them, or with --node for that one alone.

    [bold]Example[/bold]

      ballast record --config ballast.toml
    """
    # Imported here: the receiving process stays small, and the other commands need not wait for it.
    from ballast.vault import nodes

    spread = nodes.load(config)
    if spread is not None and node is None:
        from ballast.cli import nodes as several

        several.record(spread)
        return
    from ballast.vault.recorder import Recorder

    config = options.of_node(spread, node, config)

    Recorder(config).run()
