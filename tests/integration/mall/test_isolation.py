"""A transaction sees the shop that it named. Every table of a shop is tried; a table that somebody adds later, too."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_mall import MallDatabase, OpenShop

_OF_SHOPS = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shop_id'
WHERE c.relnamespace = 'mall'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('directory', 'hostname', 'account_link')
ORDER BY 1
"""


def _as(database: MallDatabase, role: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(make_conninfo(database.dsn, user=role))


def test_every_table_of_a_shop_has_forced_row_security_and_a_key_that_begins_with_the_shop(
    mall_database: MallDatabase,
) -> None:
    tables = [name for (name,) in mall_database.run(_OF_SHOPS)]
    secured = {
        name
        for (name,) in mall_database.run(
            "SELECT relname FROM pg_class WHERE relnamespace = 'mall'::regnamespace AND relrowsecurity AND relforcerowsecurity"
        )
    }
    begins = {
        name
        for (name,) in mall_database.run(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]"
            " WHERE i.indisprimary AND a.attname = 'shop_id'"
        )
    }
    assert len(tables) > 30
    assert set(tables) - secured == set()
    assert set(tables) - begins == set()


def test_every_foreign_key_between_tables_of_shops_begins_with_the_shop(mall_database: MallDatabase) -> None:
    wrong = mall_database.run(
        "SELECT conname FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]"
        " JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]"
        " WHERE contype = 'f' AND k.connamespace = 'mall'::regnamespace AND (a.attname = 'shop_id') <> (b.attname = 'shop_id')"
    )
    assert wrong == []


def test_no_role_of_the_application_may_bypass_row_security_or_owns_anything(mall_database: MallDatabase) -> None:
    assert mall_database.run(
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'mall\\_%%' AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)"
    ) == [(0,)]
    assert mall_database.run(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname LIKE 'mall\\_%%'"
    ) == [(0,)]


def test_without_a_shop_no_row_of_any_shop_is_seen(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    open_shop(products=1)
    with _as(mall_database, "mall_app") as connection:
        for (table,) in mall_database.run(_OF_SHOPS):
            found = connection.execute(sql.SQL("SELECT count(*) FROM mall.{}").format(sql.Identifier(table))).fetchone()
            assert found == (0,), table


def test_another_shops_rows_are_neither_seen_nor_changed_nor_made(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    mine, other = open_shop(products=2), open_shop(products=1)
    with _as(mall_database, "mall_app") as connection:
        connection.execute("SELECT set_config('mall.shop', %s, false)", (str(mine.shop_id),))
        assert connection.execute("SELECT count(*) FROM mall.product").fetchone() == (2,)
        assert (
            connection.execute("UPDATE mall.product SET title = 'x' WHERE shop_id = %s", (other.shop_id,)).rowcount == 0
        )
        connection.commit()
        connection.execute("SELECT set_config('mall.shop', %s, false)", (str(mine.shop_id),))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("UPDATE mall.product SET shop_id = %s", (other.shop_id,))
        connection.rollback()
        connection.execute("SELECT set_config('mall.shop', %s, false)", (str(mine.shop_id),))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute(
                "INSERT INTO mall.stock (shop_id, sku_id) VALUES (%s, %s)", (other.shop_id, other.goods[0].sku_ids[0])
            )


def test_the_application_cannot_read_accounts(mall_database: MallDatabase) -> None:
    with _as(mall_database, "mall_app") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM mall.account")


def test_a_shop_renames_itself_in_the_directory_and_changes_nothing_else_there(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    mine, other = open_shop(), open_shop(name="other")
    with _as(mall_database, "mall_app") as connection:
        connection.execute("SELECT set_config('mall.shop', %s, false)", (str(mine.shop_id),))
        assert connection.execute("UPDATE mall.directory SET name = 'mine'").rowcount == 1
        connection.commit()
        for column in ("slug = 'x'", "status = 'open'", "plan = 'pro'", "service_until = now()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"UPDATE mall.directory SET {column}".encode())
            connection.rollback()
    assert mall_database.run("SELECT name FROM mall.directory WHERE shop_id = %s", mine.shop_id) == [("mine",)]
    assert mall_database.run("SELECT name FROM mall.directory WHERE shop_id = %s", other.shop_id) == [("other",)]
