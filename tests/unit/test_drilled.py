"""How drills are kept and when they are due, without a server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from ballast.errors import ConfigError, FormatError
from ballast.vault import config, ledger
from ballast.vault.config import Config, Record
from ballast.vault.drilled import Drilled, history, note_of, seconds_of
from ballast.vault.index import VaultIndex
from ballast.vault.records import Entry, Genesis, Note
from ballast.vault.verdict import judge

WELL = Drilled("2026-03-01T00:00:00+00:00", "file:///v", True, tenants=3, tenants_known=9)


def entry(number: int, body: object) -> Entry:
    return Entry(number, "", "2026-03-01T00:00:00+00:00", "tests", body)  # type: ignore[arg-type]


def test_a_note_goes_through_the_ledger_as_it_was_signed() -> None:
    noted = entry(2, note_of(WELL))
    data = ledger.encode(noted)
    assert ledger.encode(ledger.decode(data, "x")) == data
    assert history([ledger.decode(data, "x").body]) == [WELL]  # type: ignore[list-item]


def test_notes_of_another_topic_or_a_later_make_are_passed_over() -> None:
    index = VaultIndex()
    index.apply(entry(1, Genesis(1, "v", "k", 4, "tests")))
    index.apply(entry(2, Note("weather", msgspec.Raw(b'{"rain":true}'))))
    index.apply(entry(3, Note("drill", msgspec.Raw(b'{"at":17}'))))
    index.apply(entry(4, note_of(WELL)))
    assert len(index.notes) == 3
    assert history(index.notes) == [WELL]
    later = bytes(note_of(WELL).content)[:-1] + b',"of_a_later_version":1}'
    assert history([Note("drill", msgspec.Raw(later))]) == [WELL]


def test_a_kind_of_entry_that_is_no_note_is_still_of_a_newer_format() -> None:
    data = msgspec.json.encode(
        {"number": 2, "previous": "", "written_at": "", "writer": "", "body": {"type": "retention"}, "signature": ""}
    )
    with pytest.raises(FormatError, match="does not know"):
        ledger.decode(data, "x")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1d", 86400), ("12h", 43200), ("30m", 1800), ("10s", 10), ("off", None)]
)
def test_intervals(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "9s", "0d", "1 d", "-1d", "1w", "1dd"])
def test_what_is_no_interval(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        seconds_of(text)
    path = written(tmp_path)
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"record\.drill_every"):
        config.set_in_record(path, drill_every=text)
    assert path.read_text() == before


def written(folder: Path) -> Path:
    path = folder / "ballast.toml"
    config.write(Config(dsn="dbname=x", vault=str(folder / "v"), state_dir=folder / "s"), path)
    return path


def test_a_setting_is_changed_beside_the_owners_words(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("[tenants.via]", '[tenants.via]\n# ours\n"public.a" = "public.b"\n'))
    before = path.read_text().splitlines()
    config.set_in_record(path, drill_every="1d", drill_tenants=0)
    after = path.read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [('drill_every = "off"', 'drill_every = "1d"'), ("drill_tenants = 20", "drill_tenants = 0")]
    assert config.load(path).record == Record(drill_every="1d", drill_tenants=0)


@pytest.mark.parametrize("has_table", [True, False])
def test_a_setting_is_added_to_a_file_of_an_earlier_version(tmp_path: Path, has_table: bool) -> None:
    path = tmp_path / "ballast.toml"
    table = "[record]\n# mine\nmerge_every_s = 60\n\n[tenants]\ncolumn = 'shop'\n" if has_table else ""
    path.write_text(f"dsn = 'dbname=x'\nvault = 'v'\n{table}")
    config.set_in_record(path, drill_every="12h")
    assert config.load(path).record == Record(merge_every_s=60.0 if has_table else 300.0, drill_every="12h")
    assert ("# mine" in path.read_text()) == has_table


NOW = datetime(2026, 3, 2, tzinfo=UTC)


def said(drilled: Drilled | None, every: str = "off", now: datetime = NOW) -> tuple[list[str], list[str]]:
    found = judge(None, held=False, record=Record(drill_every=every), now=now, drilled=drilled)
    return [p.what for p in found.problems if "drill" in p.what], [p.what for p in found.remarks if "drill" in p.what]


def test_what_status_makes_of_the_last_drill() -> None:
    assert said(None) == said(WELL) == ([], [])
    (problem,), remarks = said(
        msgspec.structs.replace(WELL, equal=False, differences=3, named=("tenant 4, table a: x",))
    )
    assert problem.endswith("does not give back what production has: tenant 4, table a: x and 2 more")
    assert remarks == []
    problems, (remark,) = said(msgspec.structs.replace(WELL, equal=False, failure="no room"))
    assert (problems, remark.endswith("could not be carried out: no room")) == ([], True)
    assert said(WELL, "1d") == ([], [])
    assert said(WELL, "1d", NOW + timedelta(days=1, minutes=9)) == ([], [])
    problems, (remark,) = said(WELL, "1d", NOW + timedelta(days=1, minutes=11))
    assert (problems, "one is due every 1d" in remark) == ([], True)
