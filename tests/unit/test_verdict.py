"""PROTECTED is said only when all is well, and said so just now."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ballast.vault.config import Record
from ballast.vault.health import RecorderHealth, SealerHealth, Verified
from ballast.vault.verdict import OnProduction, OpenGap, Verdict, judge, lag_s

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def said(**changed: Any) -> RecorderHealth:
    """A recorder that is well."""
    return RecorderHealth(
        **{
            "pid": 7,
            "state": "recording",
            "since": NOW.isoformat(),
            "written_at": (NOW - timedelta(seconds=1)).isoformat(),
            "acknowledge": "spool",
            "lag_bytes": 0,
            "armed": True,
            **changed,
        }
    )


def sealer(state: Any, **changed: Any) -> SealerHealth:
    fields = {
        "reason": "because",
        "timeline": 1,
        "sealed_lsn": 0,
        "segments": 0,
        "rows": 0,
        "waiting_files": 3,
        "waiting_bytes": 9,
    }
    return SealerHealth(8, state, changed.pop("written_at", NOW.isoformat()), **{**fields, **changed})  # type: ignore[arg-type]


def verdict(
    health: RecorderHealth | None = None, *, held: bool = True, record: Record | None = None, **more: Any
) -> Verdict:
    return judge(health or said(), held=held, record=record or Record(), now=NOW, **more)


def test_all_is_well() -> None:
    found = verdict(production=OnProduction("active", True), sealer=sealer("waiting"))
    assert found.protected
    assert found.state == "protected"
    assert found.headline == "PROTECTED: every acknowledged commit is on the recorder's disk or in the vault (RPO 0)."
    assert found.problems == found.remarks == ()


def test_acknowledging_from_the_store() -> None:
    assert "in the vault's store (RPO 0)" in verdict(record=Record(acknowledge="store")).headline


def test_off_is_protected_as_configured_and_says_what_it_means() -> None:
    found = verdict(said(armed=False, lag_bytes=5000), record=Record(acknowledge="off"))
    assert found.protected
    assert "the newest commits can be lost with production (5,000 bytes behind)" in found.headline
    assert "RPO 0" not in found.headline


def test_no_recorder() -> None:
    never = judge(None, held=False, record=Record(), now=NOW)
    assert never.headline == "NOT PROTECTED: the recorder has never run here."
    gone = verdict(held=False)
    assert not gone.protected
    assert gone.headline.startswith("NOT PROTECTED: the recorder is gone: it last spoke at 2026-03-01")
    assert gone.problems[0].do == "Start it: `ballast record`."
    stopped = verdict(said(state="stopped"), held=False)
    assert "was stopped at" in stopped.headline
    assert (
        "ended with an error: disk on fire"
        in verdict(said(state="stopped", reason="disk on fire"), held=False).headline
    )
    assert (
        "ended at a fork: another server" in verdict(said(state="fork", reason="another server"), held=False).headline
    )


def test_commits_that_hang_are_named() -> None:
    waiting = verdict(held=False, production=OnProduction("unread", True))
    assert [p.what for p in waiting.problems[1:]] == ["production's commits hang until a recorder is back"]
    let_go = verdict(held=False, production=OnProduction("unread", False))
    assert len(let_go.problems) == 1
    soon = verdict(
        held=False, production=OnProduction("unread", True), record=Record(on_recorder_loss="continue after 5s")
    )
    assert "watchdog lets them go (continue after 5s)" in soon.problems[1].what


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("starting", "the recorder is starting"),
        ("connecting", "no stream from production: why"),
        ("blind", "not complete: why"),
        ("gap", "thrown away changes"),
        ("spool_full", "the spool is full: why"),
        ("slot_lost", "slot is lost: why"),
        ("fork", "starting"),
        ("stopped", "starting"),
    ],
)
def test_states_in_which_nothing_is_recorded(state: str, words: str) -> None:
    found = verdict(said(state=state, reason="why"))
    assert found.state == "not protected"
    assert found.headline.startswith("NOT PROTECTED: ")
    assert words in found.headline
    assert found.problems[0].do


def test_a_recorder_that_says_nothing_is_away() -> None:
    assert verdict(said(written_at=(NOW - timedelta(seconds=9)).isoformat())).protected
    silent = verdict(said(written_at=(NOW - timedelta(seconds=35)).isoformat()))
    assert silent.headline == "NOT PROTECTED: the recorder (process 7) has said nothing for 35 s."


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (said(armed=False), "do not wait for the recorder yet"),
        (said(armed=False, exposed_since="2026-03-01T11:00:00"), "for the recorder since 2026-03-01 "),
        (said(armed=False, not_armed_because="The role may not."), "The role may not."),
        (said(state="catching_up", armed=False, lag_bytes=70_000), "catching up, 70,000 bytes behind"),
    ],
)
def test_where_commits_do_not_wait_the_newest_can_be_lost(health: RecorderHealth, words: str) -> None:
    found = verdict(health)
    assert found.state == "newest can be lost"
    assert not found.protected
    assert found.headline.startswith("PROTECTED, BUT NOT RPO 0: the newest commits can be lost with production: ")
    assert words in found.headline
    assert not found.headline.endswith("..")


def test_production_is_believed_more_than_the_recorder() -> None:
    assert verdict(production=OnProduction("active", False)).state == "newest can be lost"
    assert verdict(production=OnProduction("unread", True)).protected  # between two connections
    for slot in ("lost", "missing"):
        found = verdict(production=OnProduction(slot, True))  # type: ignore[arg-type]
        assert found.headline == f"NOT PROTECTED: production says that the replication slot is {slot}."


def test_an_open_gap_is_no_protection() -> None:
    found = verdict(gaps=[OpenGap(("public.t",), "1/0/100", "rewritten")])
    assert found.headline == "NOT PROTECTED: the record of public.t is not exact since 1/0/100: rewritten."
    assert "whole database" in verdict(gaps=[OpenGap(None, "1/0/100", "slot lost")]).headline


def test_what_the_sealer_says() -> None:
    for since in (None, (NOW - timedelta(seconds=50)).isoformat()):
        found = verdict(sealer=sealer("store_away", trouble_since=since))
        assert found.protected
        assert "because" in found.remarks[0].what
    assert "another recorder writes this vault" in verdict(sealer=sealer("fenced")).headline
    silent = verdict(sealer=sealer("sealing", written_at=(NOW - timedelta(minutes=2)).isoformat()))
    assert "3 spool files wait" in silent.remarks[0].what


def test_what_does_not_reach_the_vault_is_no_protection() -> None:
    long = (NOW - timedelta(seconds=70)).isoformat()
    for said_of_it in (sealer("stuck"), sealer("store_away", trouble_since=long)):
        found = verdict(sealer=said_of_it)
        assert not found.protected
        assert found.headline.startswith("NOT PROTECTED: recorded on the recorder's disk, but not reaching the vault")
        assert "because" in found.headline
        assert found.remarks == ()
        assert found.problems[0].do
    assert verdict(sealer=sealer("store_away", trouble_since=long, waiting_bytes=0)).protected


def test_alarms_and_a_filling_spool_need_attention() -> None:
    found = verdict(said(alarms=("production keeps much WAL",), spool_bytes=6 << 30))
    assert [remark.what for remark in found.remarks] == ["production keeps much WAL", "the spool is 75 % full"]
    assert found.protected


def test_lag_counts_only_while_production_is_ahead() -> None:
    commit = (NOW - timedelta(seconds=40)).isoformat()
    assert lag_s(said(last_commit_at=commit, lag_bytes=0), NOW) == 0.0
    assert lag_s(said(last_commit_at=commit, lag_bytes=8), NOW) == 40.0
    assert lag_s(said(last_commit_at=None, lag_bytes=8), NOW) is None
    assert lag_s(said(last_commit_at=commit, lag_bytes=None), NOW) is None
    assert lag_s(None, NOW) is None


def test_a_vault_that_was_found_unsound_is_no_protection() -> None:
    found = Verified("2026-03-01T00:00:00+00:00", "vault", False, 2, 10, True)
    verdict = judge(None, held=False, record=Record(), now=datetime.now(UTC), verified=found)
    assert any("not sound" in problem.what for problem in verdict.problems)
