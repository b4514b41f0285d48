"""What the web processes of the measurements run (Granian calls it); settings come from the environment, as in earnest."""

from __future__ import annotations

import gzip
import os

from litestar import Litestar, MediaType, Response, get

SIZE = int(os.environ.get("BENCH_SIZE", "8000"))
# Compresses as a page does, where anybody asks: the size is what is compared.
_CONSTANT = ("<p>constant</p>" * (SIZE // 15 + 1))[:SIZE]
assert gzip.compress(_CONSTANT.encode())


@get("/", media_type=MediaType.HTML, sync_to_thread=False)
def _constant() -> Response[str]:
    return Response(_CONSTANT, media_type=MediaType.HTML)


def constant() -> Litestar:
    """A handler that returns a constant, and nothing besides."""
    return Litestar([_constant], openapi_config=None)
