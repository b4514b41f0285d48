"""Pages of the ledger: a thousand entries in one object, so that opening an old vault takes few requests.

A page says nothing of its own: its lines are the stored bytes of its entries, which stay where they are. The hash
chain is checked over them as over single entries, so a page need not be trusted; one that does not fit is passed over.
"""

from __future__ import annotations

import contextlib

from ballast.errors import AlreadyExists, NotFound, StoreError
from ballast.vault.store import Store

PREFIX = "pages/"
ENTRIES = 1000


def page_name(page: int) -> str:
    """`pages/000000000001.jsonl` holds the entries 1 to 1000."""
    return f"{PREFIX}{page:012d}.jsonl"


def pages_within(first: int, last: int) -> range:
    """The pages whose entries all lie in first..last."""
    return range((first + ENTRIES - 2) // ENTRIES + 1, last // ENTRIES + 1)


def encode(entries: list[bytes]) -> bytes:
    """Entries are JSON without line breaks."""
    return b"\n".join(entries)


def read(store: Store, page: int) -> dict[int, bytes]:
    """Entry number to its bytes; empty where there is no such page, or it is none. StoreError."""
    try:
        lines = store.get(page_name(page)).split(b"\n")
    except NotFound:
        return {}
    if len(lines) != ENTRIES:
        return {}
    return dict(enumerate(lines, (page - 1) * ENTRIES + 1))


def add(store: Store, page: int, entries: list[bytes]) -> None:
    """Put a page, unless it is there. The ledger does not need it: where the store refuses, the next reader does without."""
    with contextlib.suppress(AlreadyExists, StoreError):
        store.put(page_name(page), encode(entries))
