"""How many rows tenants have at a moment, worked out from kinds of changes alone, is what reading them all gives."""

from __future__ import annotations

from collections.abc import Callable

from ballast.continuity.wipes import Wipes
from tests.fix_postgres import Database
from tests.fix_protected import Protected
from tests.integration.test_undo import start


def test_what_was_added_less_what_was_deleted_is_what_is_there(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    cuts = [protected.look().cut]
    pg18.run("INSERT INTO item (shop, id, price) VALUES (1, 5001, 3), (2, 5002, 3), (3, 5003, 3)")
    cuts.append(protected.look().cut)
    pg18.run(
        "UPDATE item SET price = price + 1", "DELETE FROM part WHERE item_shop = 2", "DELETE FROM item WHERE id = 5002"
    )
    cuts.append(protected.look().cut)
    pg18.run("INSERT INTO item (shop, id, price) VALUES (2, 5002, 4)")
    cuts.append(protected.look().cut)
    protected.sealed(cuts[-1])
    wipes = Wipes(protected.vault())
    for cut in cuts:
        wanted = wipes._of_tenants(cut)
        exact = wipes._count_exactly(cut, wanted)
        assert exact.total() > 50
        assert {n: count for n, count in wipes._count(cut).items() if count} == {n: c for n, c in exact.items() if c}
    pg18.run("TRUNCATE log")
    cut = protected.look().cut
    protected.sealed(cut)
    wipes = Wipes(protected.vault())
    assert wipes._count(cut) == wipes._count_exactly(cut, wipes._of_tenants(cut))
