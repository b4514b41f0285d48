"""One live tenant goes back in place: exactly its rows, everything or nothing, with who and why, on 16 and 18."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from ballast.errors import GapError, RestoreError
from ballast.recovery import Request, amend, restore
from ballast.recovery.rewind import Rewinding, rewind
from ballast.recovery.rewound import Rewound
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from ballast.vault.records import Cut
from ballast.vault.registry import Registry
from tests.fix_postgres import Database
from tests.integration.test_random_histories import VALUES
from tests.integration.test_restore import FILL, NOT_T3, SHOP, TENANTS, of
from tests.kept import Contents, Kept, contents, sequence_values

pytestmark = pytest.mark.any_version


@pytest.fixture
def kept(pg: Database, open_folder: Path) -> Kept:
    pg.run(*SHOP, *FILL)
    made = Kept(pg, open_folder, TENANTS)
    made.look()
    return made


def back(kept: Kept, at: Cut | None = None, tenant: str = "t3", **asked: object) -> Rewound:
    resolved = kept.vault.resolve(None if at is None else show(at))
    return rewind(kept.vault, resolved, kept.db.dsn, Rewinding(tenant, **asked))  # type: ignore[arg-type]


def counts(found: Rewound) -> dict[str, tuple[int, int, int]]:
    return {table.table: (table.comes_back, table.changes, table.goes) for table in found.tables}


def versions(db: Database, but: str) -> dict[str, list[tuple[object, ...]]]:
    """What names the versions of all rows of the other tenants: none was written anew, not even with the same values."""
    tables = {"shop": "tenant", "item": "tenant", "line": "item_tenant", "log": "tenant", "visit_25": "tenant"}
    return {
        table: db.query(f"SELECT ctid::text, xmin::text FROM {table} WHERE {column} <> '{but}' ORDER BY 1")
        for table, column in tables.items()
    }


DAMAGE = (
    "DELETE FROM comment WHERE line_id IN (SELECT id FROM line WHERE item_tenant = 't3' AND id % 2 = 0)",
    "DELETE FROM line WHERE item_tenant = 't3' AND id % 2 = 0",
    "UPDATE item SET price = 77, feeling = 'odd ''one''', tags = '{}' WHERE tenant = 't3' AND price > 5",
    "UPDATE shop SET name = E'it''s \\\\ gone\\n' WHERE tenant = 't3'",
    "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE tenant = 't3')",
    "INSERT INTO log VALUES ('t3', 'new'), ('t3', 'twice'), ('t3', 'twice')",
    "INSERT INTO item (tenant, price) VALUES ('t3', 1), ('t3', 2)",
    "UPDATE visit SET n = NULL WHERE tenant = 't3' AND day < '2026-01-01'",
    "UPDATE visit SET day = '2025-06-06' WHERE tenant = 't3' AND day > '2026-01-01'",
)


def test_a_tenant_comes_back_exactly_and_nobody_else_is_touched(kept: Kept) -> None:
    db = kept.db
    mine, others, whose = contents(db, where=of("t3")), contents(db, where=NOT_T3), versions(db, "t3")
    shared = contents(db)["Back Office.Rate"]
    db.run(*DAMAGE)
    damaged = contents(db, where=of("t3"))

    shown = back(kept, dry_run=True)
    assert not shown.done
    assert contents(db, where=of("t3")) == damaged
    found = back(kept, by="lin", reason="a bad import")
    assert found.done
    assert counts(found) == counts(shown)
    changes = counts(found)
    lost = (len(mine["public.line"]) - len(damaged["public.line"]), 0, 0)
    assert lost[0]
    assert changes["public.line"] == changes["public.comment"] == lost
    assert changes["public.shop"] == (0, 1, 0)
    assert changes["public.log"] == (0, 0, 2)
    assert changes["public.item"] == (0, 2, 2)
    assert changes["public.visit_25"] == (0, 1, 1)
    assert changes["public.visit_26"] == (1, 0, 0)

    assert contents(db, where=of("t3")) == mine
    assert contents(db, where=NOT_T3) == others
    assert contents(db)["Back Office.Rate"] == shared
    assert versions(db, "t3") == whose
    again = back(kept)
    assert not again.done
    assert not again.tables
    assert again.compared == found.compared + sum(a + b for a, b, _ in changes.values())


def test_the_dry_run_shows_rows(kept: Kept) -> None:
    ((number,),) = kept.db.query("SELECT id::text FROM item WHERE tenant = 't3' AND price = 1")
    kept.db.run("UPDATE item SET price = 77 WHERE tenant = 't3' AND price = 1", "DELETE FROM log WHERE tenant = 't3'")
    (item, log) = back(kept, dry_run=True).tables
    assert (item.table, log.table) == ("public.item", "public.log")
    (sample,) = item.sample
    assert (sample.what, sample.key) == ("changes", {"tenant": "t3", "id": number})
    assert (sample.before, sample.after) == ({"price": "77.00"}, {"price": "1.00"})
    assert [s.after for s in log.sample] == [{"tenant": "t3", "said": "twice"}] * 2


def test_only_the_tables_named(kept: Kept) -> None:
    db = kept.db
    log = contents(db, where={"log": "true"})
    db.run("DELETE FROM log WHERE tenant = 't3'", "UPDATE shop SET name = 'x' WHERE tenant = 't3'")
    assert counts(back(kept, tables=("log",))) == {"public.log": (2, 0, 0)}
    assert contents(db, where={"log": "true"}) == log
    assert db.query("SELECT name FROM shop WHERE tenant = 't3'") == [("x",)]


def test_sequences_go_past_what_came_back(kept: Kept) -> None:
    db = kept.db
    db.run("DELETE FROM comment", "DELETE FROM line WHERE item_tenant = 't3'")
    db.run("SELECT setval('line_id_seq', 1)", "SELECT setval('comment_id_seq', 1)")
    assert set(counts(back(kept))) == {"public.line", "public.comment"}
    ((top,),) = db.query("SELECT max(id) FROM line WHERE item_tenant = 't3'")
    assert sequence_values(db)["public.line_id_seq"] == top + 1
    db.run("INSERT INTO comment (line_id) SELECT id FROM line WHERE item_tenant = 't3'")


def test_generated_and_identity_columns(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE bill (tenant text, code text, no int GENERATED ALWAYS AS IDENTITY, net numeric,"
        " gross numeric GENERATED ALWAYS AS (net * 2) STORED, PRIMARY KEY (tenant, code))",
        "INSERT INTO bill (tenant, code, net) SELECT 'a', g, g FROM generate_series(1, 5) g",
    )
    kept = Kept(pg, open_folder)
    kept.look()
    before = contents(pg)
    pg.run("UPDATE bill SET net = 100", "DELETE FROM bill WHERE code = '2'")
    pg.run("INSERT INTO bill (tenant, code, net) VALUES ('a', '2', 2)")  # with another number
    assert counts(back(kept, tenant="a")) == {"public.bill": (0, 5, 0)}
    assert contents(pg) == before


def test_rows_that_swapped_a_unique_value_swap_it_back(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE menu (tenant text, id int, place int NOT NULL, PRIMARY KEY (tenant, id), UNIQUE (tenant, place))",
        "INSERT INTO menu SELECT 'a', g, g FROM generate_series(1, 4) g",
    )
    kept = Kept(pg, open_folder)
    kept.look()
    before = contents(pg)
    pg.run("UPDATE menu SET place = -place", "UPDATE menu SET place = 5 + place")
    found = back(kept, tenant="a")
    assert found.tries == 2
    assert contents(pg) == before


def test_values_of_every_type_are_changed_back(pg: Database, open_folder: Path) -> None:
    """Whatever was there: each value is set as the server itself would read it, with no cast in between."""
    types = {f"c{n}": type_ for n, type_ in enumerate(VALUES)}
    pg.run("CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE pair AS (a int, b text)")
    pg.run("CREATE DOMAIN cents AS numeric(9, 2)")
    listed = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    pg.run(
        f"CREATE TABLE thing (tenant text, id int, price cents, tag varchar(5), fixed char(7), {listed}, PRIMARY KEY (tenant, id))"
    )
    most = max(map(len, VALUES.values()))
    for row in range(most):
        values = ", ".join(several[row % len(several)] for several in VALUES.values())
        pg.run(f"INSERT INTO thing VALUES ('a', {row}, {row}.5, 'it''s', E'a\\\\b', {values})")
    kept = Kept(pg, open_folder)
    kept.look()
    good = contents(pg)
    sets = ", ".join(f"{name} = {VALUES[type_][-1]}" for name, type_ in types.items())
    pg.run(
        f"UPDATE thing SET {sets}, price = NULL, tag = NULL, fixed = '' WHERE id % 2 = 0",
        "DELETE FROM thing WHERE id = 1",
    )
    found = back(kept, tenant="a")
    assert counts(found) == {"public.thing": (1, (most + 1) // 2, 0)}
    assert contents(pg) == good


def test_foreign_keys_hold_or_nothing_is_done(kept: Kept) -> None:
    db = kept.db
    then = kept.look()
    db.run("INSERT INTO item (tenant, id, price) VALUES ('t3', 500, 1)")
    db.run("INSERT INTO line (item_tenant, item_id, note) VALUES ('t3', 500, 'mine')")
    before = contents(db)
    with pytest.raises(
        RestoreError, match=r"would lose its parent in public\.item.*public\.line.*line_item.*500.*MINE"
    ) as told:
        back(kept, then, tables=("item",))
    assert "public.line" in told.value.do
    assert contents(db) == before
    assert back(kept, then).done

    db.run("DELETE FROM comment", "DELETE FROM line WHERE item_tenant = 't3'", "DELETE FROM item WHERE tenant = 't3'")
    before = contents(db)
    with pytest.raises(RestoreError, match=r"without its parent in public\.item.*public\.line.*item_tenant=t3"):
        back(kept, then, tables=("line",))
    assert contents(db) == before
    assert back(kept, then).done


def test_a_parent_that_all_share_and_that_is_gone_stands_in_the_way(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE country (code text PRIMARY KEY)",
        "INSERT INTO country VALUES ('CN'), ('DE')",
        "CREATE TABLE address (tenant text, id int, country text REFERENCES country, PRIMARY KEY (tenant, id))",
        "INSERT INTO address VALUES ('a', 1, 'CN'), ('a', 2, 'DE'), ('a', 3, NULL)",
    )
    kept = Kept(pg, open_folder, Tenants(column="tenant", shared=("public.country",)))
    kept.look()
    pg.run("DELETE FROM address", "DELETE FROM country WHERE code = 'DE'")
    with pytest.raises(RestoreError, match=r"public\.country.*address_country_fkey.*country=DE"):
        back(kept, tenant="a")
    assert pg.query("SELECT count(*) FROM address") == [(0,)]
    pg.run("INSERT INTO country VALUES ('DE')")
    assert back(kept, tenant="a").done
    with pytest.raises(RestoreError, match="shared by all tenants"):
        back(kept, tenant="a", tables=("country",))


def test_a_table_that_came_later_loses_the_tenants_rows(kept: Kept) -> None:
    db, then = kept.db, kept.look()
    db.run(
        "CREATE TABLE later (tenant text REFERENCES shop, id int, PRIMARY KEY (tenant, id))",
        "INSERT INTO later VALUES ('t3', 1), ('t4', 1)",
    )
    kept.look()
    assert counts(back(kept, then)) == {"public.later": (0, 0, 1)}
    assert db.query("SELECT tenant FROM later") == [("t4",)]


def test_columns_that_came_and_went_since(pg: Database, open_folder: Path) -> None:
    pg.run("CREATE TABLE item (tenant text, id int, was text, kept text, PRIMARY KEY (tenant, id))")
    pg.run("INSERT INTO item SELECT 'a', g, 'was', 'kept' FROM generate_series(1, 3) g")
    kept = Kept(pg, open_folder)
    then = kept.look()
    pg.run("ALTER TABLE item DROP COLUMN was", "ALTER TABLE item ADD COLUMN since text DEFAULT 'new'")
    pg.run("UPDATE item SET kept = 'x', since = 'mine' WHERE id = 1", "DELETE FROM item WHERE id = 2")
    kept.look()
    assert counts(back(kept, then, tenant="a")) == {"public.item": (1, 1, 0)}
    assert pg.query("SELECT * FROM item ORDER BY id") == [
        ("a", 1, "kept", "mine"),
        ("a", 2, "kept", "new"),
        ("a", 3, "kept", "new"),
    ]


def test_what_was_renamed_since_is_still_the_same(pg: Database, open_folder: Path) -> None:
    pg.run("CREATE TABLE item (tenant text, id int, a text, b text, c text, PRIMARY KEY (tenant, id))")
    pg.run("INSERT INTO item SELECT 'a', g, 'a' || g, 'b' || g, 'c' || g FROM generate_series(1, 3) g")
    kept = Kept(pg, open_folder)
    then = kept.look()
    pg.run("ALTER TABLE item DROP COLUMN a", "ALTER TABLE item RENAME b TO a", "ALTER TABLE item RENAME id TO no")
    pg.run("ALTER TABLE item RENAME tenant TO shop", "ALTER TABLE item RENAME TO thing")
    pg.run("UPDATE thing SET a = 'x', c = 'x' WHERE no = 1", "DELETE FROM thing WHERE no = 2")
    kept.registry = Registry(Tenants(column="shop"), kept.registry.relations)
    kept.look()
    assert counts(back(kept, then, tenant="a")) == {"public.thing": (1, 1, 0)}
    assert pg.query("SELECT shop, no, a, c FROM thing ORDER BY no") == [("a", n, f"b{n}", f"c{n}") for n in (1, 2, 3)]


def test_what_cannot_be_done_is_refused_with_nothing_changed(kept: Kept) -> None:
    db, then = kept.db, kept.look()
    with pytest.raises(RestoreError, match="never seen tenant 'nobody'"):
        back(kept, tenant="nobody")
    with pytest.raises(RestoreError, match=r'no table "itme".*Did you mean "item"'):
        back(kept, tables=("itme",))
    db.run("DROP TABLE comment", "DELETE FROM log")
    with pytest.raises(RestoreError, match=r"no longer has these tables.*public\.comment"):
        back(kept, then)
    assert db.query("SELECT count(*) FROM log") == [(0,)]
    kept.gap(kept.look())
    with pytest.raises(GapError):
        back(kept)


def test_a_row_that_went_to_another_tenant_is_not_taken_from_it(pg: Database, open_folder: Path) -> None:
    pg.run("CREATE TABLE car (id int PRIMARY KEY, tenant text NOT NULL)", "INSERT INTO car VALUES (1, 'a'), (2, 'a')")
    kept = Kept(pg, open_folder)
    kept.look()
    pg.run("UPDATE car SET tenant = 'b' WHERE id = 1", "DELETE FROM car WHERE id = 2")
    with pytest.raises(RestoreError, match=r"\(id\)=\(1\) already exists") as told:
        back(kept, tenant="a")
    assert "another tenant" in told.value.do
    assert pg.query("SELECT * FROM car") == [(1, "b")]


def test_a_role_without_rights_is_told_all_that_it_lacks(kept: Kept) -> None:
    db = kept.db
    db.run("CREATE ROLE clerk LOGIN", "DELETE FROM log WHERE tenant = 't3'")
    with pytest.raises(RestoreError) as told:
        rewind(kept.vault, kept.vault.resolve(None), db.dsn_as("clerk"), Rewinding("t3"))
    assert "session_replication_role" in told.value.do
    db.run(*told.value.do.removeprefix("Restore as a superuser, or have one run: ").rstrip(".").split("; "))
    assert rewind(kept.vault, kept.vault.resolve(None), db.dsn_as("clerk"), Rewinding("t3")).done


def test_a_tenant_named_otherwise_than_some_column_can_hold(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE a (shop text PRIMARY KEY, n int)",
        "CREATE TABLE b (shop int PRIMARY KEY, n int)",
        "INSERT INTO a VALUES ('one', 1), ('2', 1)",
        "INSERT INTO b VALUES (2, 1)",
    )
    kept = Kept(pg, open_folder, Tenants(column="shop"))
    kept.look()
    pg.run("UPDATE a SET n = 5", "UPDATE b SET n = 5")
    assert back(kept, tenant="one").done
    assert pg.query("SELECT n FROM a ORDER BY shop") == [(5,), (1,)]


RANDOMLY = (
    "UPDATE item SET price = price + 1, at = ROW(9, 'x')::spot WHERE tenant = '{0}' AND id % 3 = {1}",
    "DELETE FROM comment WHERE line_id IN (SELECT id FROM line WHERE item_tenant = '{0}' AND id % 4 = {1})",
    "DELETE FROM line WHERE item_tenant = '{0}' AND id % 4 = {1} AND NOT EXISTS (SELECT FROM comment WHERE line_id = line.id)",
    "INSERT INTO item (tenant, price) SELECT '{0}', n FROM generate_series(0, {1}) n",
    "INSERT INTO line (item_tenant, item_id, note) SELECT tenant, id, 'again' FROM item WHERE tenant = '{0}' AND id % 3 = {1}",
    "INSERT INTO comment (line_id, body) SELECT id, 'new' FROM line WHERE item_tenant = '{0}' AND id % 5 = {1}",
    "INSERT INTO log VALUES ('{0}', 'twice'), ('{0}', 'once')",
    "DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE tenant = '{0}' LIMIT {1})",
    "UPDATE visit SET n = {1}, day = CASE WHEN day < '2026-01-01' THEN day + 365 ELSE day - 365 END WHERE tenant = '{0}'",
    "UPDATE shop SET name = name || '{1}' WHERE tenant = '{0}'",
    "UPDATE item SET id = id + 100000 WHERE tenant = '{0}' AND id % 3 = {1} AND NOT EXISTS"
    " (SELECT FROM line WHERE item_id = item.id)",
)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_tenant_goes_to_any_moment_and_forth_again(kept: Kept, seed: int) -> None:
    db, chance = kept.db, random.Random(seed)
    tenants = ("t1", "t3", "t5")
    moments: list[tuple[Cut, dict[str, Contents]]] = []
    for _ in range(4):
        for _ in range(12):
            db.run(chance.choice(RANDOMLY).format(chance.choice(tenants), chance.randrange(3)))
        moments.append((kept.look(), {tenant: contents(db, where=of(tenant)) for tenant in tenants}))
    present = dict(moments[-1][1])
    for _ in range(10):
        tenant, (cut, then) = chance.choice(tenants), chance.choice(moments)
        back(kept, cut, tenant)
        present[tenant] = then[tenant]
        assert {each: contents(db, where=of(each)) for each in tenants} == present


def test_more_rows_than_fit_into_a_statement(pg18: Database, open_folder: Path) -> None:
    pg18.run(
        "CREATE TABLE shop (tenant text PRIMARY KEY)",
        "CREATE TABLE item (tenant text REFERENCES shop, id int, n int, label text, PRIMARY KEY (tenant, id))",
        "CREATE TABLE log (tenant text, said text)",
        "INSERT INTO shop VALUES ('a'), ('b')",
        "INSERT INTO item SELECT s, g, g, md5(g::text) FROM generate_series(1, 6000) g, (VALUES ('a'), ('b')) v (s)",
        "INSERT INTO log SELECT 'a', md5((g % 100)::text) FROM generate_series(1, 4000) g",
    )
    kept = Kept(pg18, open_folder)
    kept.look()
    good = contents(pg18)
    pg18.run(
        "UPDATE item SET n = 0 WHERE tenant = 'a' AND id <= 3000",
        "DELETE FROM item WHERE tenant = 'a' AND id > 4000",
        "DELETE FROM log WHERE ctid < '(20,0)'",
        "INSERT INTO item SELECT 'a', 100000 + g, 1, 'x' FROM generate_series(1, 1500) g",
    )
    assert counts(back(kept, tenant="a"))["public.item"] == (2000, 3000, 1500)
    assert contents(pg18) == good


# Beside the tenant's own writers


def test_a_write_to_the_same_row_is_seen_before_it_is_undone(kept: Kept) -> None:
    """A writer holds a row when the rewind wants it; what he commits is not overwritten unseen."""
    db = kept.db
    mine = contents(db, where=of("t3"))
    db.run("UPDATE shop SET name = 'damaged' WHERE tenant = 't3'")
    with db.connect(autocommit=False) as writer:
        writer.execute("UPDATE shop SET name = 'in between' WHERE tenant = 't3'")
        done: list[Rewound] = []
        rewinding = threading.Thread(target=lambda: done.append(back(kept)))
        rewinding.start()
        _until_waiting(db)
        writer.commit()
        rewinding.join(30)
    (found,) = done
    assert found.tries == 2
    (sample,) = found.tables[0].sample
    assert sample.before == {"name": "in between"}
    assert contents(db, where=of("t3")) == mine


def test_a_row_added_meanwhile_stays_and_holds_its_parent(kept: Kept) -> None:
    """A child that is being added keeps the parent that the rewind wants to remove from going unseen."""
    db, then = kept.db, kept.look()
    db.run("INSERT INTO item (tenant, id, price) VALUES ('t3', 500, 1)")
    with db.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO line (item_tenant, item_id, note) VALUES ('t3', 500, 'late')")
        done: list[Rewound] = []
        rewinding = threading.Thread(target=lambda: done.append(back(kept, then)))
        rewinding.start()
        _until_waiting(db)
        writer.commit()
        rewinding.join(30)
    (found,) = done
    assert found.tries == 2
    assert counts(found) == {"public.item": (0, 0, 1), "public.line": (0, 0, 1)}
    assert not db.query(
        "SELECT 1 FROM line LEFT JOIN item ON (item_tenant, item_id) = (tenant, item.id) WHERE tenant IS NULL"
    )


def test_a_parent_that_all_share_cannot_go_meanwhile(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE country (code text PRIMARY KEY)",
        "INSERT INTO country VALUES ('DE')",
        "CREATE TABLE address (tenant text, id int, country text REFERENCES country, PRIMARY KEY (tenant, id))",
        "INSERT INTO address VALUES ('a', 1, 'DE')",
    )
    kept = Kept(pg, open_folder, Tenants(column="tenant", shared=("public.country",)))
    kept.look()
    pg.run("DELETE FROM address")
    with pg.connect(autocommit=False) as other:
        other.execute("DELETE FROM country")
        refused: list[str] = []

        def try_it() -> None:
            try:
                back(kept, tenant="a")
            except RestoreError as error:
                refused.append(error.what)

        rewinding = threading.Thread(target=try_it)
        rewinding.start()
        _until_waiting(pg)
        other.commit()
        rewinding.join(30)
    assert len(refused) == 1
    assert "without its parent in public.country" in refused[0]
    assert pg.query("SELECT count(*) FROM address") == [(0,)]


def test_a_row_held_for_ever_ends_it_with_nothing_done(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    db = kept.db
    db.run(*DAMAGE)
    damaged = contents(db)
    monkeypatch.setattr(amend, "_OPENING", (*amend._OPENING, "SET LOCAL lock_timeout = '300ms'"))
    with db.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM shop WHERE tenant = 't3' FOR UPDATE")
        with pytest.raises(RestoreError, match="another session has held a row") as told:
            back(kept)
    assert "idle in transaction" in told.value.do
    assert contents(db) == damaged
    assert back(kept).done


def test_beside_a_restless_writer_of_the_same_tenant(kept: Kept) -> None:
    """He never stops; the rewind comes through, and his rows that came after it are all there."""
    db, stop = kept.db, threading.Event()
    db.run(*DAMAGE)
    added: list[int] = []

    def write() -> None:
        with db.connect() as conn:
            number = 1000
            while not stop.is_set():
                number += 1
                conn.execute("UPDATE shop SET name = %s WHERE tenant = 't3'", [str(number)])
                conn.execute("INSERT INTO item (tenant, id, price) VALUES ('t3', %s, 1)", [number])
                added.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not added:
            time.sleep(0.01)
        found = back(kept)
        reached = added[-1]
        while added[-1] < reached + 20:
            time.sleep(0.01)
    finally:
        stop.set()
        writer.join(30)
    assert found.done
    held = {int(row[0]) for row in db.query("SELECT id FROM item WHERE tenant = 't3' AND id > 1000")}
    assert {number for number in added if number > reached + 1} <= held
    assert len(held) < len(added)


def test_two_rewinds_of_one_tenant_do_not_double_anything(kept: Kept) -> None:
    db = kept.db
    mine = contents(db, where=of("t3"))
    db.run(*DAMAGE)
    threads = [threading.Thread(target=back, args=(kept,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert contents(db, where=of("t3")) == mine


def test_a_rewind_and_a_restore_of_all_agree(kept: Kept) -> None:
    """The tenant as rewound is the tenant as restored elsewhere."""
    kept.db.run(*DAMAGE)
    back(kept)
    to = kept.db.another()
    restore(kept.vault, kept.vault.resolve(None), to.dsn, Request())
    assert contents(to) == contents(kept.db)


def _until_waiting(db: Database) -> None:
    deadline = time.monotonic() + 20
    while not db.query(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ):
        assert time.monotonic() < deadline, "nobody waits for a lock"
        time.sleep(0.01)
