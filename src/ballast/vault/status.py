"""How it stands: what recorder, vault and production each say, gathered for `ballast status`. Reads, and changes nothing.

Each of the three may be away. Then what it would have said is None here, with the reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError, ConfigError, EmptyStore, FormatError, GapError, IntegrityError
from ballast.postgres import read_catalog
from ballast.postgres.catalog import count_large_objects
from ballast.postgres.lsn import format_lsn
from ballast.vault import arming, checks, health, merge_rules, watchdog, wish
from ballast.vault.config import Config
from ballast.vault.drilled import DRILLED_FILE, Drilled, history
from ballast.vault.examine import read_around
from ballast.vault.health import RecorderHealth, SealerHealth, Verified
from ballast.vault.records import Cut, Gap, Relation, Shared
from ballast.vault.slot import SlotState, read_slot
from ballast.vault.standby import read_standbys
from ballast.vault.tables import UNRECORDED
from ballast.vault.vault import Vault
from ballast.vault.verdict import OnProduction, OpenGap, Verdict, judge, lag_s, moment

_PUBLISHED = files("ballast.vault").joinpath("published.sql").read_text(encoding="utf-8")
_RECENT = timedelta(days=7)


class GapShown(msgspec.Struct, frozen=True):
    """A gap of the vault."""

    tables: tuple[str, ...] | None
    """None: all."""
    from_position: str
    to_position: str | None
    """None: it is open."""
    reason: str
    detected_at: str


class VaultSide(msgspec.Struct, frozen=True):
    """What the vault holds."""

    url: str
    timeline: int
    earliest: str | None
    """The first position that can be restored; None: no image is in it yet."""
    newest: str
    newest_commit_at: str | None
    entries: int
    bytes: int
    segments: int
    images: int
    segments_to_merge: int
    undeclared: tuple[str, ...]
    """Tables of which nobody said whose rows they hold: they are kept as shared."""
    gaps: tuple[GapShown, ...]
    """Open ones, and those closed that were found in the last seven days."""
    tenants: tuple[str, ...] | None = None
    strays: tuple[str, ...] = ()
    """Objects under ledger/ that are no entries: somebody put them there."""
    drilled: Drilled | None = None
    """The last drill that its history has."""


class ProductionSide(msgspec.Struct, frozen=True):
    """What production says."""

    slot: SlotState | None
    waits: bool
    standby_names: str
    unprotected: tuple[checks.Unprotected, ...]


class Status(msgspec.Struct, frozen=True):
    """Everything that `ballast status` shows."""

    protected: bool
    verdict: Verdict
    at: str
    recorder_running: bool
    recorder: RecorderHealth | None
    lag_bytes: int | None
    lag_s: float | None
    spool_limit_bytes: int
    sealer_running: bool
    sealer: SealerHealth | None
    wishes: tuple[wish.Wish, ...]
    """New images, dumps and readings of the catalog that are due."""
    vault: VaultSide | None
    vault_unknown: str
    """Why `vault` is None."""
    production: ProductionSide | None
    production_unknown: str
    acknowledge: str
    on_recorder_loss: str
    watchdog_running: bool
    verified: Verified | None
    drilled: Drilled | None = None
    """The last drill, also one that could not be carried out."""


def status(config: Config, *, tenants: bool = False) -> Status:
    """How it stands now. `tenants`: also the names of all tenants in the vault."""
    folder = config.state_dir
    with ThreadPoolExecutor(2) as pool:
        asked_vault = pool.submit(_ask_vault, config, tenants=tenants)
        asked_production = pool.submit(_ask_production, config)
        vault, vault_unknown, damage = _answer(asked_vault)
        production, production_unknown, _ = _answer(asked_production)
    # Only now: who is away may have kept us waiting, and what is judged must be fresh.
    now = datetime.now(UTC)
    held = health.is_held(folder)
    recorder = health.read_state(folder, health.RECORDER_FILE, RecorderHealth)
    sealer = health.read_state(folder, health.SEALER_FILE, SealerHealth)
    verified = health.read_state(folder, health.VERIFIED_FILE, Verified)
    if verified is not None and vault is not None and verified.vault != vault.url:
        verified = None
    drilled = _last_drill(health.read_state(folder, DRILLED_FILE, Drilled), vault)
    verdict = judge(
        recorder,
        held=held,
        record=config.record,
        now=now,
        sealer=sealer,
        production=_on_production(production),
        gaps=_open(vault),
        verified=verified,
        damage=damage,
        drilled=drilled,
    )
    return Status(
        protected=verdict.protected,
        verdict=verdict,
        at=now.isoformat(timespec="milliseconds"),
        recorder_running=held,
        recorder=recorder,
        lag_bytes=recorder.lag_bytes if recorder is not None and held else None,
        lag_s=lag_s(recorder, now) if held else None,
        spool_limit_bytes=config.record.spool_limit_bytes,
        sealer_running=health.is_held(folder, "sealer.lock"),
        sealer=sealer,
        wishes=tuple(wish.pending(folder)),
        vault=vault,
        vault_unknown=vault_unknown,
        production=production,
        production_unknown=production_unknown,
        acknowledge=config.record.acknowledge,
        on_recorder_loss=config.record.on_recorder_loss,
        watchdog_running=health.is_held(folder, watchdog.LOCK_FILE),
        verified=verified,
        drilled=drilled,
    )


def _last_drill(tried: Drilled | None, vault: VaultSide | None) -> Drilled | None:
    """Where the vault cannot be asked, what was noted here is believed."""
    if tried is not None and vault is not None and tried.vault != vault.url:
        tried = None
    known = [drilled for drilled in (tried, vault.drilled if vault is not None else None) if drilled is not None]
    return max(known, key=lambda drilled: drilled.at, default=None)


def _answer(asked: Future[Any]) -> tuple[Any, str, BallastError | None]:
    """The answer; why there is none; and the error, where something answered that is not as it was left."""
    try:
        return asked.result(), "", None
    except (EmptyStore, IntegrityError, FormatError, ConfigError) as error:
        return None, " ".join(str(error).split()), error
    except (BallastError, psycopg.Error) as error:
        return None, " ".join(str(error).split()), None


def _open(vault: VaultSide | None) -> list[OpenGap]:
    gaps = vault.gaps if vault is not None else ()
    return [OpenGap(gap.tables, gap.from_position, gap.reason) for gap in gaps if gap.to_position is None]


def _on_production(said: ProductionSide | None) -> OnProduction | None:
    if said is None:
        return None
    if said.slot is None:
        return OnProduction("missing", said.waits)
    return OnProduction("lost" if said.slot.lost else "active" if said.slot.active else "unread", said.waits)


# The vault


def _ask_vault(config: Config, *, tenants: bool) -> VaultSide:
    vault = Vault.open(config.vault, key=config.key, anchor_dir=config.state_dir)
    index = vault.index
    timeline = index.newest_timeline
    cut = Cut(timeline, index.recorded_until(timeline))
    earliest = index.earliest(timeline)
    relations = _relations(vault, cut)
    return VaultSide(
        url=vault.store.url,
        timeline=timeline,
        earliest=None if earliest is None else f"{earliest.timeline}/{format_lsn(earliest.lsn)}",
        newest=f"{timeline}/{format_lsn(cut.lsn)}",
        newest_commit_at=next((s.last_committed_at for s in reversed(index.segments) if s.last_committed_at), None),
        entries=index.head,
        bytes=sum(ref.bytes for ref in index.objects.values()),
        segments=len(index.segments),
        images=len(index.images),
        segments_to_merge=merge_rules.waiting(index, timeline),
        undeclared=tuple(sorted({_root(r) for r in relations.values() if r.tenant == Shared(declared=False)})),
        gaps=tuple(_gaps(vault, relations)),
        tenants=_tenants(vault, cut) if tenants and earliest is not None else None,
        strays=vault.ledger.strays,
        drilled=next(reversed(history(index.notes)), None),
    )


def _relations(vault: Vault, cut: Cut) -> Mapping[int, Relation]:
    try:
        return vault.relations_at(cut)
    except GapError:  # no structure is recorded yet
        return {}


def _gaps(vault: Vault, relations: Mapping[int, Relation]) -> list[GapShown]:
    shown = []
    for gap in sorted(vault.index.gaps.values(), key=lambda gap: gap.detected_at):
        if gap.to_lsn is not None and moment(gap.detected_at) < datetime.now(UTC) - _RECENT:
            continue
        numbers = gap.relations
        if numbers is not None and gap.to_lsn is None:
            # A table that is gone has no rows any more to be wrong about.
            numbers = tuple(number for number in numbers if number in relations)
            if not numbers:
                continue
        to = None if gap.to_lsn is None else f"{gap.timeline}/{format_lsn(gap.to_lsn)}"
        tables = None if numbers is None else _names(numbers, gap, relations, vault)
        shown.append(GapShown(tables, f"{gap.timeline}/{format_lsn(gap.from_lsn)}", to, gap.reason, gap.detected_at))
    return shown


def _names(numbers: tuple[int, ...], gap: Gap, relations: Mapping[int, Relation], vault: Vault) -> tuple[str, ...]:
    then = _relations(vault, Cut(gap.timeline, gap.from_lsn))
    found = [relations.get(number) or then.get(number) for number in numbers]
    return tuple(
        form.qualified if form is not None else f"table {number}" for number, form in zip(numbers, found, strict=True)
    )


def _root(relation: Relation) -> str:
    return f"{relation.root_schema}.{relation.root_name}"


def _tenants(vault: Vault, cut: Cut) -> tuple[str, ...]:
    from ballast.vault.read import tenants  # heavy, and not always asked for

    return tuple(tenants(vault, cut))


# Production


def _ask_production(config: Config) -> ProductionSide:
    with arming.control_connection(config.dsn, "ballast status") as conn:
        conn.execute("SET default_transaction_read_only = on")
        slot = read_slot(conn, config.slot)
        standbys = read_standbys(conn, config.slot)
        catalog = read_catalog(conn)
        around = read_around(conn, checks.Wanted(config.slot, config.publication, config.record.acknowledge))
        unprotected = list(checks.unprotected_of(catalog, around, count_large_objects(conn)))
        published = {name for (name,) in conn.execute(_PUBLISHED.encode(), {"publication": config.publication})}
    outside = [
        name
        for table in catalog.tables
        if table.kind == "r" and table.persistence == "p" and table.schema not in UNRECORDED
        if (name := f"{table.schema}.{table.name}") not in published
    ]
    if outside:
        note = "changes of theirs are not recorded; `ballast protect` again takes them in"
        unprotected.insert(0, checks.Unprotected("tables outside the publication", tuple(sorted(outside)), note))
    return ProductionSide(slot, standbys.waits_for(config.slot), standbys.setting, tuple(unprotected))
