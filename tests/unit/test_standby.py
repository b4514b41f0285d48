"""`synchronous_standby_names`: when commits really wait for a recorder, and how it is added and taken out."""

import pytest

from ballast.errors import ProtectionError
from ballast.vault.standby import add, has, named, remove

TWO = frozenset({"ballast", "ballast_b"})


@pytest.mark.parametrize(
    ("setting", "waits"),
    [
        ("", False),
        ("other", False),
        ("ballast", True),
        ("BALLAST", True),
        ("FIRST 2 (ballast, other)", True),
        ("FIRST 2 (other, ballast)", True),
        ("ANY 2 (other, ballast)", True),
        ("ANY 1 (ballast, ballast_b)", True),
        ("ANY 2 (ballast, ballast_b, other)", True),
        ("FIRST 1 (other, ballast)", False),
        ("FIRST 1 (ballast, other)", False),  # when it is away, the other one stands in
        ("ballast, other", False),
        ("ANY 1 (ballast, other)", False),
        ("ANY 1 (ballast, ballast_dr)", False),  # the owner's own, whatever it is called
        ("ANY 1 (ballast, ballast_b, other)", False),
        ("FIRST 2 (ballast, *)", False),
        ("*", False),
    ],
)
def test_it_is_waited_for_only_where_no_commit_can_go_without_it(setting: str, waits: bool) -> None:
    assert has(setting, "ballast", TWO) is waits


@pytest.mark.parametrize(
    ("setting", "with_us"),
    [
        ("", "ballast"),
        ("other", "FIRST 2 (ballast, other)"),
        ("ANY 2 (a, b)", "FIRST 3 (ballast, a, b)"),
        ("ballast_b", "ANY 1 (ballast_b, ballast)"),
        ("ballast_dr", "FIRST 2 (ballast, ballast_dr)"),  # never loosened: it is no recorder
        ("FIRST 2 (ballast, other)", "FIRST 2 (ballast, other)"),
    ],
)
def test_added_it_is_waited_for_as_well_as_all_before(setting: str, with_us: str) -> None:
    assert add(setting, "ballast", TWO) == with_us
    assert has(with_us, "ballast", TWO)
    assert not named(remove(with_us, "ballast"), "ballast")


@pytest.mark.parametrize(
    "setting", ["FIRST 1 (other, ballast)", "ANY 1 (ballast, other)", "ANY 1 (a, b)", "*", "FIRST 1 (ballast_b, other)"]
)
def test_what_cannot_be_said_is_refused(setting: str) -> None:
    with pytest.raises(ProtectionError, match="synchronous_standby_names"):
        add(setting, "ballast", TWO)
