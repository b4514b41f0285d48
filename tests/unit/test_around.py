"""What stands around the rows, compared line by line without a server."""

import msgspec
import pytest

from ballast.recovery.around import Line, unlike
from ballast.vault.registry import DdlMessage

FLAG = Line("row-level security", "row-level security of mall.orders", "mall.orders", "on and forced")
POLICY = Line(
    "policy", 'policy "of_shop" of mall.orders', "mall.orders", "PERMISSIVE FOR ALL TO app USING ((shop = 1))"
)
KEY = Line(
    "constraint", 'constraint "paid" of mall.orders', "mall.orders", "FOREIGN KEY (shop) REFERENCES shop(id)", "valid"
)
RIGHT = Line("rights", "rights of app on mall.orders", "mall.orders", "INSERT, SELECT")
ROLE = Line("role", "role app", "", "LOGIN")
PRODUCTION = [FLAG, POLICY, KEY, RIGHT, ROLE]


def compared(
    production: list[Line], restored: list[Line], *, sampled: bool = False, same_major: bool = True
) -> list[str]:
    found = unlike(production, restored, sampled=sampled, same_major=same_major)
    return [("" if one.is_fault else "to be said: ") + one.what for one in found]


def but(line: Line, **other: str | None) -> list[Line]:
    """Production's lines, with this one otherwise."""
    return [msgspec.structs.replace(one, **other) if one == line else one for one in PRODUCTION]


def test_the_same_lines_in_any_order_are_equal() -> None:
    assert compared(PRODUCTION, PRODUCTION[::-1]) == []


def test_a_policy_that_is_missing_too_many_or_another_one_is_named() -> None:
    without = [line for line in PRODUCTION if line != POLICY]
    name = 'policy "of_shop" of mall.orders'
    assert compared(PRODUCTION, without) == [f"{name} is on production and was not restored"]
    assert compared(without, PRODUCTION) == [f"{name} was restored, and is not on production"]
    assert compared(PRODUCTION, but(POLICY, definition="true")) == [
        f"{name} is PERMISSIVE FOR ALL TO app USING ((shop = 1)) on production, and true restored"
    ]
    assert compared(PRODUCTION, but(POLICY, definition="x" * 500)) == [
        f"{name} is defined otherwise on production than restored"
    ]


def test_of_a_table_that_is_missing_its_surroundings_are_not_told_one_by_one() -> None:
    view = Line("view", "view mall.open", "mall.open", "AS SELECT 1")
    assert compared([*PRODUCTION, view], [ROLE]) == ["view mall.open is on production and was not restored"]


def test_a_foreign_key_that_a_sample_cannot_hold_is_said_and_no_fault() -> None:
    unchecked = but(KEY, state="NOT VALID")
    (said,) = compared(PRODUCTION, unchecked, sampled=True)
    assert said.startswith('to be said: constraint "paid" of mall.orders is NOT VALID here')
    assert compared(PRODUCTION, unchecked) == [
        'constraint "paid" of mall.orders is valid on production, and NOT VALID restored'
    ]


def test_a_role_of_which_only_one_side_says_anything_has_its_rights_and_memberships_to_tell_it() -> None:
    assert compared(PRODUCTION, PRODUCTION[:-1]) == []
    assert compared(PRODUCTION, but(ROLE, definition="BYPASSRLS, LOGIN")) == [
        "role app is LOGIN on production, and BYPASSRLS, LOGIN restored"
    ]
    assert compared(PRODUCTION, but(ROLE, definition=None)) == []


@pytest.mark.parametrize("quoted", ["'a'", "'it''s'", "'(x)]'"])
def test_what_the_server_prints_otherwise_when_it_has_read_it_is_the_same(quoted: str) -> None:
    printed = f"CHECK (((s)::text = ANY ((ARRAY[{quoted}::character varying, 'b'::character varying(9)])::text[])))"
    again = f"CHECK (((s)::text = ANY (ARRAY[({quoted}::character varying)::text, ('b'::character varying(9))::text])))"
    assert compared(but(KEY, definition=printed), but(KEY, definition=again)) == []
    assert len(compared(but(KEY, definition=printed), but(KEY, definition=again.replace("'b'", "'c'")))) == 1


def test_two_versions_have_other_rights_and_print_queries_otherwise() -> None:
    newer = but(RIGHT, definition="INSERT, MAINTAIN, SELECT")
    assert compared(PRODUCTION, newer, same_major=False) == []
    assert len(compared(PRODUCTION, newer)) == 1
    not_null = Line("constraint", 'constraint "id_not_null" of mall.orders', "mall.orders", "NOT NULL id", "valid")
    assert compared(PRODUCTION, [*PRODUCTION, not_null], same_major=False) == []
    view, otherwise = (Line("view", "view mall.open", "mall.open", text) for text in ("AS SELECT a", "AS SELECT t.a"))
    (said,) = compared([view], [otherwise], same_major=False)
    assert said.startswith("to be said: ")
    assert len(compared(PRODUCTION, but(POLICY, definition="true"), same_major=False)) == 1


@pytest.mark.parametrize(
    ("tag", "kind", "name", "expected"),
    [
        ("CREATE POLICY", "policy", "of_shop on mall.orders", True), ("GRANT", "TABLE", "", True),
        ("CREATE FUNCTION", "function", "ballasted.f()", True), ("CREATE SCHEMA", "schema", "ballast_recovery_of_mine", True),
        ("CREATE POLICY", "policy", "ballast_recovery_of_shop on mall.orders", True),
        ("CREATE POLICY", "policy", "ballast_restore on mall.orders", True),
        ("CREATE POLICY", "policy", '"ballast_recovery_all on x" on mall.orders', True),
        ("CREATE TABLE", "table", "ballast_restored.orders", True), ("CREATE SERVER", "server", "ballast", True),
        ("REFRESH MATERIALIZED VIEW", "materialized view", "mall.counted", False),
        ("CREATE TABLE", "table", "ballast.canary", False), ("CREATE TABLE", "table", "ballast_recovery.tenant", False),
        ("CREATE SCHEMA", "schema", "ballast", False), ("CREATE SCHEMA", "schema", "ballast_restore", False),
        ("CREATE POLICY", "policy", "ballast_recovery_all on mall.orders", False),
        ("ALTER PUBLICATION", "publication", "ballast", False),
    ],
)  # fmt: skip
def test_which_commands_ask_for_another_dump(tag: str, kind: str, name: str, expected: bool) -> None:
    assert DdlMessage("ddl", tag, objects=((kind, name),)).changes_dump is expected


def test_what_could_not_be_described_asks_for_another_dump_and_a_rewrite_does_not() -> None:
    assert DdlMessage("ddl", "ALTER TABLE", failed="deadlock").changes_dump
    assert not DdlMessage("rewrite", "ALTER TABLE", objects=(("table", "mall.orders"),)).changes_dump
