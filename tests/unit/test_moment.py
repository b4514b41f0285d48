"""A time, a position, or nothing: each leads to one cut, and says which."""

import itertools
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.errors import ConfigError, GapError, UsageError
from ballast.vault.index import VaultIndex
from ballast.vault.moment import Resolved, resolve
from ballast.vault.records import Body, Cut, Entry, Gap, Genesis, Image, ObjectRef, Segment, Timeline

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


class Recorded:
    """An index over segments whose transactions are given as (commit LSN, seconds after noon)."""

    def __init__(self) -> None:
        self.index = VaultIndex()
        self.tables: dict[str, pa.Table] = {}
        self.read = 0
        self.add(Genesis(1, "v", "", 2, "test"))

    def add(self, body: Body, at: datetime = NOON) -> None:
        self.index.apply(Entry(self.index.head + 1, "", at.isoformat(), "", body))

    def begin(self, timeline: int = 1, start: int = 10, parent: int | None = None, fork: int | None = None) -> None:
        self.add(Timeline(timeline, "s", "d", 180000, "slot", "pub", start, parent, fork), NOON + timedelta(seconds=1))
        if parent is None:
            self.add(Image(timeline, start, 1, None, (), (), "first"))

    def segment(self, first: int, last: int, commits: list[tuple[int, float]], timeline: int = 1) -> None:
        times = [NOON + timedelta(seconds=s) for _, s in commits]
        ref = ObjectRef(f"t{len(self.tables)}", 1, "") if commits else None
        if ref:
            self.tables[ref.name] = pa.table(
                {
                    "lsn": pa.array([lsn for lsn, _ in commits], pa.int64()),
                    "committed_at": pa.array(times, pa.timestamp("us", "UTC")),
                }
            )
        self.add(
            Segment(
                timeline,
                first,
                last,
                min(times).isoformat() if times else None,
                max(times).isoformat() if times else None,
                (),
                ref,
                (),
                (),
                len(commits),
            )
        )

    def transactions(self, segment: Segment) -> pa.Table | None:
        self.read += 1
        return self.tables[segment.transactions.name] if segment.transactions else None

    def resolve(self, at: str | None, now: datetime = NOON + timedelta(days=2)) -> Resolved:
        return resolve(self.index, self.transactions, at, now=now)


@pytest.fixture
def vault() -> Recorded:
    vault = Recorded()
    vault.begin()
    vault.segment(10, 30, [(12, 2), (20, 4)])
    vault.segment(30, 40, [])
    vault.segment(40, 60, [(40, 10), (50, 9.5), (55, 12)])
    return vault


@pytest.mark.parametrize(
    ("second", "lsn", "last"),
    [
        (1, 12, None),  # the state of the first image
        (2, 20, 2),  # a commit at the very time is before the cut
        (3, 20, 2),
        (4, 40, 4),
        (9.7, 40, 4),  # the commit of 9.5 comes after that of 10: the first past the time cuts
        (10, 55, 9.5),
        (12, 60, 12),
        (99, 60, 12),
    ],
)
def test_a_time_is_cut_at_the_first_commit_past_it(
    vault: Recorded, second: float, lsn: int, last: float | None
) -> None:
    resolved = vault.resolve((NOON + timedelta(seconds=second)).isoformat())
    assert resolved.cut == Cut(1, lsn)
    assert resolved.committed_at == (None if last is None else NOON + timedelta(seconds=last))
    assert resolved.exact
    assert f"1/0/{lsn:X}" in resolved.how


def test_nothing_means_the_newest(vault: Recorded) -> None:
    for at in (None, "newest", " latest "):
        assert vault.resolve(at).cut == Cut(1, 60)


@pytest.mark.parametrize("at", ["", "  "])
def test_an_empty_moment_is_none(vault: Recorded, at: str) -> None:
    with pytest.raises(ConfigError, match="empty"):  # "$MOMENT" of a variable that nobody has set
        vault.resolve(at)


@pytest.mark.parametrize("now", [NOON, NOON.replace(tzinfo=None)])
def test_a_moment_that_has_not_come_is_refused(vault: Recorded, now: datetime) -> None:
    at = now.astimezone(UTC)
    assert vault.resolve((at + timedelta(minutes=1)).isoformat(), now).cut == Cut(1, 60)  # production's clock is ahead
    with pytest.raises(ConfigError, match="has not come yet"):
        vault.resolve((at + timedelta(minutes=10)).isoformat(), now)


def test_a_time_past_the_last_commit_says_so(vault: Recorded) -> None:
    assert "past the last recorded commit (2026-03-01 12:00:12+00:00)" in vault.resolve("2026-03-02 00:00Z").how


def test_a_time_before_the_vault_names_the_earliest(vault: Recorded) -> None:
    with pytest.raises(GapError, match=r"earliest moment is 2026-03-01 20:00:01\+08:00"):
        vault.resolve("2026-03-01 20:00:00.999+08:00")


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ("2026-03-01 20:00:03+08:00", NOON),
        ("2026-03-01 20:00:03 +0800", NOON),
        ("2026-03-01T12:00:03Z", NOON),
        ("2026-03-01 12:00:03 UTC", NOON),
        ("2026-03-01 20:00:03", NOON.astimezone(SHANGHAI)),
        ("20:00:03", NOON.astimezone(SHANGHAI)),
        ("2026-03-01 13:00:03", datetime(2026, 7, 1, tzinfo=BERLIN)),  # winter time then, though it is summer now
    ],
)
def test_times_as_people_write_them(vault: Recorded, text: str, now: datetime) -> None:
    resolved = vault.resolve(text, now)
    assert resolved.cut == Cut(1, 20)
    if "+" not in text:
        assert "2026-03-01 " in resolved.how
        assert "+0" in resolved.how  # which zone was understood


def test_a_naive_now_means_the_zone_of_this_machine(vault: Recorded) -> None:
    local = (NOON + timedelta(seconds=3)).astimezone().replace(tzinfo=None)
    assert vault.resolve(local.isoformat(), datetime(2026, 7, 1)).cut == Cut(1, 20)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "1/2/3/4", "0/XYZ", "/", "12", "0/123456789"])
def test_what_is_neither_is_refused_with_an_example(vault: Recorded, text: str) -> None:
    with pytest.raises(UsageError, match="Write a time like"):
        vault.resolve(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2025-10-26 02:30", r"came twice .* 2025-10-26 02:30:00\+02:00 or 2025-10-26 02:30:00\+01:00"),
        ("2025-03-30 02:30", r"never came .* 2025-03-30 01:30:00\+01:00 or 2025-03-30 03:30:00\+02:00"),
    ],
)
@pytest.mark.parametrize("zone", ["given", "system"])
def test_a_local_time_that_came_twice_or_never_is_not_guessed(
    vault: Recorded, monkeypatch: pytest.MonkeyPatch, text: str, said: str, zone: str
) -> None:
    now = datetime(2026, 7, 1, tzinfo=BERLIN if zone == "given" else None)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        with pytest.raises(UsageError, match=said):
            vault.resolve(text, now)
        with pytest.raises(GapError, match="before the vault begins"):
            vault.resolve(f"{text}+01:00", now)  # the zone says which
    finally:
        monkeypatch.undo()
        time.tzset()


def test_positions(vault: Recorded) -> None:
    assert vault.resolve("0/28").cut == Cut(1, 0x28)
    assert vault.resolve("1/0/28").cut == Cut(1, 0x28)
    assert vault.resolve("1/0/28").committed_at == NOON + timedelta(seconds=4)
    with pytest.raises(GapError, match="newest is 1/0/3C"):
        vault.resolve("0/3D")
    with pytest.raises(GapError, match="earliest is 1/0/A"):
        vault.resolve("0/9")
    with pytest.raises(ConfigError, match="no timeline 3"):
        vault.resolve("3/0/28")


def test_gaps_go_with_the_cut(vault: Recorded) -> None:
    vault.add(Gap("g", 1, 15, 45, None, "slot lost", ""))
    assert not vault.resolve("0/28").exact
    assert vault.resolve("0/28").gaps[0].gap_id == "g"
    assert vault.resolve("0/2D").exact


def test_a_vault_without_an_image_has_no_moment() -> None:
    vault = Recorded()
    with pytest.raises(ConfigError, match="Nothing is recorded"):
        vault.resolve(None)
    vault.add(Timeline(1, "s", "d", 180000, "slot", "pub", 10))
    for at in (None, "0/A", "2026-03-01 12:00Z"):
        with pytest.raises(GapError, match="No image"):
            vault.resolve(at)


def test_a_fork_leaves_the_parents_later_commits_aside(vault: Recorded) -> None:
    vault.begin(timeline=2, start=5, parent=1, fork=50)
    vault.segment(5, 9, [(7, 30)], timeline=2)
    assert vault.resolve(None).cut == Cut(2, 9)
    assert vault.resolve((NOON + timedelta(seconds=3)).isoformat()).cut == Cut(1, 20)
    assert vault.resolve((NOON + timedelta(seconds=11)).isoformat()).cut == Cut(2, 7)  # 1/55 is not of this history
    assert vault.resolve("1/0/38").cut == Cut(1, 0x38)
    assert vault.resolve("2/0/5").committed_at == NOON + timedelta(seconds=10)


def test_only_the_segments_near_the_time_are_read() -> None:
    vault = Recorded()
    vault.begin()
    for n in range(1000):
        vault.segment(10 + n, 11 + n, [(10 + n, 60.0 * n + 2)])
    assert vault.resolve((NOON + timedelta(minutes=500)).isoformat()).cut == Cut(1, 510)
    assert vault.read < 5


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.integers(-2000, 20_000), min_size=1, max_size=40),
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    asked_ms=st.integers(1000, 400_000),
)
def test_as_postgresql_would_stop(steps: list[int], sizes: list[int], asked_ms: int) -> None:
    """Against brute force: the first commit in LSN order later than the time."""
    times = list(itertools.accumulate(steps, initial=5000))
    commits = [(10 + 2 * n, ms / 1000) for n, ms in enumerate(times)]
    vault = Recorded()
    vault.begin()
    left, first = list(commits), 10
    for size in itertools.cycle([*sizes, 1]):
        part, left = left[:size], left[size:]
        last = left[0][0] if left else 10 + 2 * len(commits)
        if last > first:
            vault.segment(first, last, part)
        first = last
        if not left:
            break
    expected = next((lsn for lsn, s in commits if s * 1000 > asked_ms), 10 + 2 * len(commits))
    assert vault.resolve((NOON + timedelta(milliseconds=asked_ms)).isoformat()).cut == Cut(1, expected)
