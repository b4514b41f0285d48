"""The moment before a platform was emptied is found, whatever else was deleted shortly before."""

from __future__ import annotations

from collections.abc import Callable

from ballast.continuity.wipes import Wipes
from ballast.vault.config import Tenants
from tests.fix_postgres import Database
from tests.fix_protected import Protected

_SHOPS = Tenants(column="shop")


def test_a_cart_that_was_emptied_when_there_were_few_shops_is_no_beginning_of_it(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    pg18.run(
        "CREATE TABLE item (shop int, id int, PRIMARY KEY (shop, id))",
        "CREATE TABLE cart (shop int, id int, PRIMARY KEY (shop, id))",
        "INSERT INTO item VALUES (1, 1)",
    )
    protected = new_protected(pg18, _SHOPS)
    protected.protect()
    protected.start()
    pg18.run("INSERT INTO cart VALUES (1, 1)", "DELETE FROM cart")
    protected.sealed(protected.look().cut)
    pg18.run("INSERT INTO item SELECT s, i FROM generate_series(1, 40) s, generate_series(2, 10) i")
    for shop in range(1, 5):
        pg18.run(f"INSERT INTO cart VALUES ({shop}, 1)", f"DELETE FROM cart WHERE shop = {shop}")
        protected.sealed(protected.look().cut)
    before = protected.look()
    pg18.run("DELETE FROM item")
    protected.sealed(protected.look().cut)

    wipes = Wipes(protected.vault())
    wipes.look()
    chosen = wipes.choose()

    assert "of 361 rows of all tenants 0 were left" in chosen.why
    assert chosen.resolved.cut >= before.cut
