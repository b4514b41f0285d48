"""The publication is taken away, narrowed, or names too little."""

import pytest

from ballast.vault import wish
from tests.fix_guarded import LIST, New
from tests.fix_postgres import Database


def test_a_dropped_publication(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("DROP PUBLICATION ballast", "INSERT INTO t VALUES (1)")
    recording.logged("publication", "gone")
    recording.gap(before=before)
    recording.whole()
    assert 1 not in recording.ids()  # which is what the gap says


def test_a_dropped_publication_stops_commits_until_it_is_there_again(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18, acknowledge="spool")
    recording.guard()
    recording.armed()
    with recording.session() as conn:
        conn.execute("DROP PUBLICATION ballast")
        conn.execute("INSERT INTO t VALUES (1)")  # waits until the stretch is a gap on disk
    assert [w for w in wish.pending(recording.config.state_dir) if w.kind == "image"]


def test_a_publication_that_was_dropped_and_made_again(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "DROP PUBLICATION ballast", "INSERT INTO t VALUES (1)",
        "CREATE PUBLICATION ballast FOR ALL TABLES WITH (publish_via_partition_root = false)",
    )  # fmt: skip
    recording.logged("publication", "another of that name")
    recording.gap(before=before)
    recording.whole()


@pytest.mark.any_version
def test_a_publication_that_leaves_out_operations(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER PUBLICATION ballast SET (publish = 'insert')", "TRUNCATE u")
    recording.logged("publication options", "insert")
    recording.gap(before=before)
    recording.whole()
    assert pg.query("SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication") == [(True,)]


@pytest.mark.any_version
def test_an_option_switched_and_switched_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "ALTER PUBLICATION ballast SET (publish = 'insert')",
        "ALTER PUBLICATION ballast SET (publish = 'insert, update, delete, truncate')",
    )
    recording.logged("publication options", "altered")
    recording.gap(before=before)
    recording.whole()


@pytest.mark.any_version
def test_a_table_taken_out_of_the_publication(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER PUBLICATION ballast DROP TABLE t", "INSERT INTO t VALUES (1)")
    recording.logged("public.t", "not published")
    recording.gap(before=before, tables=("t",))
    recording.whole()


@pytest.mark.any_version
def test_a_table_taken_out_and_put_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "ALTER PUBLICATION ballast DROP TABLE t", "INSERT INTO t VALUES (1)", "ALTER PUBLICATION ballast ADD TABLE t"
    )
    recording.logged("public.t", "taken out and put back")
    recording.gap(before=before, tables=("t",))
    recording.whole()


@pytest.mark.any_version
@pytest.mark.parametrize("left_out", ["WHERE (id > 10)", "(id)"], ids=["rows", "columns"])
def test_a_row_filter_or_column_list(pg: Database, guarded: New, left_out: str) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        f"ALTER PUBLICATION ballast SET TABLE t {left_out}, u, ballast.canary", "INSERT INTO t VALUES (1, 'a')"
    )
    recording.logged("public.t", "row filter")
    recording.gap(before=before, tables=("t",))
    recording.whole()
    unfiltered = "SELECT count(*) FROM pg_publication_rel WHERE prqual IS NULL AND prattrs IS NULL"
    assert pg.query(unfiltered) == [(3,)]


@pytest.mark.any_version
def test_a_new_table_that_is_in_no_list(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run("CREATE TABLE v (id int PRIMARY KEY)", "INSERT INTO v VALUES (1)")
    recording.logged("public.v", "not published")
    recording.gap(before=before, tables=("v",))
    assert ("v",) in pg.query("SELECT tablename FROM pg_publication_tables WHERE pubname = 'ballast'")
    recording.whole()
