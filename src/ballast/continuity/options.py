"""What the sentinel is told at its start."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ballast.continuity import settings as configured
from ballast.continuity.outlived import Rule
from ballast.vault import config


class Options:
    """What it is told at its start."""

    def __init__(
        self, config_path: Path, server: Path | None, major: int, handler: str, probe: str, undecided: str = ""
    ) -> None:
        """`handler`, `probe`, `undecided`: where the settings name none. ConfigError."""
        self.config_path, self.server, self.major = config_path.absolute(), server, major
        document = tomllib.loads(self.config_path.read_text(encoding="utf-8"))
        found = configured.load(document, str(config_path))
        self.settings = config.load(self.config_path)
        self.folder = configured.folder_of(found, self.settings.state_dir, self.config_path.parent)
        self.handler = found.continuity.handler or handler
        self.probe = found.continuity.probe or probe
        self.undecided = found.continuity.undecided or undecided
        self.rule = Rule(found.continuity.intake_days, found.continuity.intake_bytes)
        self.asks = found.asks(ours=server is not None)
        self.nodes, self.node = found.continuity.nodes, found.continuity.node
        self.lifeboat_bytes = found.continuity.lifeboat_bytes
