"""A vault that is open: its store, its ledger and the index over it, and the small objects that everybody needs."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ballast.errors import ConfigError, IntegrityError
from ballast.vault.index import VaultIndex
from ballast.vault.ledger import Ledger, entry_name, sha256
from ballast.vault.plan import Plan
from ballast.vault.records import Body, Cut, Entry, Genesis, ObjectRef, Relation, Segment
from ballast.vault.signing import KEY_FILE, SigningKey, load_key
from ballast.vault.store import Store, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from ballast.vault.moment import Resolved

_TRANSACTIONS_KEPT = 64


class Extent(msgspec.Struct, frozen=True):
    """A vault as far as one process sees it: whoever opens it so far, anywhere, reads the same rows from the same objects."""

    url: str
    key: str
    """The public key that signs it."""
    entries: int
    """Of its ledger, from the first."""
    sha256: str
    """Of the last of them, which vouches for all before it."""


_relations_decoder = msgspec.json.Decoder(tuple[Relation, ...])


class Vault:
    """The vault at `store`. Reading needs nothing else; adding needs the recorder's state folder with its key."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store = store
        self.ledger = ledger
        self.index = VaultIndex()
        self._schemas: dict[int, Mapping[int, Relation]] = {}
        self._by_name: dict[str, Mapping[int, Relation]] = {}
        self._transactions: dict[str, pa.Table] = {}
        self._lock = threading.Lock()
        self._genuine: set[str] = set()
        self._checking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        state_dir: Path | str | None = None,
        key: str | None = None,
        anchor_dir: Path | str | None = None,
    ) -> Vault:
        """Read the ledger at `url` (see `open_store`). ConfigError where there is no vault; IntegrityError where it is
        signed by another key than the public `key`: with none, whoever replaces a whole vault is believed.

        With `state_dir` (and the key in it) entries can be added, and the ledger is held against its head there. With
        `anchor_dir`, a state folder too, it is only held against that: without, a tail that was cut off is not noticed."""
        store = open_store(url)
        vault = cls(store, Ledger(store, _key_in(state_dir), state_dir=state_dir or anchor_dir))
        vault.refresh()
        if vault.index.head == 0:
            raise ConfigError(
                f"There is no vault at {store.url}.",
                "Check the address, and that its disk is mounted; a new vault is begun by `ballast protect`.",
            )
        vault.refuse_other_than(key)
        return vault

    @classmethod
    def open_to(cls, extent: Extent) -> Vault:
        """The vault as the process sees it that gave `extent`; what was added since is left out.

        ConfigError, StoreError where this process cannot read it; IntegrityError where it finds another one."""
        store = open_store(extent.url)
        vault = cls(store, Ledger(store))
        entries = vault.ledger.read()
        if not entries:
            raise ConfigError(f"There is no vault at {store.url}.", "Make the same folder or bucket readable here.")
        for entry in entries[: extent.entries]:
            vault.index.apply(entry)
        vault.refuse_other_than(extent.key)
        after = entries[extent.entries].previous if len(entries) > extent.entries else vault.ledger.head()[1]
        if len(entries) < extent.entries or after != extent.sha256:
            raise IntegrityError(
                f"The vault at {store.url}, as it is seen here, is not the one that is restored from: of {extent.entries}"
                f" entries of the ledger {min(len(entries), extent.entries)} are here, or the last is another.",
                "Make the same folder or bucket readable here, not an older copy of it.",
            )
        return vault

    def extent(self) -> Extent:
        """How far this process sees the vault."""
        number, sha = self.ledger.head()
        if number != self.index.head:  # a sibling has written since
            number, sha = self.index.head, sha256(self.store.get(entry_name(self.index.head)))
        return Extent(self.store.url, self.index.genesis.public_key, number, sha)

    @classmethod
    def create(cls, url: str | Path, genesis: Genesis, *, state_dir: Path | str) -> Vault:
        """Begin a vault with `genesis`, signed by the key in `state_dir`. ConfigError if one is there."""
        store = open_store(url)
        vault = cls(store, Ledger(store, _key_in(state_dir), state_dir=state_dir))
        vault.index.apply(vault.ledger.create(genesis))
        return vault

    def refuse_other_than(self, key: str | None) -> None:
        """IntegrityError unless the vault is signed by this public key. None or "": any."""
        signed = self.index.genesis.public_key
        if key and key != signed:
            raise IntegrityError(
                f"The vault at {self.store.url} is signed by the key {signed[:16]}…, not by {key[:16]}…: it is another"
                " vault, or a forged one.",
                "Check the address and the key in ballast.toml (or --key); bring the vault back from a copy.",
            )

    def refresh(self) -> int:
        """Take in the entries written since; how many."""
        with self._lock:
            entries = self.ledger.read(self.index.head)
            for entry in entries:
                self.index.apply(entry)
        return len(entries)

    def append(self, body: Body, *, number: int | None = None) -> Entry:
        """Add an entry and take it in, with those that other processes of this recorder wrote before it.

        `number`: see `Ledger.append`."""
        entry = self.ledger.append(body, number=number)
        if entry.number == self.index.head + 1:
            with self._lock:
                self.index.apply(entry)
        else:
            self.refresh()
        return entry

    def schema(self, version: int) -> Mapping[int, Relation]:
        """The relations of a schema version, by number."""
        if version not in self._schemas:
            if version not in self.index.schemas:
                raise IntegrityError(f"Schema version {version} is not in the vault.", "Run `ballast verify`.")
            # After a command that changes no table it is the object of the version before.
            ref = self.index.schemas[version].relations
            if (known := self._by_name.get(ref.name)) is not None:
                return self._schemas.setdefault(version, known)
            data = self.read_object(ref)
            try:
                relations = _relations_decoder.decode(data)
            except msgspec.DecodeError as error:
                raise IntegrityError(
                    f"Schema version {version} cannot be read: {error}.", "Run `ballast verify`."
                ) from error
            self._schemas[version] = self._by_name[ref.name] = {relation.number: relation for relation in relations}
        return self._schemas[version]

    def relations_at(self, cut: Cut) -> Mapping[int, Relation]:
        """The relations in force at `cut`, by number."""
        return self.schema(self.index.schema_at(cut).version)

    def plan(self, cut: Cut, bucket: int) -> Plan:
        """Which runs give `bucket` at `cut`."""
        return self.index.plan(cut.timeline, cut.lsn, bucket)

    def resolve(self, at: str | None = None, *, now: datetime | None = None) -> Resolved:
        """The cut for a time, a position `[timeline/]X/Y` or None (newest): see `ballast.vault.moment`."""
        from ballast.vault import moment  # brings pyarrow, for which who reads the ledger alone need not wait

        now = now if now is not None else datetime.now()
        return moment.resolve(self.index, self.transactions, at, now=now)

    def transactions(self, segment: Segment) -> pa.Table | None:
        """The segment's transactions, a row each, as `docs/vault-format.md` lists the columns; None if it has none."""
        ref = segment.transactions
        if ref is None:
            return None
        if ref.name not in self._transactions:
            import pyarrow as pa  # as above
            import pyarrow.parquet as pq

            table = pq.read_table(pa.BufferReader(self.read_object(ref)))
            while len(self._transactions) >= _TRANSACTIONS_KEPT:
                self._transactions.pop(next(iter(self._transactions)))
            self._transactions[ref.name] = table
        return self._transactions[ref.name]

    def check_object(self, ref: ObjectRef) -> None:
        """Hold a large object against the ledger, whole, when this process first reads it; IntegrityError.

        Checksums of pages are no proof: another valid file has its own."""
        with self._lock:
            checking = self._checking[ref.name]
        with checking:
            if ref.name in self._genuine:
                return
            digest, size = hashlib.sha256(), 0
            for piece in self.store.stream(ref.name):
                digest.update(piece)
                size += len(piece)
            if size != ref.bytes or digest.hexdigest() != ref.sha256:
                raise self._other(ref)
            self._genuine.add(ref.name)

    def read_object(self, ref: ObjectRef) -> bytes:
        """A small object whole, held against the ledger; IntegrityError where it is another."""
        data = self.store.get(ref.name)
        if len(data) != ref.bytes or sha256(data) != ref.sha256:
            raise self._other(ref)
        return data

    def _other(self, ref: ObjectRef) -> IntegrityError:
        return IntegrityError(
            f"{ref.name} in {self.store.url} is not what the ledger says.",
            "Run `ballast verify`; bring the object back from a copy of the vault.",
        )


def _key_in(state_dir: Path | str | None) -> SigningKey | None:
    if state_dir is None or not (Path(state_dir) / KEY_FILE).exists():
        return None
    return load_key(Path(state_dir) / KEY_FILE)
