"""The object store: a local folder or an S3 bucket, used through put-if-absent, get and list alone.

Nothing here overwrites or deletes, so that credentials that can only add and read are enough, and a bucket
with Object Lock works as it is.

Folder. obstore's own local put neither syncs nor keeps a half-synced file from showing after a power cut, so
puts are done here: write and fsync under `.staging/`, `link()` to the final name (which is atomic and fails if the
name is taken), fsync the folder. A kill leaves at most a file under `.staging/`, which no listing shows.

S3. A put is one request with `If-None-Match: *`. Files over `SINGLE_PUT_BYTES` go up in parts, to bound memory;
obstore cannot make that conditional, so the name is asked for first. This leaves a window between two writers of
one name, which is harmless: names of large objects carry their content's hash and a random batch, and only
ledger entries (small) decide who writes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from ballast.errors import AlreadyExists, ConfigError, NotFound, StoreError
from ballast.vault.config import is_address
from ballast.vault.durable import make_folder, sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

SINGLE_PUT_BYTES = 64 << 20
_PART_BYTES = 8 << 20
_STREAM_BYTES = 4 << 20
_STAGING = ".staging"
# An unreachable store must answer within about ten seconds: 2 s to connect, at most 2 further attempts that
# start within 5 s. A request under way may take long (large bodies on slow lines) but never stand still for 20 s.
_CLIENT = {"connect_timeout": "2s", "read_timeout": "20s", "timeout": "30m"}
_RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=6),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}

Ahead = Callable[[], Sequence[tuple[int, int]]]
"""Gives ranges of bytes, the end excluded."""


class Store:
    """Objects under names like `data/…/0-run-….parquet`, relative to `url`."""

    def __init__(self, url: str, backend: Any) -> None:
        self.url = url
        self._backend = backend

    def is_there(self) -> bool:
        """Whether the place itself can be seen; a bucket says so by answering."""
        return True

    def begin(self) -> None:
        """Make the place for a new vault, where it is ours to make (a bucket is not)."""

    def put(self, name: str, data: bytes) -> None:
        """Add an object; durable when this returns. AlreadyExists if the name is taken.

        After another StoreError the object may or may not be there: ask with `get`."""
        with self._explained("put", name):
            obstore.put(self._backend, name, data, mode="create", use_multipart=False)

    def put_file(self, name: str, path: Path | str) -> None:
        """`put` with a local file's content, in bounded memory (`SINGLE_PUT_BYTES`)."""
        raise NotImplementedError

    def get(self, name: str) -> bytes:
        """The whole object; NotFound if there is none."""
        with self._explained("get", name):
            return bytes(obstore.get(self._backend, name).bytes())

    def get_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes start <= i < end, fewer where the object is shorter; NotFound if there is none."""
        if end <= start:
            return b""
        with self._explained("get", name):
            return bytes(obstore.get_range(self._backend, name, start=start, end=end))

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """The same of several, with as few requests as may be."""
        with self._explained("get", name):
            starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
            return [memoryview(data) for data in obstore.get_ranges(self._backend, name, starts=starts, ends=ends)]

    def stream(self, name: str) -> Iterator[bytes]:
        """The whole object in pieces of a few MB."""
        with self._explained("get", name):
            for piece in obstore.get(self._backend, name).stream(min_chunk_size=_STREAM_BYTES):
                yield bytes(piece)

    def list(self, prefix: str = "", after: str = "") -> list[tuple[str, int]]:
        """(name, bytes) of every object below the folder `prefix`, by name; only names greater than `after`."""
        with self._explained("list", prefix or "/"):
            found = [
                (str(meta["path"]), int(meta["size"]))
                for page in obstore.list(
                    self._backend, prefix.rstrip("/") or None, offset=after or None, chunk_size=1000
                )
                for meta in page
            ]
        return sorted(item for item in found if not item[0].startswith(_STAGING) and item[0] > after)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The names of the folders right below the folder `prefix`, in order."""
        with self._explained("list", prefix):
            found = obstore.list_with_delimiter(self._backend, prefix)["common_prefixes"]
        return tuple(sorted(path.rstrip("/").rpartition("/")[2] for path in found))

    def open(self, name: str, size: int | None = None, ahead: Ahead | None = None) -> pa.NativeFile:
        """A seekable reader, as `pyarrow.parquet.ParquetFile` wants it. `size` in bytes, if known, saves a request; so does
        `ahead`: what will be read.

        Where it is a `pa.PythonFile`, the reader must do its reading in the thread that asks: one of Arrow's own that comes for
        Python's lock when the process is about to end takes that down (`terminate called without an active exception`)."""
        raise NotImplementedError

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        """Drop what killed writers left unfinished outside every name; how many."""
        del older_than_s
        return 0

    @contextlib.contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (AlreadyExistsError, FileExistsError):
            raise AlreadyExists(f"{self.url} already holds {name}.", "Nothing in a vault is overwritten.") from None
        except FileNotFoundError as error:
            if self._is_missing(error):
                raise StoreError(f"{self.url} is not there.", self._advice(error)) from error
            raise NotFound(
                f"{self.url} holds no {name}.", "If it should, `ballast verify` tells what else is missing."
            ) from None
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(f"{verb} {name} at {self.url} failed: {_gist(error)}.", self._advice(error)) from error

    def _is_missing(self, error: Exception) -> bool:
        """Not the object: the whole place."""
        raise NotImplementedError

    def _advice(self, error: Exception) -> str:
        raise NotImplementedError


class FolderStore(Store):
    """A folder of this machine (or a mounted one that has hard links and fsync)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # From the beginning: else what is unmounted before the first put would be taken for the vault.
        self._identity = self._identity_now() if root.is_dir() else None
        super().__init__(str(root), None)

    def is_there(self) -> bool:
        return self.root.is_dir()

    def begin(self) -> None:
        with self._explained("make", ""):
            make_folder(self.root)
            self._identity = self._identity_now()

    def put(self, name: str, data: bytes) -> None:
        with self._explained("put", name), self._staged(name) as stream:
            stream.write(data)

    def put_file(self, name: str, path: Path | str) -> None:
        with Path(path).open("rb") as source, self._explained("put", name), self._staged(name) as stream:
            shutil.copyfileobj(source, stream, _STREAM_BYTES)

    def get(self, name: str) -> bytes:
        with self._explained("get", name):
            return self._path(name).read_bytes()

    def get_range(self, name: str, start: int, end: int) -> bytes:
        with self._explained("get", name), self._path(name).open("rb") as stream:
            stream.seek(start)
            return stream.read(max(0, end - start))

    def stream(self, name: str) -> Iterator[bytes]:
        with self._explained("get", name), self._path(name).open("rb") as stream:
            while piece := stream.read(_STREAM_BYTES):
                yield piece

    def list(self, prefix: str = "", after: str = "") -> list[tuple[str, int]]:
        if not self.root.is_dir():
            return []
        if self._backend is None:
            self._backend = LocalStore(self.root)
        return super().list(prefix, after)

    def folders(self, prefix: str) -> tuple[str, ...]:
        below = self.root / prefix
        return tuple(sorted(path.name for path in below.iterdir() if path.is_dir())) if below.is_dir() else ()

    def open(self, name: str, size: int | None = None, ahead: Ahead | None = None) -> pa.NativeFile:
        # Not a memory map: a file cut short under a map ends the process (SIGBUS) instead of raising.
        import pyarrow as pa  # who reads the ledger alone is without: each start of a recorder waits for that

        with self._explained("get", name):
            return pa.OSFile(str(self._path(name)), "rb")

    def sweep(self, older_than_s: float = 86_400.0) -> int:
        swept = 0
        staging = self.root / _STAGING
        for left in staging.iterdir() if staging.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > older_than_s:
                    left.unlink()
                    swept += 1
        return swept

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in ("", ".", "..", _STAGING) for part in parts):
            raise ValueError(f"{name!r} is not an object's name")
        return self.root.joinpath(*parts)

    @contextlib.contextmanager
    def _staged(self, name: str) -> Iterator[IO[bytes]]:
        path = self._path(name)
        self._see_that_it_is_there()
        staging = self.root / _STAGING
        make_folder(staging)
        staged = staging / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with staged.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            make_folder(path.parent)
            # link, not rename: rename would replace what is there.
            os.link(staged, path)
            sync_folder(path.parent)
        finally:
            staged.unlink(missing_ok=True)

    def _see_that_it_is_there(self) -> None:
        """Never make it anew: what is written where a disk was unmounted is lost under it when the disk is back."""
        identity = self._identity_now()
        if self._identity not in (None, identity):
            raise OSError(f"{self.root} is another folder than before")
        self._identity = identity

    def _identity_now(self) -> tuple[int, int]:
        found = self.root.stat()
        return found.st_dev, found.st_ino

    def _is_missing(self, error: Exception) -> bool:
        return not self.root.is_dir()

    def _advice(self, error: Exception) -> str:
        return "Check that the folder is mounted, has room, and may be written to by this account."


class BucketStore(Store):
    """A bucket of any S3-compatible store. Endpoint, region and credentials come from the environment (AWS_*)."""

    def put_file(self, name: str, path: Path | str) -> None:
        path = Path(path)
        if path.stat().st_size <= SINGLE_PUT_BYTES:
            self.put(name, path.read_bytes())
            return
        with self._explained("put", name):
            with contextlib.suppress(FileNotFoundError):
                obstore.head(self._backend, name)
                raise FileExistsError(name)
            obstore.put(self._backend, name, path, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=4)

    def open(self, name: str, size: int | None = None, ahead: Ahead | None = None) -> pa.NativeFile:
        if size is None:
            with self._explained("get", name):
                size = int(obstore.head(self._backend, name)["size"])
        import pyarrow as pa  # as above

        return pa.PythonFile(_RangeReader(self, name, size, ahead() if ahead is not None else ()), mode="r")

    def _is_missing(self, error: Exception) -> bool:
        return "NoSuchBucket" in str(error)

    def _advice(self, error: Exception) -> str:
        text = str(error)
        if "403" in text or "AccessDenied" in text or "InvalidAccessKeyId" in text or "Signature" in text:
            return "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and that they may put, get and list there."
        if "NoSuchBucket" in text:
            return "Create the bucket, or correct the vault's address."
        return "Check the network, AWS_ENDPOINT_URL and AWS_REGION; nothing is lost, and trying again is safe."


class _RangeReader:
    """The file that pyarrow reads: each read is one range request, but for what was read ahead."""

    def __init__(self, store: Store, name: str, size: int, ahead: Sequence[tuple[int, int]]) -> None:
        self._store, self._name, self._size, self._at = store, name, size, 0
        self._ahead = list(zip(ahead, store.get_ranges(name, ahead), strict=True)) if ahead else []
        self.closed = False

    def read(self, count: int = -1) -> bytes | memoryview:
        start, end = self._at, self._size if count < 0 else min(self._size, self._at + count)
        held = self._held(start, end)
        data = self._store.get_range(self._name, start, end) if held is None else held
        self._at += len(data)
        return data

    def _held(self, start: int, end: int) -> memoryview | None:
        for (first, last), data in self._ahead:
            if first <= start and end <= last:
                return data[start - first : end - first]
        return None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def open_store(url: str | Path) -> Store:
    """The store at `url`: a folder's path, `file:///…`, or `s3://bucket/prefix`. Contacts nothing yet.

    S3 takes endpoint (AWS_ENDPOINT_URL), region (AWS_REGION, else us-east-1) and credentials from the environment;
    plain http only to this machine itself."""
    text = str(url)
    parts = urlsplit(text)
    if text.startswith("s3://"):
        return _open_s3(text, parts.netloc, parts.path.strip("/"))
    if text.startswith("file:///"):
        return FolderStore(Path(unquote(parts.path)).absolute())
    if is_address(text):
        raise ConfigError(
            f"{text} is no address that a vault can have.",
            "Write s3://bucket/prefix, or a folder's path (one with a colon begins with ./).",
        )
    return FolderStore(Path(text).expanduser().absolute())


def _open_s3(url: str, bucket: str, prefix: str) -> Store:
    if not bucket:
        raise ConfigError(f"{url} names no bucket.", "Write s3://bucket or s3://bucket/prefix.")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    allow_http = endpoint.startswith("http://")
    if allow_http and not _is_this_machine(urlsplit(endpoint).hostname or ""):
        raise ConfigError(
            f"The S3 endpoint {endpoint} is plain http, over which anybody on the way can read the vault.",
            "Use https://; plain http is for this machine alone.",
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        backend = S3Store(
            bucket,
            prefix=prefix or None,
            region=region,
            virtual_hosted_style_request=False,
            client_options={**_CLIENT, "allow_http": allow_http},  # type: ignore[arg-type]
            retry_config=_RETRY,  # type: ignore[arg-type]
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(f"{url} cannot be opened: {_gist(error)}.", "Check the AWS_* variables.") from error
    return BucketStore(url, backend)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _gist(error: Exception) -> str:
    """The first line of an error: obstore adds a page of its own structures."""
    return str(error).strip().split("\n", 1)[0].rstrip(".")[:300]
