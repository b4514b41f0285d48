"""The ledger: numbered, hash-chained, signed entries, one object each, that say all there is in the vault.

An object of the store counts only once an entry names it. Number n is written by put-if-absent, so of two
writers one gets it, and the other learns that it must stop.

Processes of one recorder (sealer, merger, guardian) share a state folder and write in turn under a lock there;
`head.json` in it tells each what the others added, so that nobody lists. The same file is the anchor against a
cut-off tail: the store alone cannot show that its last entries are missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ballast.errors import (
    AlreadyExists,
    ConfigError,
    EmptyStore,
    FencedError,
    FormatError,
    IntegrityError,
    NotFound,
    Overtaken,
    StoreError,
)
from ballast.vault import pages, signing
from ballast.vault.durable import make_folder, replace_file
from ballast.vault.records import FORMAT_VERSION, Body, Entry, Genesis
from ballast.vault.store import Store

PREFIX = "ledger/"
HEAD_FILE = "head.json"
_LOCK_FILE = "ledger.lock"
_WRITER_FILE = "writer"
_CONCURRENT_GETS = 16
_LOOKED_AT_AFTER_A_HOLE = 16
_LOOK_EVERY_S = 5.0
_NAME = re.compile(r"ledger/(\d{12})\.json")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class Head(msgspec.Struct, frozen=True):
    """The last entry that this recorder wrote or saw; number 0 and sha256 "" before the first."""

    number: int = 0
    sha256: str = ""
    public_key: str = ""


def entry_name(number: int) -> str:
    """`ledger/000000000001.json`: twelve digits, so that names sort as numbers do."""
    return f"{PREFIX}{number:012d}.json"


def encode(entry: Entry) -> bytes:
    """The bytes that are stored and hashed."""
    return _encoder.encode(entry)


def decode(data: bytes, name: str) -> Entry:
    """The entry in `data`. FormatError where it was written by a newer Ballast, IntegrityError where it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if _is_of_a_newer_format(data):
            raise FormatError(
                f"{name} is of a kind that this version of Ballast does not know.", "Update Ballast."
            ) from error
        raise IntegrityError(
            f"{name} is not a ledger entry: {error}.",
            "Run `ballast verify`; take the entry from a copy of the vault.",
        ) from error


def _is_of_a_newer_format(data: bytes) -> bool:
    known = {body.__struct_config__.tag for body in Body.__args__}
    try:
        kind = msgspec.json.decode(data)["body"]["type"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return False
    return isinstance(kind, str) and kind not in known


def signed_part(entry: Entry) -> bytes:
    """What the signature is over."""
    return encode(msgspec.structs.replace(entry, signature=""))


def sha256(data: bytes) -> str:
    """Hex, as `previous` holds it."""
    return hashlib.sha256(data).hexdigest()


class Ledger:
    """The ledger of one store. Reading needs no key; with a `state_dir` its head is kept there as well."""

    def __init__(
        self,
        store: Store,
        key: signing.SigningKey | None = None,
        *,
        state_dir: Path | str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._key = key
        self._state = Path(state_dir) if state_dir is not None else None
        self._now = now
        self._head: Head | None = None
        self._public = ""
        self._writer = ""
        self._unsure: Entry | None = None
        self._looked_at = float("-inf")
        self._strays: set[str] = set()

    @property
    def strays(self) -> tuple[str, ...]:
        """Objects under `ledger/` that `read` has passed over, being no entries of this vault: somebody put them there."""
        return tuple(sorted(self._strays))

    def create(self, genesis: Genesis) -> Entry:
        """Write entry 1. ConfigError if the store holds a vault already."""
        key = self._signer()
        if genesis.public_key != key.public:
            raise ConfigError("The genesis entry names another key than the one that signs.", "")
        self._head = Head()
        self._public = genesis.public_key
        self._store.begin()
        try:
            return self.append(genesis)
        except FencedError:
            raise ConfigError(
                f"{self._store.url} holds a vault already.", "Use it, or choose an empty place for a new one."
            ) from None

    def head(self) -> tuple[int, str]:
        """Number and SHA-256 of the last entry; (0, "") for an empty store. Lists once, then remembers."""
        return self._at().number, self._at().sha256

    def read(self, after: int = 0) -> list[Entry]:
        """The entries with a larger number than `after`, checked: numbers, chain, signatures.

        IntegrityError where one is missing or not what it should be, FormatError for a newer format. What stands after a
        hole and is not signed with our key is no entry: see `strays`."""
        if not self._public and after:
            self._public = self._genesis().public_key
        anchor = self._anchor()  # before listing: siblings put first and anchor afterwards
        names = [name for name, _ in self._store.list(PREFIX, after=entry_name(after))]
        if anchor is not None and anchor.number and not names and not after:
            raise (EmptyStore if self._store.is_there() else StoreError)(
                f"{self._store.url} holds nothing, and this recorder has written {anchor.number} entries of its ledger.",
                "Is it mounted, and is it the right address? If all of it was removed, bring it back from a copy.",
            )
        last, beyond, foreign = follow(names, after)
        self._strays.update(foreign)
        if anchor is not None and anchor.number > last and not beyond:
            raise IntegrityError(
                f"The ledger of {self._store.url} ends at entry {last}, but this recorder has written"
                f" {anchor.number}: its tail was removed.",
                "Run `ballast verify`; bring the missing objects back from a copy of the vault.",
            )
        if beyond and (last == 0 or (anchor is not None and anchor.number > last)):
            raise self._lacks(last, beyond[0])
        if last == after:
            self._pass_over(last, beyond)
            if self._head is None and not after:
                self._head = Head()
            return []
        try:
            entries, previous = self._chain(after, self._stored(after + 1, last), anchor)
        except IntegrityError:  # perhaps of a page only; if not, every signature tells which entry it is
            entries, previous = self._chain(after, self._stored(after + 1, last, paged=False), anchor, every=True)
        self._pass_over(last, beyond)
        if self._head is None or self._head.number < entries[-1].number:
            self._head = Head(entries[-1].number, previous, self._public)
        return entries

    def _pass_over(self, last: int, beyond: list[int]) -> None:
        """Numbers after a hole: IntegrityError if an entry of ours is among them, for then one before it is gone."""
        unknown = [number for number in beyond if entry_name(number) not in self._strays]
        for number in unknown[:_LOOKED_AT_AFTER_A_HOLE]:
            if self._is_ours(number):
                raise self._lacks(last, number)
        self._strays.update(map(entry_name, unknown))

    def _is_ours(self, number: int) -> bool:
        name = entry_name(number)
        try:
            entry = decode(self._store.get(name), name)
        except (IntegrityError, FormatError, NotFound):
            return False
        return entry.number == number and signing.verify(self._public, signed_part(entry), entry.signature)

    def _lacks(self, last: int, found: int) -> IntegrityError:
        return IntegrityError(
            f"The ledger of {self._store.url} lacks {entry_name(last + 1)} (next is {entry_name(found)}).",
            "Run `ballast verify`.",
        )

    def _stored(self, first: int, last: int, *, paged: bool = True) -> dict[int, bytes]:
        """The bytes of these entries, from pages as far as there are any."""
        found: dict[int, bytes] = {}
        with ThreadPoolExecutor(_CONCURRENT_GETS) as pool:
            if paged:
                for lines in pool.map(lambda page: pages.read(self._store, page), pages.pages_within(first, last)):
                    found |= lines
            missing = [number for number in range(first, last + 1) if number not in found]
            single = pool.map(self._store.get, map(entry_name, missing))
            return {**found, **dict(zip(missing, single, strict=True))}

    def _chain(
        self, after: int, stored: dict[int, bytes], anchor: Head | None, *, every: bool = False
    ) -> tuple[list[Entry], str]:
        """The entries, and the hash of the last. Its signature vouches for all before it, by the chain of hashes;
        with `every` each is checked all the same."""
        previous = self._hash_of(after)
        entries = []
        last = after + len(stored)
        for number in range(after + 1, last + 1):
            data = stored[number]
            entries.append(self._checked(number, data, previous, signed=every or number == last))
            previous = sha256(data)
            if anchor is not None and anchor.number == number and anchor.sha256 != previous:
                raise IntegrityError(
                    f"{entry_name(number)} in {self._store.url} is not the entry that this recorder wrote.",
                    "Run `ballast verify`.",
                )
        return entries, previous

    def _turn_page(self, number: int) -> None:
        """After the last entry of a page: put them together."""
        if number % pages.ENTRIES == 0:
            lines = self._stored(number - pages.ENTRIES + 1, number, paged=False)
            pages.add(self._store, number // pages.ENTRIES, [lines[n] for n in sorted(lines)])

    def append(self, body: Body, *, number: int | None = None) -> Entry:
        """Add the next entry; durable when this returns. FencedError if another writer has taken its number.

        `number`: only as this one; Overtaken if a process of this recorder has added others since, which may matter.
        After a StoreError the entry may or may not be there. Appending an equal body again settles that
        without writing it twice."""
        key = self._signer()
        with self._turn():
            if self._unsure is not None and self._unsure.body != body:
                self._settle(self._unsure)
            while True:
                head = self._at()
                self._mind_the_key(key)
                self._mind_the_tail(head)
                if number is not None and self._unsure is None and head.number != number - 1:
                    raise Overtaken(f"Entry {number} is to come next, and the ledger has {head.number}.", "")
                entry = self._unsure or self._sign(key, head, body)
                data = encode(entry)
                self._unsure = entry
                try:
                    self._store.put(entry_name(entry.number), data)
                except AlreadyExists:
                    if (found := self._store.get(entry_name(entry.number))) != data:
                        self._unsure = None
                        self._adopt(found)
                        continue
                self._unsure = None
                self._advance(Head(entry.number, sha256(data), self._public))
                break
        self._turn_page(entry.number)
        return entry

    def _sign(self, key: signing.SigningKey, head: Head, body: Body) -> Entry:
        written_at = self._now().isoformat(timespec="microseconds")
        entry = Entry(head.number + 1, head.sha256, written_at, self._writer_name(), body)
        return msgspec.structs.replace(entry, signature=key.sign(signed_part(entry)))

    def _mind_the_key(self, key: signing.SigningKey) -> None:
        if not self._public:
            raise ConfigError(f"{self._store.url} holds no vault yet.", "`ballast protect` begins one.")
        if key.public != self._public:
            raise ConfigError(
                f"The signing key of this state folder is not the key of the vault {self._store.url}.",
                "Use the state folder that belongs to this vault.",
            )

    def _mind_the_tail(self, head: Head) -> None:
        """IntegrityError where the last entry is gone: one written over the hole could never be read. Looked at now and
        then, since commits may wait for what is written here."""
        if head.number == 0 or time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        try:
            found = sha256(self._store.get(entry_name(head.number)))
        except NotFound:
            if not self._store.list(PREFIX):
                raise EmptyStore(
                    f"{self._store.url} holds nothing, and {head.number} entries of its ledger were written.",
                    "Is it mounted? If all of it was removed, bring it back from a copy.",
                ) from None
            found = ""
        if found != head.sha256:
            raise IntegrityError(
                f"{entry_name(head.number)} in {self._store.url}, the last entry of its ledger, was"
                f" {'changed' if found else 'removed'}.",
                "Run `ballast verify`; bring the missing objects back from a copy of the vault, then recording goes on.",
            )
        self._looked_at = time.monotonic()

    def _settle(self, unsure: Entry) -> None:
        """Find out whether the entry whose put brought no answer is there."""
        with contextlib.suppress(NotFound):
            found = self._store.get(entry_name(unsure.number))
            if found == encode(unsure):
                self._advance(Head(unsure.number, sha256(found), self._public))
        self._unsure = None

    def _adopt(self, found: bytes) -> None:
        """Go on from an entry at the next number if a process of this very recorder wrote it; else we are fenced."""
        number = self._at().number + 1
        entry = self._checked(number, found, self._at().sha256)
        if entry.writer != self._writer_name():
            raise FencedError(
                f"Another writer ({entry.writer}) has added entry {number} to {self._store.url} at {entry.written_at}.",
                "Only one recorder may write a vault: stop one of the two, then start the other again.",
            )
        self._advance(Head(number, sha256(found), self._public))

    def _checked(self, number: int, data: bytes, previous: str, *, signed: bool = True) -> Entry:
        name = entry_name(number)
        try:
            entry = decode(data, name)
        except IntegrityError as error:
            if self._is_after_ours(number):
                raise self._junk(name, "cannot be read as one") from error
            raise
        if number == 1 and isinstance(entry.body, Genesis):
            if entry.body.format > FORMAT_VERSION:
                raise FormatError(
                    f"{self._store.url} is a vault of format {entry.body.format}; this Ballast reads {FORMAT_VERSION}.",
                    "Update Ballast.",
                )
            self._public = self._public or entry.body.public_key
        problem = problem_of(entry, data, number, previous, self._public if signed else None)
        if problem:
            if self._is_after_ours(number) and not signing.verify(self._public, signed_part(entry), entry.signature):
                raise self._junk(name, problem)
            raise IntegrityError(f"{name} in {self._store.url} {problem}.", "Run `ballast verify`.")
        return entry

    def _is_after_ours(self, number: int) -> bool:
        """Whether this recorder has never written so far: nothing is lost with what stands there and is not genuine."""
        anchor = self._anchor()
        return bool(self._public) and anchor is not None and number > anchor.number

    def _junk(self, name: str, why: str) -> IntegrityError:
        return IntegrityError(
            f"{name} in {self._store.url} stands where the next entry of the ledger is to be, and is none of this vault's:"
            f" it {why}. Somebody else has put it there; nothing can be recorded into the vault meanwhile.",
            f"Keep a copy of it, and delete the object {name} with the rights of the store's owner; recording goes on then.",
        )

    def _at(self) -> Head:
        shared = self._anchor()
        if shared is not None and (self._head is None or shared.number > self._head.number):
            self._head, self._public = shared, shared.public_key
        if self._head is None:
            names = self._store.list(PREFIX)
            if not names:
                self._head = Head()
            else:
                number, beyond, foreign = follow([name for name, _ in names], 0)
                if number == 0 or beyond or foreign:
                    self.read()  # says which is missing, or passes over what is none; and knows the head then
                else:
                    self._public = self._genesis().public_key
                    self._head = Head(number, self._hash_of(number), self._public)
        assert self._head is not None
        return self._head

    def _anchor(self) -> Head | None:
        if self._state is None:
            return None
        return read_head(self._state)

    def _advance(self, head: Head) -> None:
        self._head = head
        if self._state is not None:
            replace_file(self._state / HEAD_FILE, _encoder.encode(head))

    def _hash_of(self, number: int) -> str:
        if number == 0:
            return ""
        if self._head is not None and self._head.number == number:
            return self._head.sha256
        return sha256(self._store.get(entry_name(number)))

    def _genesis(self) -> Genesis:
        body = decode(self._store.get(entry_name(1)), entry_name(1)).body
        if not isinstance(body, Genesis):
            raise IntegrityError(f"{entry_name(1)} in {self._store.url} is not a genesis.", "Run `ballast verify`.")
        return body

    def _signer(self) -> signing.SigningKey:
        if self._key is None:
            raise ConfigError(
                f"{self._store.url} was opened for reading: there is no signing key.",
                "Writing needs the recorder's state folder.",
            )
        return self._key

    def _writer_name(self) -> str:
        if not self._writer:
            identity = secrets.token_hex(8)
            if self._state is not None:
                identity = _identity_of(self._state)
            self._writer = f"{socket.gethostname()}/{identity}"
        return self._writer

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if self._state is None:
            yield
            return
        make_folder(self._state)
        lock = os.open(self._state / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._writer_name()
            yield
        finally:
            os.close(lock)


def _identity_of(state: Path) -> str:
    """Who writes from this state folder. A copy of it is another writer: else it would take what the other adds for its own."""
    path, inode = state / _WRITER_FILE, state.stat().st_ino
    with contextlib.suppress(FileNotFoundError):
        identity, _, folder = path.read_text().partition(" ")
        if folder == str(inode):
            return identity
    identity = secrets.token_hex(8)
    replace_file(path, f"{identity} {inode}".encode())
    return identity


def read_head(state_dir: Path | str) -> Head | None:
    """The anchor that a recorder keeps in its state folder, if there is one."""
    try:
        return msgspec.json.decode((Path(state_dir) / HEAD_FILE).read_bytes(), type=Head)
    except FileNotFoundError:
        return None


def follow(names: list[str], after: int) -> tuple[int, list[int], list[str]]:
    """(The last number that follows `after` without a hole, numbers beyond, names that are no entry's) of sorted names."""
    last, beyond, foreign = after, [], []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) == 0:
            foreign.append(name)
        elif int(match[1]) == last + 1:
            last += 1
        else:
            beyond.append(int(match[1]))
    return last, beyond, foreign


def problem_of(entry: Entry, data: bytes, number: int, previous: str, public: str | None) -> str:
    """What is wrong with an entry found at `number` as `data`, after one with hash `previous`; "" if nothing.

    `public` None: a later entry's signature vouches for it."""
    if entry.number != number:
        return f"says that it is entry {entry.number}"
    if (number == 1) != isinstance(entry.body, Genesis):
        return "is not a genesis entry" if number == 1 else "is a second genesis entry"
    if encode(entry) != data:
        return "is not spelled as it was signed"
    if public is not None and not signing.verify(public, signed_part(entry), entry.signature):
        return "is not signed with this vault's key"
    if entry.previous != previous:
        return f"does not follow from entry {number - 1}"
    return ""
