"""What is told of a deletion from the recorder's spool is what the vault tells when it is sealed, and nothing before it waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from ballast.continuity import unsealed, wipes
from ballast.continuity.wipes import Chosen, Foretold, Wipes
from ballast.vault import Vault, health
from ballast.vault.config import Tenants
from ballast.vault.health import SealerHealth
from ballast.vault.records import Cut
from tests.fix_postgres import Database
from tests.fix_protected import Protected

SHOPS = 40
ALL = "DELETE FROM item; DELETE FROM cart;"
ORDER = "INSERT INTO cart VALUES (1, 7)"


class Seen:
    """What can be told before and after what is done is sealed."""

    def __init__(self, protected: Protected, vault: Vault, wipes: Wipes) -> None:
        self.protected, self.vault, self.wipes = protected, vault, wipes
        self.look()

    def look(self) -> None:
        self.vault.refresh()
        self.wipes.look()

    def of(self, *statements: str) -> tuple[Foretold | None, Chosen]:
        protected, wipes = self.protected, self.wipes
        found = health.read_state(protected.config.state_dir, health.SEALER_FILE, SealerHealth)
        assert found is not None
        os.kill(found.pid, signal.SIGSTOP)
        try:
            protected.db.run(*statements)
            sealed = wipes.sealed
            assert sealed is not None
            tail = unsealed.read(protected.config.spool_dir, sealed.timeline, sealed.lsn, wipes.oids)
            assert tail is not None
            foretold = wipes.foretell(tail)
        finally:
            os.kill(found.pid, signal.SIGCONT)
        protected.sealed(protected.look().cut)
        self.look()
        return foretold, wipes.choose()


def test_what_the_spool_tells_is_what_the_vault_tells_later(
    pg18: Database, new_protected: Callable[..., Protected], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wipes, "TOGETHER", timedelta(0))  # what follows happens one day after another
    pg18.run(
        "CREATE TABLE item (shop int, id int, PRIMARY KEY (shop, id))",
        "CREATE TABLE cart (shop int, id int, PRIMARY KEY (shop, id))",
        "CREATE TABLE log (shop int, id int, PRIMARY KEY (shop, id))",
        f"INSERT INTO item SELECT s, i FROM generate_series(1, {SHOPS}) s, generate_series(1, 100) i",
        f"INSERT INTO log SELECT s, i FROM generate_series(1, {SHOPS}) s, generate_series(1, 80) i",
    )
    protected = new_protected(pg18, Tenants(column="shop"), seal_after_s=60)
    protected.protect()
    protected.start()
    pg18.run(ORDER)
    protected.sealed(protected.look().cut)
    vault = protected.vault()
    seen = Seen(protected, vault, Wipes(vault))

    imported = "INSERT INTO item SELECT 1, i FROM generate_series(1001, 51000) i"
    for done in (
        (imported,),
        ("DELETE FROM item WHERE shop = 1 AND id > 1000",),  # more than half of all rows, and of one shop alone
        ("DELETE FROM log",),
        ("BEGIN; DELETE FROM item; ROLLBACK", "DELETE FROM cart"),
        (f"INSERT INTO item SELECT s, i FROM generate_series(1, {SHOPS}) s, generate_series(101, 1000) i",),
    ):
        foretold, chosen = seen.of(*done)
        assert foretold is None, done
        assert not chosen.why, done

    again = "INSERT INTO item SELECT s, 5 FROM generate_series(1, 30) s;"
    foretold, chosen = seen.of(ORDER, f"BEGIN; {ALL} {again} COMMIT", "INSERT INTO cart VALUES (2, 8)")
    assert foretold is not None
    assert foretold.deletion == chosen.resolved.cut
    assert f"of {SHOPS * 1000 + 1:,} rows of all tenants 31 were left" in foretold.why
    assert f"of {SHOPS * 1000 + 1:,} rows of all tenants 31 were left" in chosen.why
    ends = {Cut(segment.timeline, segment.last_lsn) for segment in vault.index.segments_of(foretold.cut.timeline)}
    assert foretold.cut in ends, "what came before it is sealed without it"

    foretold, chosen = seen.of(ORDER.replace("7", "9"))
    assert foretold is not None, "it is sealed, and what came after it is not"
    assert foretold.deletion == chosen.resolved.cut
    monkeypatch.undo()
    foretold, _ = seen.of("DELETE FROM item")
    assert foretold is None, "there may have been more of that deed"
    foretold, _ = seen.of("TRUNCATE item")
    assert foretold is None, "numbers of rows do not tell what it took"
