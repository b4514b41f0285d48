"""Work done by Dask workers: the same jobs as `hands.Threads` does, on as many machines as have joined a scheduler.

A worker opens the vault by itself, with the credentials of its own environment, and believes nobody: it must be signed by the
same key and have, at the same place of its ledger, the same entry as here. It reaches the target by the same connection
string. So that neither that nor a row of the work shows up in anybody's log, jobs travel as sealed bytes, and what a job
fails with comes back as an answer. A worker that is lost costs its jobs' time: the scheduler gives them to another one, which
looks into the target first whether they are done (see `hands`).

Dask is imported only here, and only when it is asked for.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import pickle
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast import __version__
from ballast.errors import BallastError, ConfigError, FormatError, IntegrityError, RestoreError, StoreError
from ballast.recovery.copying import in_servers_words
from ballast.recovery.hands import Job, Result, Seat
from ballast.recovery.merge_items import MergeError
from ballast.recovery.target import Unreachable
from ballast.vault import Vault
from ballast.vault.vault import Extent

_CONNECT_S = 10
_VERSION = "getattr(__import__('importlib').import_module('ballast'), '__version__', None)"
_LOOK_EVERY_S = 2.0
_NOBODY_LEFT_S = 30.0
_VAULTS_KEPT = 2
_OF_THE_WORKER = (StoreError, ConfigError, IntegrityError, FormatError, Unreachable, MergeError)
"""What one worker may meet and another not: it says which one it was."""
# A session whose worker lost its power holds its rows and its unit until the server finds that out: by default in two hours.
_NOTICE_LOSS = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4"
_GO_ON = "What is committed stays; the same command goes on."


class Sealed:
    """A job on its way. Dask prints what it hands around; this prints as nothing."""

    def __init__(self, version: str, content: bytes) -> None:
        self.version, self.content = version, content

    def __repr__(self) -> str:
        return "<a job>"


class _Errand(msgspec.Struct, frozen=True):
    extent: Extent | None
    dsn: str


class _Done(msgspec.Struct, frozen=True):
    advanced: int
    result: Any


class _Failed(msgspec.Struct, frozen=True):
    error: BallastError


class Crew:
    """The workers of one scheduler (`Hands`)."""

    def __init__(self, client: Any, address: str) -> None:
        self._dask: Any = importlib.import_module("distributed")
        self._client, self._address = client, address
        self._in_the_clear = not address.startswith("tls://") and not _is_this_machine(address)

    @property
    def count(self) -> int:
        """Threads of all workers."""
        return max(1, sum(self._threads().values()))

    def map(self, work: Callable[[Seat, Job], Result], jobs: Sequence[Job], seat: Seat) -> Iterator[Result]:
        """See `Hands`. RestoreError also where no worker is left, or several were lost at one job."""
        errand = _Errand(seat.vault.extent() if seat.vault is not None else None, self._dsn(seat))
        with self._in_our_words():
            waiting = {self._hand_out(errand, work, job) for job in jobs}
        try:
            while waiting:
                done = self._wait(waiting)
                waiting -= done
                for future in done:
                    with self._in_our_words():
                        answer = future.result()
                    if isinstance(answer, _Failed):
                        raise answer.error
                    seat.advance(answer.advanced)
                    yield answer.result
        finally:
            if waiting:
                with suppress(Exception):  # the scheduler may be what failed
                    self._client.cancel(list(waiting))

    def _hand_out(self, errand: _Errand, work: Callable[..., Any], job: object) -> Any:
        import cloudpickle  # type: ignore[import-untyped,unused-ignore]

        sealed = Sealed(__version__, cloudpickle.dumps((errand, work, job)))
        key = f"ballast-{getattr(work, '__name__', 'job')}-{uuid.uuid4().hex}"
        return self._client.submit(perform, sealed, key=key, pure=False)

    def _wait(self, waiting: set[Any]) -> set[Any]:
        """Those that have ended, one at least."""
        nobody_since: float | None = None
        while True:
            with self._in_our_words():
                with suppress(TimeoutError, self._dask.TimeoutError), self._client.as_current():
                    return set(self._dask.wait(waiting, timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED").done)
                if self._threads():
                    nobody_since = None
                    continue
            nobody_since = nobody_since if nobody_since is not None else time.monotonic()
            if time.monotonic() - nobody_since > _NOBODY_LEFT_S:
                raise RestoreError(
                    f"the Dask scheduler at {self._address} has had no worker for {_NOBODY_LEFT_S:.0f} s",
                    f"Start workers (dask worker {self._address}). {_GO_ON}",
                )

    def _threads(self) -> dict[str, int]:
        """Of each worker that is there."""
        with self._in_our_words():
            return dict(self._client.nthreads())

    def _dsn(self, seat: Seat) -> str:
        """As the workers have it."""
        given = conninfo_to_dict(seat.dsn)
        if given.get("password") and self._in_the_clear:
            raise ConfigError(
                f"the connection string has a password, and {self._address} would be told it in the clear.",
                "Leave it out and have it on each worker (PGPASSWORD in its environment, or ~/.pgpass); or encrypt Dask's"
                " connections (tls://).",
            )
        if seat.vault is None:  # as the application would connect
            return seat.dsn
        given["options"] = f"{given.get('options') or ''} {_NOTICE_LOSS}".strip()
        return make_conninfo("", **given)

    def require_same(self) -> None:
        """ConfigError unless there is a worker, and each has this version of Ballast."""
        with suppress(TimeoutError):
            self._client.wait_for_workers(1, timeout=_CONNECT_S)
        if not self._threads():
            raise ConfigError(
                f"the Dask scheduler at {self._address} has no worker.",
                f"Start some where Ballast {__version__} is installed: dask worker {self._address}",
            )
        with self._in_our_words():
            # Not a function of ours, which one without Ballast could not load.
            found = self._client.run(eval, _VERSION, on_error="return")
            found["the scheduler"] = self._client.run_on_scheduler(eval, _VERSION)
        others = {who: version for who, version in found.items() if version != __version__}
        if others:
            names = ", ".join(
                f"{who} has {version if isinstance(version, str) else 'none'}"
                for who, version in list(others.items())[:5]
            )
            raise ConfigError(
                f"this is Ballast {__version__}, and at {self._address} {names}.",
                "Start scheduler and workers from an environment with the same version as here.",
            )

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except BallastError:
            raise
        except self._dask.KilledWorker as error:
            raise RestoreError(
                f"one job took its workers with it, again and again: {error}".split("\n")[0],
                f"Look into the log of the last worker (its memory may not suffice). {_GO_ON}",
            ) from error
        except (Exception, asyncio.CancelledError) as error:
            # Of Dask: what a job fails with is an answer. A lost scheduler shows as any of a dozen errors.
            raise RestoreError(
                f"Dask at {self._address} failed: {type(error).__name__}: {_first_line(error)}",
                f"Look whether the scheduler and its workers run, all with Ballast {__version__}. {_GO_ON}",
            ) from error


@contextmanager
def crew(address: str) -> Iterator[Crew]:
    """The workers of the scheduler at `address` (tcp://host:port, tls://host:port). ConfigError where Dask is not installed,
    the scheduler does not answer, or its workers cannot do our work."""
    if not address.startswith(("tcp://", "tls://")) or not urlsplit(address).hostname:
        raise ConfigError(
            f"{address!r} is no address of a Dask scheduler.", "Write tcp://host:port or tls://host:port."
        )
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise ConfigError(
            f"Dask is not installed here ({error}), and --dask needs it.",
            "Install it in this environment and in that of each worker: pip install dask distributed",
        ) from error
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise ConfigError(
            f"the Dask scheduler at {address} cannot be reached: {_first_line(error)}.",
            "Check the address, and that it runs: dask scheduler --host … --port …",
        ) from error
    try:
        made = Crew(client, address)
        made.require_same()
        yield made
    finally:
        with suppress(Exception):
            client.close(timeout=2)


def perform(sealed: Sealed) -> _Done | _Failed:
    """On a worker: does a job. What it fails with is an answer, since of an exception Dask would print the arguments."""
    try:
        return _perform(sealed)
    except BallastError as error:
        if isinstance(error, _OF_THE_WORKER):
            error.what = f"on Dask worker {_own_address()}: {error.what}"
            error.args = (error.what, error.do)
        return _Failed(error)
    except Exception as error:
        return _Failed(
            RestoreError(f"on Dask worker {_own_address()}: {type(error).__name__}: {_first_line(error)}", _GO_ON)
        )


def _perform(sealed: Sealed) -> _Done:
    if sealed.version != __version__:
        raise ConfigError(
            f"this worker has Ballast {__version__}, and the job comes from {sealed.version}.",
            "Start workers from an environment with the same version.",
        )
    try:
        # Whoever may hand out jobs to a Dask worker may run anything there: its network must be closed, or tls://.
        errand, work, job = pickle.loads(sealed.content)  # noqa: S301
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"what the job needs cannot be loaded: {error}.",
            "Start the workers where the application's modules are found (PYTHONPATH), in the same version.",
        ) from error
    advanced: list[int] = []
    vault = _opened(errand.extent) if errand.extent is not None else None
    with in_servers_words():
        result = work(Seat(vault, errand.dsn, advanced.append), job)
    return _Done(sum(advanced), result)


_vaults: OrderedDict[Extent, Vault] = OrderedDict()
_vaults_lock = threading.Lock()


def _opened(extent: Extent) -> Vault:
    """Kept from one job to the next."""
    with _vaults_lock:
        if extent not in _vaults:
            _vaults[extent] = Vault.open_to(extent)
            while len(_vaults) > _VAULTS_KEPT:
                _vaults.popitem(last=False)
        _vaults.move_to_end(extent)
        return _vaults[extent]


def _own_address() -> str:
    import distributed

    return str(distributed.get_worker().address)


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _first_line(error: BaseException) -> str:
    if isinstance(error, psycopg.Error):
        return type(error).__name__  # it may quote a connection string
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")[:300]
