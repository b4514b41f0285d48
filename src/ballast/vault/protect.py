"""`ballast protect`: brings a server and a vault from whatever they are to a database that can be recorded.

    look        the server may be protected, whose rows are where           examine.py, checks.py
    judge       what the vault holds, and whether the server continues it   situation.py
    settle      schema, event triggers, identities, publication, slot       settle.py, server.py, publication.py
    baseline    under the slot's snapshot structure, dump, mapping, image   baseline.py
    finish      the ledger entries, from a note that survives a kill        undertaking.py

Each step finds what an earlier run has left and goes on from it, so a run that was killed anywhere is completed by the
next. The recorder's lock is held meanwhile: no recorder starts in the midst of it.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast import __version__
from ballast.errors import ConfigError, ProtectionError
from ballast.postgres import format_lsn, read_catalog, replication
from ballast.vault import (
    ancestry,
    config,
    examine,
    health,
    publication,
    salvage,
    server,
    settle,
    signing,
    undertaking,
    wish,
)
from ballast.vault import origin as origins
from ballast.vault.baseline import Place, Watcher, note_mapping, take
from ballast.vault.batch import Batch, recover_batches
from ballast.vault.checks import identity_changes
from ballast.vault.config import Config
from ballast.vault.continuation import left_timeline
from ballast.vault.differences import Difference, compare_apart_from_tables
from ballast.vault.durable import make_folder
from ballast.vault.failpoints import reach
from ballast.vault.fingerprint import Fingerprint, read_baseline, take_fingerprint, write_baseline
from ballast.vault.ledger import HEAD_FILE, Ledger
from ballast.vault.marker import read_marker
from ballast.vault.records import FORMAT_VERSION, Genesis
from ballast.vault.renumbering import numberings_of, renumbered_all
from ballast.vault.settle import wanted_of
from ballast.vault.signing import KEY_FILE
from ballast.vault.situation import Seen, Situation, judge, rules_of
from ballast.vault.slot import read_slot
from ballast.vault.store import open_store
from ballast.vault.tables import tables_of
from ballast.vault.tenancy import resolve_rules
from ballast.vault.token import read_tokens
from ballast.vault.undertaking import Held, Undertaking
from ballast.vault.vault import Vault

BUCKETS = 256
_OF_DESCENT = (
    "replication slot {}, and under its snapshot every row that is there is compared with the record: only tables that differ"
    " are imaged"
)


class Outcome(msgspec.Struct, frozen=True):
    """What `protect` did."""

    did: Literal["protected", "already protected", "repaired", "begun anew", "another timeline"]
    timeline: int
    position: str
    """From here on everything is recorded once the recorder runs."""
    tables: int
    rows: int
    bytes: int
    """COPY text of the image, before compression."""
    vault_bytes: int
    elapsed_s: float
    why: tuple[str, ...] = ()


def protect(settings: Config, config_path: Path, dsn: str, watch: Watcher) -> Outcome:
    """Protect the database of `dsn`. ProtectionError, ConfigError, ServerError, StoreError: run it again afterwards.

    `dsn` is that of `settings`, perhaps with a password, which is used and never written."""
    return _Run(settings, config_path, dsn, watch).run()


def foresee(settings: Config, dsn: str, looked: examine.Examination) -> examine.Examination:
    """The examination with what protecting will do. Nothing is changed, here neither."""
    report = looked.report
    if report.problems:
        return looked
    steps = _first_steps(looked, settings)
    if (settings.state_dir / KEY_FILE).exists() and Ledger(open_store(settings.vault)).head()[0]:
        vault = Vault.open(settings.vault, state_dir=settings.state_dir)
        with examine.session(dsn) as conn:
            situation = situation_of(vault, settings, dsn, conn)[0]
        if situation.kind == "keep":
            steps = ["nothing: it is protected already"]
        elif situation.descent is not None:
            steps = [*situation.why, *steps[:-1], _OF_DESCENT.format(settings.slot)]
        elif situation.kind != "begin":
            steps = [*situation.why, *steps]
    return msgspec.structs.replace(looked, report=msgspec.structs.replace(report, changes=tuple(steps)))


def _first_steps(looked: examine.Examination, settings: Config) -> list[str]:
    report = looked.report
    steps = ["schema ballast with three small tables and its functions"]
    if report.server.is_superuser:
        steps.append("event triggers ballast_ddl, ballast_drop, ballast_rewrite")
    steps += [f"{i.table}: REPLICA IDENTITY {i.was} becomes {i.to} ({i.why})" for i in report.identities]
    steps.append(f"publication {settings.publication} for {'all tables' if _for_all(looked) else 'the tables above'}")
    steps.append(f"replication slot {settings.slot}, and under its snapshot the first image into {settings.vault}")
    return steps


def _for_all(looked: examine.Examination) -> bool:
    """Whether the publication is one of all tables; with Citus that would take in its metadata."""
    return looked.report.server.is_superuser and not looked.around.citus


def situation_of(
    vault: Vault, settings: Config, dsn: str, conn: psycopg.Connection[Any]
) -> tuple[Situation, replication.Identity]:
    """What there is to do, by the vault and the server."""
    index = vault.index
    origin = origins.of(index) if index.timelines else None
    relations = vault.schema(max(index.schemas)).values() if index.schemas else ()
    tables = renumbered_all(tables_of(read_catalog(conn)), numberings_of(relations))
    mapping = resolve_rules(tables, settings.tenants)
    differences: list[Difference] = []
    noted = index.mappings.get(origin.timeline) if origin else None
    if noted is not None:
        was = msgspec.json.decode(vault.read_object(noted.fingerprint), type=Fingerprint)
        differences = compare_apart_from_tables(was, now := take_fingerprint(conn, settings.publication, settings.slot))
        known_good = read_baseline(settings.state_dir)
        if known_good is not None and differences:
            # What the guardian has dealt with is no difference any more.
            differences = compare_apart_from_tables(known_good.fingerprint, now)
    slot = read_slot(conn, settings.slot)
    held = undertaking.held(settings.spool_dir, origin.timeline, origin.recorded_until) if origin else Held()
    # Asked last: what a recorder at work has written down meanwhile must not seem to be past the server's end.
    with replication.connect(dsn, "ballast protect") as stream:
        identity = stream.identify_system()
        left_at = None
        last = health.read_state(settings.state_dir, health.SERVER_FILE, health.ServerSeen)
        if last is not None and last.timeline != identity.timeline:
            left_at = left_timeline(stream.timeline_history(identity.timeline), last.timeline) or 0
    descent = ancestry.recovered(index, read_marker(conn), identity) if origin else None
    if origin is not None and descent is not None:
        return Situation("fork", (descent.told,), origin.timeline, origin.recorded_until, descent=descent), identity
    seen = Seen(
        identity=identity,
        left_at=left_at,
        slot=slot,
        spooled=held.end_lsn,
        differences=tuple(differences),
        unpublished=tuple(
            t.qualified for t in publication.missing_from(publication.read(conn, settings.publication), tables)
        ),
        unsettled=tuple(change.table for change in identity_changes(mapping)),
        installed=server.read_token(conn) in read_tokens(settings.state_dir),
    )
    situation = judge(origin, seen, rules_of(relations), mapping, settings.slot)
    if situation.kind == "fork":
        descent = ancestry.promoted(index, identity, left_at)
        told = (*situation.why, descent.told) if descent is not None else situation.why
        situation = msgspec.structs.replace(situation, why=told, descent=descent)
    return situation, identity


class _Run:
    """One run: the steps share what was found before them."""

    def __init__(self, settings: Config, config_path: Path, dsn: str, watch: Watcher) -> None:
        self.settings, self.config_path, self.dsn, self.watch = settings, config_path, dsn, watch
        self.state_dir = settings.state_dir
        self.started = time.monotonic()

    def run(self) -> Outcome:
        looked = examine.examine(self.dsn, self.settings.tenants, wanted_of(self.settings))
        looked.refuse()
        make_folder(self.state_dir)
        outcome = self._run(looked)
        self.write_config()
        return outcome

    def _run(self, looked: examine.Examination) -> Outcome:
        if health.is_held(self.state_dir):
            return self.beside_recorder(looked)
        with health.only_one(self.state_dir):
            # The file is written once there is a vault: an address that was wrong can be said anew then. Another server's
            # is not written before that server is protected.
            vault = self.open_vault()
            self.write_config(moves=False)
            self.pin_key(vault)
            self.finish_begun(vault)
            with examine.session(self.dsn) as conn:
                situation, identity = situation_of(vault, self.settings, self.dsn, conn)
                if situation.kind == "keep":
                    return self.outcome(vault, "already protected", situation)
                if situation.kind == "repair":
                    return self.repair(vault, conn, looked, situation)
                if situation.kind != "begin" and salvage.seal_rest(
                    vault, self.settings, self.config_path, situation, self.watch.say
                ):
                    situation, identity = situation_of(vault, self.settings, self.dsn, conn)
                return self.begin(vault, conn, looked, situation, identity)

    # The vault's side

    def write_config(self, *, moves: bool = True) -> None:
        """The file, unless it says the same already: the owner's own comments stay then. Without `moves` the same holds for
        a file that only names another server."""
        path = self.config_path
        if path.exists():
            try:
                written = config.load(path)
                if written == self.settings:
                    return
                if not moves and msgspec.structs.replace(written, dsn=self.settings.dsn) == self.settings:
                    return
            except ConfigError:
                pass  # incomplete: what it had is in the settings
        make_folder(path.absolute().parent)
        config.write(self.settings, path)
        self.watch.say(f"{path} written")

    def pin_key(self, vault: Vault) -> None:
        """The vault's key into the file: from now on a vault that another key signed is refused."""
        if vault.index.genesis.public_key != self.settings.key:
            self.settings = config.pin(self.settings, self.config_path, vault.index.genesis.public_key)

    def open_vault(self) -> Vault:
        """The vault of this state folder, begun if need be; ConfigError for one with another key."""
        where, key_file = self.settings.vault, self.state_dir / KEY_FILE
        is_there = Ledger(open_store(where)).head()[0] > 0
        if is_there and not key_file.exists():
            raise ConfigError(
                f"There is a vault at {where} already, and its signing key is not in {self.state_dir}.",
                "Use the state folder that belongs to it (--state-dir), or choose an empty place for a new vault.",
            )
        if not is_there and (self.state_dir / HEAD_FILE).exists():
            raise ConfigError(
                f"The state folder {self.state_dir} belongs to a vault, and there is none at {where}.",
                "Correct --vault, or give a new vault a state folder of its own (--state-dir).",
            )
        if not is_there:
            self.create_vault(key_file)
        vault = Vault.open(where, state_dir=self.state_dir, key=self.settings.key)
        if signing.load_key(key_file).public != vault.index.genesis.public_key:
            raise ConfigError(
                f"The vault at {where} is signed with another key than the one in {self.state_dir}.",
                "Use the state folder that belongs to it (--state-dir), or choose an empty place for a new vault.",
            )
        return vault

    def create_vault(self, key_file: Path) -> None:
        if key_file.exists() and key_file.stat().st_size == 0:
            key_file.unlink()  # killed before the key was in it: nothing was ever signed with it
        key = signing.load_key(key_file) if key_file.exists() else signing.create_key(key_file)
        reach("protect.key")
        genesis = Genesis(FORMAT_VERSION, secrets.token_hex(8), key.public, BUCKETS, f"ballast {__version__}")
        Vault.create(self.settings.vault, genesis, state_dir=self.state_dir)
        reach("protect.genesis")
        self.watch.say(f"vault begun at {self.settings.vault}; its key is {key_file}: keep a copy of it")

    def finish_begun(self, vault: Vault) -> None:
        """Complete what a killed run had all but written, or give up its objects."""
        begun = undertaking.read(self.state_dir)
        if begun is not None and undertaking.can_finish(begun, vault):
            self.watch.say("an interrupted run is completed")
            undertaking.finish(begun, vault, self.state_dir)
            recover_batches(vault.ledger, vault.store, self.state_dir)
            undertaking.forget(self.state_dir)
        else:
            recover_batches(vault.ledger, vault.store, self.state_dir)
        vault.refresh()

    # Baseline

    def begin(
        self,
        vault: Vault,
        conn: psycopg.Connection[Any],
        looked: examine.Examination,
        situation: Situation,
        identity: replication.Identity,
    ) -> Outcome:
        """A slot and an image, from which recording goes on."""
        for reason in situation.why:
            self.watch.say(reason)
        if situation.kind != "begin":
            settle.refuse_foreign_slot(conn, self.settings, vault, identity)
            salvage.let_go(conn, self.settings, " ".join(situation.why), self.watch.say)
        settle.everything(conn, self.settings, for_all=_for_all(looked), say=self.watch.say)
        settle.clear_slot(conn, self.settings, vault, identity)
        begun = Undertaking(self.settings.slot, identity.system_identifier, identity.database)
        undertaking.write(self.state_dir, begun)
        reach("protect.begun")
        with replication.connect(self.dsn, self.settings.slot) as stream:
            slot = settle.create_slot(stream, conn, self.settings, self.watch.say)
            reach("protect.slot")
            asked = wish.pending(self.state_dir)
            wishes = tuple(w for w in asked if w.timeline == situation.timeline and situation.kind == "rebase")
            place = Place(situation, identity, slot, conn.info.server_version, wishes)
            batch = Batch(vault.store, self.state_dir, "protect", place.timeline, place.lsn, place.lsn)
            with batch:
                taken = take(self.dsn, self.settings, vault, place, batch, self.watch, looked.report.rows)
                begun = msgspec.structs.replace(
                    begun, after=vault.ledger.head()[0], bodies=taken.bodies, timeline=place.timeline, cut=place.lsn,
                    fingerprint=taken.fingerprint, wishes=tuple(w.id for w in asked), dumped=taken.dumped,
                )  # fmt: skip
                undertaking.write(self.state_dir, begun)
                reach("protect.decided")
                undertaking.finish(begun, vault, self.state_dir)
                batch.done()
        undertaking.forget(self.state_dir)
        # Should it be promoted before a recorder has seen it, it is known where it left.
        health.write_state(self.state_dir, health.SERVER_FILE, health.ServerSeen(identity.timeline))
        did: Any = {"begin": "protected", "fork": "another timeline", "rebase": "begun anew"}[situation.kind]
        situation = msgspec.structs.replace(situation, timeline=place.timeline, until=place.lsn)
        return self.outcome(vault, did, situation, rows=taken.image.rows, size=taken.image.bytes)

    # Later runs

    def repair(
        self, vault: Vault, conn: psycopg.Connection[Any], looked: examine.Examination, situation: Situation
    ) -> Outcome:
        """Put our objects on the server right, and note how it looks now.

        What was missed meanwhile is the guardian's to find out: its own baseline still says how it was before."""
        for reason in situation.why:
            self.watch.say(reason)
        settle.everything(conn, self.settings, for_all=_for_all(looked), say=self.watch.say)
        with Batch(
            vault.store, self.state_dir, "mapping", situation.timeline, situation.until, situation.until
        ) as batch:
            mapping = settle.mapping_now(conn, self.settings)
            seen = take_fingerprint(conn, self.settings.publication, self.settings.slot)
            vault.append(note_mapping(seen, self.settings, mapping, situation.timeline, batch))
            batch.done()
        if situation.blind and read_baseline(self.state_dir) is None:
            why = "; ".join(reason.rstrip(".") for reason in situation.why[:3])
            wish.leave(self.state_dir, "catalog", situation.timeline, why, id="catalog")
            wish.leave(self.state_dir, "image", situation.timeline, why, from_lsn=situation.until)
            write_baseline(self.state_dir, seen)
        if situation.blind:
            self.watch.say("changes may have been missed: the recorder writes a gap down and takes a new image")
        return self.outcome(vault, "repaired", situation)

    def beside_recorder(self, looked: examine.Examination) -> Outcome:
        """A recorder runs: nothing that it stands on may be changed."""
        vault = Vault.open(self.settings.vault, state_dir=self.state_dir)
        with examine.session(self.dsn) as conn:
            situation, _ = situation_of(vault, self.settings, self.dsn, conn)
            if situation.kind == "keep":
                return self.outcome(vault, "already protected", situation)
            if situation.kind == "repair":
                return self.repair(vault, conn, looked, situation)
        raise ProtectionError(
            f"A recorder (or another `ballast protect`) works with {self.state_dir}, and recording must begin anew:"
            f" {' '.join(situation.why) or 'nothing is protected yet.'}",
            "Stop it (SIGTERM; it seals what it holds), protect, and start it again.",
        )

    def outcome(self, vault: Vault, did: Any, situation: Situation, *, rows: int = 0, size: int = 0) -> Outcome:
        index = vault.index
        return Outcome(
            did=did,
            timeline=situation.timeline,
            position=format_lsn(situation.until),
            tables=len(vault.schema(max(index.schemas))),
            rows=rows,
            bytes=size,
            vault_bytes=sum(ref.bytes for ref in index.objects.values()),
            elapsed_s=time.monotonic() - self.started,
            why=situation.why,
        )


def _row(conn: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(query.encode()).fetchone()
    assert row is not None
    return row
