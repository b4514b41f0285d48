"""How many rows tenants have at a moment, worked out from kinds of changes alone, is what reading them all gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ballast.continuity.counts import Counts
from ballast.vault import Vault
from ballast.vault.records import Cut
from tests.fix_postgres import Database
from tests.fix_protected import Protected
from tests.integration.test_undo import start


def test_what_was_added_less_what_was_deleted_is_what_is_there(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    cuts = [protected.look().cut]
    protected.sealed(cuts[-1])
    vault = protected.vault()
    followed = Counts(vault)
    followed.follow((), anew=not followed.newest)
    pg18.run("INSERT INTO item (shop, id, price) VALUES (1, 5001, 3), (2, 5002, 3), (3, 5003, 3)")
    cuts.append(protected.look().cut)
    pg18.run(
        "UPDATE item SET price = price + 1", "DELETE FROM part WHERE item_shop = 2", "DELETE FROM item WHERE id = 5002"
    )
    cuts.append(protected.look().cut)
    pg18.run("INSERT INTO item (shop, id, price) VALUES (2, 5002, 4)")
    cuts.append(protected.look().cut)
    protected.sealed(cuts[-1])
    vault.refresh()
    followed.follow(cuts[1:], anew=False)
    counts = Counts(vault)
    for cut in cuts:
        exact = counts.exactly(cut, counts.of_tenants(cut))
        assert exact.total() > 50
        assert _some(counts.count(cut)) == _some(exact) == _some(followed.at(cut))
    pg18.run("BEGIN; INSERT INTO log VALUES (1); TRUNCATE log; INSERT INTO log VALUES (1), (NULL); COMMIT")
    pg18.run("DELETE FROM item WHERE shop = 2")
    cut = protected.look().cut
    protected.sealed(cut)
    vault.refresh()
    followed.follow((), anew=not followed.newest)
    exact = counts.exactly(cut, counts.of_tenants(cut))
    assert _some(counts.count(cut)) == _some(exact) == _some(followed.at(_newest(vault)))


def test_counting_ahead_is_left_off_where_somebody_waits_and_begun_again_later(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    protected.sealed(protected.look().cut)
    vault, waits = protected.vault(), True
    counts = Counts(vault, lambda: waits)
    counts.follow((), anew=True)
    assert counts.newest is None
    assert counts.at(_newest(vault)).total() > 50, "who waits has it counted"
    waits = False
    counts.follow((), anew=True)
    assert counts.newest == _newest(vault)


def _some(counts: Counter[int]) -> dict[int, int]:
    return {number: count for number, count in counts.items() if count}


def _newest(vault: Vault) -> Cut:
    return vault.resolve(None).cut
