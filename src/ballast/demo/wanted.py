"""What a replay is to be like."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

How = Literal["rows", "files", "both", "changes"]
"""What the engineer does. `changes`: he takes nothing away; prices, addresses and stock of some shops are wrong."""


class Victim(StrEnum):
    """Whose process may be killed."""

    WEB = "web"
    RECORDER = "recorder"
    SENTINEL = "sentinel"
    RESTORER = "restorer"
    SERVER = "server"


APART_S = 2.0
"""Between the rows' deletion and the server's, where both are wanted."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a run. The same ones make the same run, as far as the machine lets them."""

    shops: int = 300
    how: How = "both"
    seed: int = 1
    """Of every chance in it: who comes to which shop and buys what, and who is killed when."""
    before_s: float = 30.0
    """How long shoppers come before the loss."""
    after_s: float = 10.0
    """How long they go on coming when all shops are home."""
    orders_per_s: float = 5.0
    views_per_s: float = 45.0
    """Page views in all; those on the way to an order count as well."""
    patience_s: float = 120.0
    """From the loss on; shops that are not home by then, or after the last kill, are taken for lost."""
    kill: tuple[Victim, ...] = ()
    kills: int = 1
    """How many of them are killed, where any are to be."""
    port: int | None = None
    """Of the shops' pages; None: 8000, or another where that is taken. The payment provider has the next one."""
    report: Path = Path("ballast-replay.html")
    keep: bool = False
    """Leave the platform's folder."""
