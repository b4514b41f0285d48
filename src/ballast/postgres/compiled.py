"""Functions compiled to machine code: by numba at their first call ever, and kept on disk for every process after it.

numba is loaded by nobody but the process that compiles. To import it and to have it ready for one kernel takes two thirds
of a second of a processor and 55 MB, and whoever waits for a recovery would wait for that as well. What is kept is the
object code that numba's compiler gives for this very processor; LLVM's loader (llvmlite, 0.06 s) puts it into memory and
ctypes calls it, without the GIL. So a kernel may take arrays and whole numbers and give a whole number, and it makes no array:
its caller gives it those to write to, and larger ones if it says that they were too small.

Where there is no folder to write to (a read-only installation without a home), or what was kept is damaged, the kernel is
compiled again: slower to start, the same result.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import operator
import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np

P = ParamSpec("P")
Function = TypeVar("Function", bound=Callable[..., object])

CACHE: Final = "BALLAST_KERNELS"
"""Names the folder to keep compiled kernels in, instead of `__pycache__` beside the source or the user's cache."""
_NUMBER: Final = "int"
_KEPT_FROM_CALLS: Final = ("memcpy", "memmove", "memset", "llvm.")
"""All that object code may call outside of itself: what a process has in any case."""

_lock = threading.Lock()
_kernels: list[Callable[[], object]] = []
_inner: list[Callable[..., object]] = []
"""Marked, and not yet known to numba."""
_loaded: list[object] = []
"""Holds the memory that machine code stands in."""


def compiled(signature: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Have a function compiled that takes `signature` and returns a whole number.

    `signature` names each argument's type, separated by commas: `int` (64 bits), or numpy's name of the items of an array that
    is read (`uint8`) or written to (`out uint8`). Arrays have one dimension, without gaps. An argument of another type is a
    TypeError. What the function calls must be marked `inner` and stand in the same file, and so must its constants: that file's
    bytes say whether what was kept is still valid.
    """
    parameters = [parameter.strip() for parameter in signature.split(",")]

    def decorate(function: Callable[P, int]) -> Callable[P, int]:
        machine_code: Callable[..., int] | None = None
        _read(__file__)
        _read(function.__code__.co_filename)  # now: it may be another by the first call

        def ready() -> Callable[..., int]:
            nonlocal machine_code
            with _lock:
                machine_code = machine_code or _caller(function.__name__, parameters, *_load(function, parameters))
                return machine_code

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> int:
            return (machine_code or ready())(*args)

        _kernels.append(ready)
        return call

    return decorate


def compile_all() -> int:
    """Compile every kernel of the modules that are loaded, or find it on disk; how many."""
    for ready in _kernels:
        ready()
    return len(_kernels)


def inner(function: Function) -> Function:
    """Mark a function as one that kernels call."""
    _inner.append(function)
    return function


def _load(function: Callable[..., int], parameters: Sequence[str]) -> tuple[object, int]:
    """What keeps the machine code in memory, and where in it the function begins."""
    import llvmlite.binding as llvm  # not before a kernel is called: see above

    folders = _folders(function)
    name = f"{function.__module__}.{function.__qualname__}-{_key(function, parameters, llvm)}.o".replace("<locals>", "")
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            return _in_memory(*_unpacked(_trusted(folder / name, function)), llvm)
    symbol, code = _compile(function, parameters)
    for folder in folders:
        with contextlib.suppress(OSError):
            _write(folder / name, _packed(symbol, code))
            break
    return _in_memory(symbol, code, llvm)


def _compile(function: Callable[..., int], parameters: Sequence[str]) -> tuple[str, bytes]:
    """The function's name in object code, and the object code."""
    import numba
    from numba.extending import register_jitable

    while _inner:
        register_jitable(_inner.pop())
    signature = ", ".join(_numba_type(parameter) for parameter in parameters)
    # Without numba's runtime: a kernel that makes an array is refused here. As in C, nothing divides by zero.
    options = {
        "nogil": True,
        "error_model": "numpy",
        "_nrt": False,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }
    kernel = cast("Any", numba.njit)(f"int64({signature})", **options)(function)
    (result,) = kernel.overloads.values()
    for line in result.library.get_llvm_str().splitlines():
        if line.startswith("declare") and not line.split("@", 1)[1].lstrip('"').startswith(_KEPT_FROM_CALLS):
            raise TypeError(f"{function.__qualname__} calls what only numba has: {line}")
    return result.fndesc.llvm_func_name, result.library._get_compiled_object()


def _in_memory(symbol: str, code: bytes, llvm: Any) -> tuple[object, int]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    if not address:
        raise ValueError(f"there is no {symbol} in what was kept")
    return engine, address


def _caller(name: str, parameters: Sequence[str], engine: object, address: int) -> Callable[..., int]:
    """A function that checks the arguments and calls the code at `address`, as numba's functions are called: with where the
    result and the error go, and of an array its owner, its parent, its count, the size of an item, its data, shape and stride."""
    _loaded.append(engine)
    flat: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
    for parameter in parameters:
        flat += [ctypes.c_int64] if parameter == _NUMBER else [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 5
    code = ctypes.CFUNCTYPE(ctypes.c_int32, *flat)(address)
    kinds = [None if p == _NUMBER else (np.dtype(p.removeprefix("out ")), p.startswith("out ")) for p in parameters]

    def call(*arguments: Any) -> int:
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        given: list[Any] = [ctypes.addressof(result), ctypes.addressof(error)]
        for kind, argument in zip(kinds, arguments, strict=True):
            if kind is None:
                given.append(operator.index(argument))
                continue
            dtype, written = kind
            if not isinstance(argument, np.ndarray) or argument.dtype != dtype or argument.ndim != 1:
                raise TypeError(f"{name} takes an array of {dtype}, not {argument!r:.80}")
            flags, count = argument.flags, argument.size
            if not flags.c_contiguous or not flags.aligned or (written and not flags.writeable):
                raise TypeError(f"{name} takes an array of {dtype} without gaps{' to write to' if written else ''}")
            given += (None, None, count, dtype.itemsize, argument.__array_interface__["data"][0], count, dtype.itemsize)
        status = code(*given)
        if status:
            raise AssertionError(f"{name} ended with numba's status {status}; kernels raise nothing")
        return result.value

    return call


def _numba_type(parameter: str) -> str:
    if parameter == _NUMBER:
        return "int64"
    item = parameter.removeprefix("out ").replace("bool", "boolean")
    return f"{item}[::1]" if parameter.startswith("out ") else f"Array({item}, 1, 'C', readonly=True)"


def _key(function: Callable[..., int], parameters: Sequence[str], llvm: Any) -> str:
    """Another one wherever the object code could be another."""
    import llvmlite

    told: list[object] = [llvmlite.__version__, sys.version, llvm.get_process_triple()]
    told += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), parameters]
    digest = hashlib.sha256(repr(told).encode())
    for source in (__file__, function.__code__.co_filename):
        digest.update(_read(source))
    return digest.hexdigest()[:24]


@functools.cache
def _read(source: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(source).read_bytes()
    return b""


def _folders(function: Callable[..., int]) -> list[Path]:
    """Where a kernel may be kept, best first; nowhere, if nobody knows its source."""
    source = Path(function.__code__.co_filename)
    if not source.is_file():
        return []
    if named := os.environ.get(CACHE):
        return [Path(named)]
    folders = [source.parent / "__pycache__"]
    with contextlib.suppress(RuntimeError):
        folders.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ballast")
    return folders


def _trusted(path: Path, function: Callable[..., int]) -> bytes:
    """What a file holds that only those can have written who could do anything here in any case: this process's account, root,
    and whoever owns the kernel's source. ValueError: others could."""
    owners = {0, os.geteuid(), os.stat(function.__code__.co_filename).st_uid}
    with path.open("rb") as file:
        for there in (os.fstat(file.fileno()), path.parent.stat()):
            if there.st_uid not in owners or there.st_mode & stat.S_IWOTH:
                raise ValueError(f"{path} may be written by others")
        return file.read()


def _packed(symbol: str, code: bytes) -> bytes:
    body = symbol.encode() + b"\n" + code
    return hashlib.sha256(body).digest() + body


def _unpacked(kept: bytes) -> tuple[str, bytes]:
    body = kept[32:]
    if hashlib.sha256(body).digest() != kept[:32]:
        raise ValueError("it is damaged")
    symbol, _, code = body.partition(b"\n")
    return symbol.decode(), code


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also where two processes write it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".kernel-", delete=False) as file:
        try:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)  # whichever account runs it next finds it
            file.close()
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise
