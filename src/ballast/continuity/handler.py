"""The application's function that does again what was accepted, by its name."""

from __future__ import annotations

import importlib

from ballast.errors import ConfigError
from ballast.recovery import Handler


def load(name: str) -> Handler:
    """`module:function`. ConfigError where there is none of that name."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(
            f"[continuity] handler is {name!r}, which names no function.",
            "Write module:function, such as shop.intake:take_in",
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"the module of [continuity] handler {name!r} cannot be loaded: {error}.",
            "Install the application where the sentinel runs.",
        ) from error
    if not callable(found):
        raise ConfigError(f"{module} has no function {attribute}.", "Correct [continuity] handler.")
    handler: Handler = found
    return handler
