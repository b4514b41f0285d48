"""The history of rows on real servers, and in vaults made by hand: every change is there, with who made it and when."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.errors import ConfigError
from ballast.vault.config import Tenants
from ballast.vault.health import SEALER_FILE
from ballast.vault.history import History, history
from tests.commands import ballast
from tests.fix_postgres import Connection, Database
from tests.fix_protected import Protected
from tests.fix_vault import Place
from tests.handmade import make, moment_of

SHOPS = Tenants(column="shop")
BIG = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 2000) g)"


@pytest.fixture
def begin(pg18: Database, new_protected: Callable[..., Protected]) -> Callable[..., Protected]:
    """`begin("CREATE TABLE …", …)`: made, protected, recorded."""

    def make(*statements: str, tenants: Tenants = SHOPS) -> Protected:
        pg18.run(*statements)
        protected = new_protected(pg18, tenants)
        protected.protect()
        protected.start()
        return protected

    return make


def told(protected: Protected, table: str, *key: str, tenant: str | None) -> History:
    """The history as the vault has it once the recorder has stopped, and so sealed everything."""
    if protected.process is not None and protected.process.poll() is None:
        # A sealer that is told to end while it starts seals nothing any more.
        protected.until((protected.config.state_dir / SEALER_FILE).exists, "the sealer")
        protected.stop()
    return history(protected.vault(), table, key, tenant=tenant)


def whats(found: History) -> list[str]:
    return [version.what for version in found.versions]


def changes(found: History) -> list[dict[str, tuple[object, object]]]:
    """Of each version column → before and after."""
    return [{c.column: (c.before, c.after) for c in version.changed} for version in found.versions]


def together(conn: Connection, *statements: str) -> int:
    """All in one transaction; its xid."""
    with conn.transaction():
        for statement in statements:
            conn.execute(statement.encode())
        row = conn.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def test_a_row_from_first_sight_to_its_end(begin: Callable[..., Protected]) -> None:
    protected = begin(
        "CREATE TABLE item (shop int, id int, name text, price numeric(9,2), note text, PRIMARY KEY (shop, id))",
        "INSERT INTO item VALUES (1, 7, 'tea', 3.50, NULL), (2, 7, 'salt', 1, NULL)",
    )
    with protected.session() as conn:
        actor = "SELECT pg_logical_emit_message(true, 'ballast.actor', 'lin')"
        raised = together(conn, actor, "UPDATE item SET price = 4, note = 'new\tprice' WHERE shop = 1 AND id = 7")
        conn.execute("UPDATE item SET price = 9 WHERE shop = 2")
        ended = together(conn, "DELETE FROM item WHERE shop = 1 AND id = 7")
        again = together(conn, "INSERT INTO item VALUES (1, 7, 'coffee', 5, '')")
    found = told(protected, "item", "7", tenant="1")
    assert whats(found) == ["image", "update", "delete", "insert"]
    assert found.table == "public.item"
    assert found.key == {"shop": "1", "id": "7"}
    assert [version.xid for version in found.versions] == [None, raised, ended, again]
    assert [version.actor for version in found.versions] == [None, "lin", None, None]
    assert changes(found)[1] == {"price": ("3.50", "4.00"), "note": (None, "new\tprice")}
    assert found.versions[2].values is None
    assert found.versions[3].values == {"shop": "1", "id": "7", "name": "coffee", "price": "5.00", "note": ""}
    times = [version.committed_at for version in found.versions[1:]]
    assert all(times)
    assert times == sorted(times)  # type: ignore[type-var]
    assert whats(told(protected, "public.item", "2,7", tenant="2")) == ["image", "update"]


def test_changed_keys_and_tenants_are_followed(begin: Callable[..., Protected]) -> None:
    protected = begin("CREATE TABLE doc (shop int, id int, n int, body text, PRIMARY KEY (id, shop))")
    with protected.session() as conn:
        conn.execute(f"INSERT INTO doc VALUES (1, 1, 0, {BIG}), (1, 2, 0, 'small')".encode())
        conn.execute("UPDATE doc SET n = 1 WHERE id = 1")
        conn.execute("UPDATE doc SET id = 5 WHERE id = 1")  # the large value does not come with it
        conn.execute("UPDATE doc SET shop = 9, n = 2 WHERE id = 5")
        conn.execute("UPDATE doc SET id = 6 WHERE id = 2")
    found = told(protected, "doc", "5", tenant="9")
    assert [(v.what, v.tenant, v.key["id"]) for v in found.versions] == [
        ("insert", "1", "1"),
        ("update", "1", "1"),
        ("update", "1", "5"),
        ("update", "9", "5"),
    ]
    assert found.versions[2].key_was == {"id": "1", "shop": "1"}
    assert found.versions[3].tenant_was == "1"
    assert changes(found)[1:] == [{"n": ("0", "1")}, {"id": ("1", "5")}, {"n": ("1", "2"), "shop": ("1", "9")}]
    last = found.versions[-1].values
    assert last is not None
    assert len(last["body"] or "") == 64000
    left = told(protected, "doc", "1", tenant="1")
    assert whats(left) == ["insert", "update", "delete"]
    assert "id = 5" in left.versions[-1].note
    # Without a large value the stream does not tell an update of the key from a delete and an insert.
    perhaps = told(protected, "doc", "6", tenant="1")
    assert whats(perhaps) == ["insert"]
    assert "id = 2" in perhaps.versions[0].note


def test_structure_that_changed_meanwhile(begin: Callable[..., Protected]) -> None:
    protected = begin(
        "CREATE TABLE item (shop int, id int, name text, PRIMARY KEY (shop, id))",
        "INSERT INTO item VALUES (1, 1, 'a')",
    )
    with protected.session() as conn:
        for statement in (
            "ALTER TABLE item RENAME COLUMN name TO title",
            "ALTER TABLE item ADD COLUMN stock int DEFAULT 10",
            "UPDATE item SET title = 'b'",
            "ALTER TABLE item DROP COLUMN title",
            "UPDATE item SET stock = 9",
            "TRUNCATE item",
            "INSERT INTO item VALUES (1, 1, 3)",
            "DROP TABLE item",
            "CREATE TABLE item (id int PRIMARY KEY, shop int)",
            "INSERT INTO item VALUES (1, 1)",
        ):
            conn.execute(statement.encode())
    found = told(protected, "item", "1", tenant="1")
    assert whats(found) == ["image", "update", "update", "truncate", "insert", "drop", "insert"]
    assert changes(found)[1:3] == [{"title": ("a", "b")}, {"stock": ("10", "9")}]
    numbers = [version.relation for version in found.versions]
    assert numbers[:6] == [numbers[0]] * 6
    assert numbers[6] != numbers[0]
    assert found.versions[5].tag == "DROP TABLE"


def test_partitions_are_one_table(begin: Callable[..., Protected]) -> None:
    protected = begin(
        "CREATE TABLE event (shop int, id int, at int, PRIMARY KEY (shop, id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE spare (gone int, at int NOT NULL, shop int NOT NULL, id int NOT NULL)",
        "ALTER TABLE spare DROP COLUMN gone",
        "ALTER TABLE event ADD COLUMN what text",
        "ALTER TABLE spare ADD COLUMN what text",
        "ALTER TABLE event ATTACH PARTITION spare FOR VALUES FROM (100) TO (200)",
    )
    with protected.session() as conn:
        conn.execute("INSERT INTO event VALUES (1, 1, 150, 'a')")
        conn.execute("UPDATE event SET what = 'b'")
    for name in ("event", "spare"):
        found = told(protected, name, "1", "150", tenant="1")
        assert whats(found) == ["insert", "update"]
        assert changes(found)[1] == {"what": ("a", "b")}
        assert found.versions[0].table == "public.spare"


def test_shared_rows_and_tables_without_a_key(begin: Callable[..., Protected]) -> None:
    protected = begin(
        "CREATE TABLE rate (name text PRIMARY KEY, value int)",
        "INSERT INTO rate VALUES ('a,b', 1)",
        "CREATE TABLE log (shop int, line text)",
        "ALTER TABLE log REPLICA IDENTITY FULL",
        tenants=Tenants(column="shop", shared=("public.rate",)),
    )
    with protected.session() as conn:
        conn.execute("UPDATE rate SET value = 2")
    assert changes(told(protected, "rate", "a,b", tenant=None))[1] == {"value": ("1", "2")}
    with pytest.raises(ConfigError, match=r"public\.log has no key: its rows cannot be told apart"):
        history(protected.vault(), "log", ["1"], tenant="1")
    with pytest.raises(ConfigError, match="has no table nothing"):
        history(protected.vault(), "nothing", ["1"], tenant="1")


def test_merges_hide_nothing(vault_store: Place, tmp_path: Path) -> None:
    made = make(vault_store.url, tmp_path / "made")
    found = history(made.vault, "shop.item", ["0"], tenant="ada")
    assert whats(found) == ["image", "update", "update", "update"]
    assert [c["label"] for c in changes(found)[1:]] == [("first", "second"), ("second", "third"), ("third", "fourth")]
    assert found.versions[1].committed_at == moment_of(found.versions[1].lsn)
    newest = history(made.vault, "item", ["ada", "0"], tenant="ada", limit=1)
    assert (newest.versions, newest.left_out) == (found.versions[-1:], 3)
    gap = history(made.vault, "setting", ["colour"], tenant=None).inexact
    assert [(g.from_position, g.to_position, g.reason) for g in gap] == [("1/0/160", "1/0/1C0", "test")]


def test_the_command(folder_place: Place, tmp_path: Path) -> None:
    make(folder_place.url, tmp_path / "made")
    shown = ballast("history", "--vault", folder_place.url, "--tenant", "ada", "item", "1")
    assert shown.returncode == 0, shown.stderr
    assert "shop.item · tenant ada · tenant = ada, id = 1" in shown.stdout
    assert "deleted  1/0/150  transaction 710" in shown.stdout
    document = json.loads(
        ballast("history", "--vault", folder_place.url, "--tenant", "ada", "item", "0", "--json").stdout
    )
    assert [version["what"] for version in document["versions"]] == ["image", "update", "update", "update"]
    assert document["versions"][1]["changed"] == [{"column": "label", "before": "first", "after": "second"}]
    unknown = ballast("history", "--vault", folder_place.url, "--tenant", "zoe", "item", "1")
    assert unknown.returncode == 1
    assert "knows no row of shop.item with tenant = zoe, id = 1" in unknown.stderr
