"""Lists of priorities, and the settings that policies name tenants by."""

from __future__ import annotations

import pytest

from ballast.errors import ConfigError
from ballast.recovery.gate import settings_in
from ballast.recovery.priority import parse


@pytest.mark.parametrize(
    "text",
    ["42 1\nlin 2\n", "42,1\nlin,2", "tenant,rank\n42,1\nlin,2\n", "# the big ones\n\n42\t1\nlin\t2.0", "lin,2\n42,1"],
)
def test_a_line_is_a_tenant_and_its_rank(text: str) -> None:
    assert parse(text, "vip.csv") == {"42": 1, "lin": 2}


def test_without_ranks_the_order_of_lines_counts() -> None:
    ranks = parse("42\nlin\n7\n42\n", "vip.csv")
    assert sorted(ranks, key=lambda tenant: ranks[tenant]) == ["42", "lin", "7"]


def test_a_quoted_name_may_hold_a_comma() -> None:
    assert parse('"Lin, Sons",1', "vip.csv") == {"Lin, Sons": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [("42,1\nlin,first", "vip.csv, line 2: the rank 'first' is no number"), ("a b c", "line 1: 3 fields")],
)
def test_what_cannot_be_read_is_named_by_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(text, "vip.csv")


@pytest.mark.parametrize(
    "condition",
    [
        "(shop_id = current_setting('app.shop'::text))",
        "(shop_id = current_setting('app.shop'::text, true))",
        "(shop_id = (current_setting('app.shop'::text))::integer)",
        "(shop_id = ( SELECT (current_setting('app.shop'::text))::integer AS current_setting))",
        "(shop_id = (NULLIF(current_setting('app.shop'::text, true), ''::text))::integer)",
        "((shop_id)::text = current_setting('app.shop'::text, true))",
        "(current_setting('app.shop'::text) = shop_id)",
    ],
)
def test_the_setting_that_a_policy_compares_the_tenant_with_is_found(condition: str) -> None:
    assert settings_in(condition, "shop_id") == ["app.shop"]


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "(owner = current_setting('app.user'::text))",
        "((shop_id = current_setting('app.shop'::text)) OR (current_setting('app.admin'::text) = 'on'::text))",
        "(shop_id <> current_setting('app.shop'::text))",
    ],
)
def test_other_conditions_name_nobody(condition: str) -> None:
    assert settings_in(condition, "shop_id") == []
