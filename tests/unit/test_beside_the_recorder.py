"""What the processes beside the recorder go by: whose word counts, whose settings hold, what the sealer takes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ballast.errors import ServerError
from ballast.vault import catalogfile, config, health, watchdog
from ballast.vault.catalogfile import CatalogRead, Inbox
from ballast.vault.config import Config, Record
from ballast.vault.durable import make_folder
from ballast.vault.health import SealerHealth
from ballast.vault.logbook import Logbook
from ballast.vault.recorder import _SealedUntil


def test_only_our_own_sealer_of_our_own_timeline_says_what_is_sealed(tmp_path: Path) -> None:
    def tell(lsn: int, timeline: int, started_by: str) -> None:
        told = SealerHealth(1, "sealing", health.now_iso(), "", timeline, lsn, 1, 1, 0, 0, started_by=started_by)
        health.write_state(tmp_path, health.SEALER_FILE, told)

    until = _SealedUntil(tmp_path, 2, "mine")
    assert until() == 0
    tell(9_000, 1, "another")  # left by a recorder of the server before
    assert until() == 0
    tell(9_000, 1, "mine")
    assert until() == 0
    tell(9_000, 2, "")
    assert until() == 0
    tell(100, 2, "mine")
    assert until() == 100


def test_a_mistake_in_the_file_leaves_the_watchdog_its_former_settings(tmp_path: Path) -> None:
    path = tmp_path / "ballast.toml"
    settings = Config(dsn="dbname=x", vault=str(tmp_path / "v"), state_dir=tmp_path / "s", record=Record())
    config.write(settings, path)
    path.write_text("[record\nacknowledge = ")
    assert watchdog._read_again(path, settings, Logbook("test")) is settings
    path.unlink()
    assert watchdog._read_again(path, settings, Logbook("test")) is settings


def test_a_watchdog_ends_with_an_error_when_folder_and_server_are_both_gone(tmp_path: Path) -> None:
    path, state = tmp_path / "ballast.toml", tmp_path / "s"
    wanted = Record(on_recorder_loss="continue after 1s")
    config.write(Config(dsn=f"host={tmp_path}", vault=str(tmp_path / "v"), state_dir=state, record=wanted), path)
    state.mkdir()
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watchdog.watch, path, stay=False, log=Logbook("test"), gone_s=0.3)
        with pytest.raises(TimeoutError):
            watching.result(1)  # a server may come back: somebody has to be there then
        state.rmdir()
        with pytest.raises(ServerError, match=r"state folder .* is gone"):
            watching.result(30)


def test_a_catalog_is_taken_once_and_stays_until_it_is_used(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    assert inbox.look() is None
    catalogfile.leave(tmp_path, CatalogRead(5, (), 1))
    assert inbox.look() == CatalogRead(5, (), 1)
    assert inbox.look() is None
    assert Inbox(tmp_path).look() is not None, "a killed sealer finds it again"
    catalogfile.leave(tmp_path, CatalogRead(6, (), 1))
    inbox.done()
    assert catalogfile.is_there(tmp_path), "it has come meanwhile"
    assert inbox.look() == CatalogRead(6, (), 1)
    inbox.done()
    assert not catalogfile.is_there(tmp_path)
    (tmp_path / catalogfile.CATALOG_FILE).write_bytes(b"{")
    assert inbox.look() is None
    assert not catalogfile.is_there(tmp_path)


@pytest.mark.parametrize("parts", [("a",), ("a", "b")])
def test_folders_of_ours_are_closed_to_others(tmp_path: Path, parts: tuple[str, ...]) -> None:
    folder = tmp_path.joinpath(*parts)
    make_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
