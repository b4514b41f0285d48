"""What is easy to get wrong in capture, a test each: what the vault gives back is what production showed at that cut."""

from collections.abc import Callable, Iterator

import pytest

from ballast.vault.config import Tenants
from ballast.vault.records import Cut
from tests.fix_postgres import Database
from tests.fix_protected import Look, Protected, assert_equal, vault_rows

SHOPS = Tenants(column="shop")


class Case:
    """A protected and recorded database; `at` notes what it shows now, `check` holds the vault beside it."""

    def __init__(self, protected: Protected) -> None:
        self.protected = protected
        self.looks: list[Look] = []

    def run(self, *statements: str) -> None:
        """Each in a transaction of its own."""
        with self.protected.session() as conn:
            for statement in statements:
                conn.execute(statement)  # type: ignore[arg-type]

    def together(self, *statements: str) -> None:
        """All in one transaction."""
        with self.protected.session() as conn, conn.transaction():
            for statement in statements:
                conn.execute(statement)  # type: ignore[arg-type]

    def at(self) -> Look:
        """What production shows now."""
        self.looks.append(self.protected.look())
        return self.looks[-1]

    def check(self, *, but: tuple[str, ...] = ()) -> None:
        """Everything noted is what the vault says, and the vault is sound."""
        self.at()
        self.protected.sealed(self.looks[-1].cut)
        vault = self.protected.vault()
        for look in self.looks:
            assert_equal(vault, look, but=but)
        self.protected.verified()

    def versions(self, cut: Cut) -> dict[str, list[bytes]]:
        """What the vault says at a cut."""
        return vault_rows(self.protected.vault(), cut)


@pytest.fixture(params=(16, 18))
def begin(request: pytest.FixtureRequest, new_protected: Callable[..., Protected]) -> Iterator[Callable[..., Case]]:
    """`begin("CREATE TABLE …", …)`: made, protected, recorded; on both versions."""
    db: Database = request.getfixturevalue(f"pg{request.param}")

    made: list[Protected] = []

    def make(*statements: str, tenants: Tenants = SHOPS, **record: object) -> Case:
        db.run(*statements)
        protected = new_protected(db, tenants, **record)
        made.append(protected)
        protected.protect()
        protected.start()
        return Case(protected)

    yield make
    for protected in made:
        protected.end()  # before the database is cleaned up: a living recorder would arm itself again


ITEM = "CREATE TABLE item (shop int, id int, name text, PRIMARY KEY (shop, id))"


def test_unchanged_toast_a_one_megabyte_document_survives_updates_beside_it(begin: Callable[..., Case]) -> None:
    case = begin("CREATE TABLE doc (shop int, id int, body jsonb, n int, PRIMARY KEY (shop, id))")
    big = "(SELECT jsonb_agg(md5(g::text)) FROM generate_series(1, 30000) g)"
    case.run(
        f"INSERT INTO doc SELECT s, 1, {big}, 0 FROM generate_series(1, 3) s", "UPDATE doc SET n = n + 1 WHERE shop = 2"
    )
    case.at()
    case.run(
        "UPDATE doc SET n = n + 1", "UPDATE doc SET id = 5 WHERE shop = 1", "UPDATE doc SET shop = 9 WHERE shop = 3"
    )
    case.at()
    case.run(
        "UPDATE doc SET n = 7 WHERE shop = 9",
        "UPDATE doc SET body = '[]' WHERE shop = 2",
        "DELETE FROM doc WHERE shop = 1",
    )
    case.check()


@pytest.mark.any_version
def test_a_delete_whose_key_lacks_the_tenant_goes_to_the_right_tenant(begin: Callable[..., Case]) -> None:
    case = begin("CREATE TABLE item (id int PRIMARY KEY, shop int, name text)")
    case.run("INSERT INTO item SELECT g, g % 3, 'x' FROM generate_series(1, 30) g", "DELETE FROM item WHERE id % 2 = 0")
    case.check()


@pytest.mark.any_version
def test_a_row_that_moves_to_another_tenant_leaves_the_first(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run("INSERT INTO item SELECT g % 2, g, 'x' FROM generate_series(1, 9) g")
    case.at()
    case.run("UPDATE item SET shop = 7 WHERE id = 4", "UPDATE item SET shop = 8, name = 'moved' WHERE id < 4")
    case.check()


@pytest.mark.any_version
def test_a_changed_primary_key_is_one_row_still(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run("INSERT INTO item SELECT 1, g, 'x' FROM generate_series(1, 9) g")
    case.together("UPDATE item SET id = id + 100", "UPDATE item SET id = id - 50 WHERE id > 105")
    case.run("UPDATE item SET id = 101 + id WHERE id = 101")
    case.check()


@pytest.mark.any_version
def test_without_a_primary_key_two_equal_rows_are_two_and_one_delete_takes_one(begin: Callable[..., Case]) -> None:
    case = begin("CREATE TABLE log (shop int, line text)")
    case.run("INSERT INTO log SELECT 1 + g % 2, 'same' FROM generate_series(1, 8) g")
    case.run("DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log)")
    case.at()
    case.run(
        "UPDATE log SET line = 'other' WHERE ctid = (SELECT max(ctid) FROM log)",
        "INSERT INTO log VALUES (1, NULL), (1, '')",
    )
    case.check()


@pytest.mark.any_version
def test_truncate_hits_every_tenant_and_only_what_came_before_it(begin: Callable[..., Case]) -> None:
    case = begin(ITEM, "CREATE TABLE other (shop int, id int, PRIMARY KEY (shop, id))")
    case.run("INSERT INTO item SELECT g % 3, g, 'x' FROM generate_series(1, 9) g", "INSERT INTO other VALUES (1, 1)")
    case.at()
    case.together(
        "INSERT INTO item VALUES (5, 5, 'gone')", "TRUNCATE item, other", "INSERT INTO item VALUES (5, 6, 'stays')"
    )
    case.at()
    case.run("INSERT INTO item VALUES (5, 5, 'again')", "TRUNCATE other")
    case.check()


@pytest.mark.any_version
def test_a_table_dropped_and_made_again_under_its_name_is_another(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run("INSERT INTO item VALUES (1, 1, 'old')")
    case.at()
    case.run("DROP TABLE item")
    case.at()
    case.run(
        "CREATE TABLE item (id int, shop int, price numeric, PRIMARY KEY (id, shop))",
        "INSERT INTO item VALUES (1, 1, 9.50)",
    )
    case.check()
    numbers = {r.number for v in (1, 2, 3) for r in case.protected.vault().schema(v).values() if r.name == "item"}
    assert len(numbers) == 2


@pytest.mark.any_version
def test_columns_come_go_and_are_renamed_while_rows_of_older_versions_stay(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run("INSERT INTO item SELECT g % 2, g, 'x' FROM generate_series(1, 9) g")
    case.at()
    case.run("ALTER TABLE item ADD COLUMN price int NOT NULL DEFAULT 42, ADD COLUMN note text")
    case.at()
    case.run(
        "UPDATE item SET note = 'n' WHERE id < 3",
        "ALTER TABLE item RENAME COLUMN name TO title",
        "ALTER TABLE item DROP COLUMN note",
    )
    case.at()
    case.run(
        "ALTER TABLE item ADD COLUMN note text DEFAULT 'new\ttab'",
        "INSERT INTO item (shop, id) VALUES (4, 4)",
        "ALTER TABLE item RENAME TO thing",
    )
    case.check()


def test_a_command_that_rewrites_rows_leads_to_a_new_image_and_a_gap_in_between(begin: Callable[..., Case]) -> None:
    case = begin("CREATE TABLE item (shop int, id int, price int, PRIMARY KEY (shop, id))")
    case.run("INSERT INTO item SELECT g % 2, g, g FROM generate_series(1, 9) g")
    before = case.at()
    case.run("ALTER TABLE item ALTER price TYPE numeric(9, 2) USING price / 100.0")
    after = case.protected.look()
    case.protected.sealed(after.cut)
    case.protected.wishes_granted()
    case.check()
    index = case.protected.vault().index
    assert not index.gap_at(before.cut)
    assert index.gap_at(after.cut)
    assert not index.gap_at(case.looks[-1].cut)


def test_create_table_as_sends_its_rows_before_it_is_announced(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run(
        "INSERT INTO item SELECT g % 2, g, 'x' FROM generate_series(1, 9) g",
        "CREATE TABLE copied AS SELECT * FROM item",
    )
    case.run(
        "UPDATE copied SET name = 'y' WHERE id = 2",
        "DELETE FROM copied WHERE id = 3",
        "ALTER TABLE copied ADD PRIMARY KEY (shop, id)",
    )
    case.run("UPDATE copied SET name = 'z' WHERE id = 4")
    case.check()


@pytest.mark.any_version
def test_tables_made_while_protected_can_be_updated_and_deleted_from(begin: Callable[..., Case]) -> None:
    case = begin(ITEM)
    case.run(
        "CREATE TABLE bare (shop int, n int)", "INSERT INTO bare VALUES (1, 1), (2, 2)", "UPDATE bare SET n = 3 WHERE shop = 1",
        "DELETE FROM bare WHERE shop = 2", "CREATE TABLE late (id int PRIMARY KEY, shop int)", "INSERT INTO late VALUES (1, 1), (2, 2)",
        "UPDATE late SET shop = 3 WHERE id = 1", "DELETE FROM late WHERE id = 2",
    )  # fmt: skip
    case.check()
    assert not case.protected.vault().index.gaps, "a new table is no gap"


def test_generated_columns_are_left_out_and_identity_always_comes_back(begin: Callable[..., Case]) -> None:
    case = begin(
        "CREATE TABLE item (shop int, id int GENERATED ALWAYS AS IDENTITY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED,"
        " PRIMARY KEY (shop, id))"
    )
    case.run(
        "INSERT INTO item (shop, n) SELECT g % 2, g FROM generate_series(1, 9) g",
        "UPDATE item SET n = n + 1 WHERE shop = 1",
    )
    case.check()


def test_partitions_are_recorded_by_leaf_truncated_detached_and_dropped(begin: Callable[..., Case]) -> None:
    case = begin(
        "CREATE TABLE sale (shop int, day date, n int, PRIMARY KEY (shop, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE sale_2 (n int, gone int, shop int NOT NULL, day date NOT NULL)",
        "ALTER TABLE sale_2 DROP COLUMN gone",
        "ALTER TABLE sale ATTACH PARTITION sale_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    )
    case.run("INSERT INTO sale SELECT g % 3, '2026-01-01'::date + g, g FROM generate_series(0, 50) g")
    case.at()
    case.run("UPDATE sale SET day = '2026-02-20' WHERE day = '2026-01-05'", "TRUNCATE sale_1")
    case.at()
    case.run(
        "CREATE TABLE sale_3 PARTITION OF sale FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')",
        "INSERT INTO sale VALUES (1, '2026-03-05', 5)", "ALTER TABLE sale DETACH PARTITION sale_2", "DELETE FROM sale_2 WHERE shop = 0",
        "DROP TABLE sale_1",
    )  # fmt: skip
    case.check()


@pytest.mark.any_version
def test_children_without_a_tenant_follow_their_parents(begin: Callable[..., Case]) -> None:
    case = begin(
        "CREATE TABLE orders (id int PRIMARY KEY, shop int NOT NULL)",
        "CREATE TABLE line (order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, n int, what text, PRIMARY KEY (order_id, n))",
        "CREATE TABLE remark (line_order int NOT NULL, line_n int NOT NULL, at int, FOREIGN KEY (line_order, line_n) REFERENCES line ON DELETE CASCADE)",
        "INSERT INTO orders SELECT g, g % 3 FROM generate_series(1, 6) g",
        "INSERT INTO line SELECT g, 1, 'first' FROM generate_series(1, 6) g",
    )
    case.run(
        "INSERT INTO line SELECT g, 2, 'second' FROM generate_series(1, 6) g",
        "INSERT INTO remark SELECT g, 2, g FROM generate_series(1, 6) g",
    )
    case.together(
        "INSERT INTO orders VALUES (10, 2)",
        "INSERT INTO line VALUES (10, 1, 'new')",
        "UPDATE line SET what = 'x' WHERE order_id = 2",
    )
    look = case.at()
    case.run("DELETE FROM orders WHERE id = 3", "UPDATE line SET n = 7 WHERE order_id = 4 AND n = 1")
    case.check()
    vault = case.protected.vault()
    alone = vault_rows(vault, look.cut, tenant="2", of_tenant=True)
    assert alone["public.line"] == sorted(
        line for line in look.rows["public.line"] if int(line.split(b"\t")[0]) % 3 == 2 or line.startswith(b"10\t")
    )
    assert alone["public.remark"] == sorted(
        line for line in look.rows["public.remark"] if int(line.split(b"\t")[0]) % 3 == 2
    )


@pytest.mark.any_version
def test_row_level_security_hides_nothing_from_the_image(begin: Callable[..., Case]) -> None:
    case = begin(
        ITEM, "INSERT INTO item VALUES (1, 1, 'a'), (2, 2, 'b')", "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE item FORCE ROW LEVEL SECURITY", "CREATE POLICY none ON item USING (false)",
    )  # fmt: skip
    case.check()


@pytest.mark.any_version
def test_a_tenant_is_any_text_and_null_is_everybodys(begin: Callable[..., Case]) -> None:
    case = begin("CREATE TABLE item (shop text, id int PRIMARY KEY, name text)")
    case.run(
        r"INSERT INTO item VALUES (E'tab\there', 1, ''), (E'line\nbreak', 2, NULL), (E'back\\slash', 3, E'\\N'), ('', 4, '店'), (NULL, 5, E'\\.')"
    )
    case.at()
    case.run(
        r"UPDATE item SET name = E'x\ty' WHERE shop LIKE E'%\n%'",
        "DELETE FROM item WHERE shop = ''",
        "UPDATE item SET shop = '店铺' WHERE shop IS NULL",
    )
    case.check()


def test_a_column_added_in_one_savepoint_and_rows_changed_in_the_next(begin: Callable[..., Case]) -> None:
    """The message that announces the column and the row after it have one position, and the server may send the row first."""
    tables = [f"t{n}" for n in range(12)]
    case = begin(
        *(f"CREATE TABLE {table} (shop int, id int)" for table in tables)
    )  # no key: each row by all its values
    case.run(*(f"INSERT INTO {table} SELECT g % 3, g FROM generate_series(1, 9) g" for table in tables))
    case.at()
    for table in tables:
        case.together(
            "SAVEPOINT one",
            f"ALTER TABLE {table} ADD COLUMN more numeric DEFAULT 5",
            "RELEASE SAVEPOINT one",
            "SAVEPOINT two",
            f"UPDATE {table} SET id = id + 100 WHERE id % 2 = 0",
            "RELEASE SAVEPOINT two",
            f"DELETE FROM {table} WHERE id < 4",
        )
    case.at()
    case.run(
        *(f"ALTER TABLE {table} DROP COLUMN more" for table in tables[:4]), *(f"DELETE FROM {t}" for t in tables[2:6])
    )
    case.check()
