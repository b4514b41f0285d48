"""Functions compiled to machine code by numba: at their first call, and kept on disk for the next process if possible.

With one explicit signature a kernel compiles exactly once, and arguments of another type are an error, not a second
compilation. Where numba finds no folder to write to (a read-only installation without a home), or its files are
damaged, the kernel is compiled in memory: slower to start, the same result.

numba itself is loaded with the first kernel that is called: to import it takes a third of a second of a processor and
40 MB, and many processes and commands come to no kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_kernels: list[Callable[[], object]] = []
_inner: list[Callable[..., object]] = []
"""Marked, and not yet known to numba."""


def compiled(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function compiled for `signature` (numba's spelling, without the result). It runs without the GIL.

    What it calls must be marked `inner` and stand in the same file: numba's cache looks at that file alone to see
    whether it is still valid.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        machine_code: Callable[P, R] | None = None

        def ready() -> Callable[P, R]:
            nonlocal machine_code
            with _lock:
                machine_code = machine_code or _compile(function, signature)
                return machine_code

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return (machine_code or ready())(*args, **kwargs)

        _kernels.append(ready)
        call.__doc__ = function.__doc__
        return call

    return decorate


def compile_all() -> int:
    """Compile every kernel of the modules that are loaded, or find it on disk; how many."""
    for ready in _kernels:
        ready()
    return len(_kernels)


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function as one that kernels call."""
    _inner.append(function)
    return function


def _compile(function: Callable[P, R], signature: str) -> Callable[P, R]:
    import numba  # not before a kernel is called: see above
    from numba.extending import register_jitable

    while _inner:
        register_jitable(_inner.pop())
    try:
        kernel: Any = numba.njit(signature, cache=True, nogil=True)(function)
    except Exception:  # whatever the cache's trouble is; trouble with the function itself comes again below
        kernel = numba.njit(signature, nogil=True)(function)
    return cast("Callable[P, R]", kernel)
