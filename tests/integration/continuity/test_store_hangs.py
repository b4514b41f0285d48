"""The vault's store takes requests and does not answer: nobody who is in the lifeboat notices, and the sentinel goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fix_vault import Line, bucket_url, s3_environment
from tests.folders import a_folder
from tests.integration.continuity.sea import Sea, Shoppers, nothing_is_lost


@pytest.fixture
def sea(line: Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sea]:
    for name, value in s3_environment(line.endpoint).items():
        monkeypatch.setenv(name, value)
    with a_folder() as folder:
        made = Sea(folder, automatic='"ask"', vault=bucket_url())
        try:
            yield made
        finally:
            line.thaw()
            made.discard()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_shops_are_served_and_the_sentinel_tells_and_sees_to_the_lifeboat_while_the_store_hangs(
    sea: Sea, line: Line
) -> None:
    sea.ensure()
    number = sea.course.number
    with Shoppers(sea) as shoppers:
        sea.until(lambda: shoppers.taken("home") > 10, "orders at home")
        sea.lose_files()
        sea.until(lambda: shoppers.taken("lifeboat") > 20, "orders in the lifeboat")
        sea.until(lambda: "recover --now" in sea.health.waits_for, "the sentinel to ask")
        line.freeze()
        sea.until(lambda: sea.health.vault_away, "it to be noticed that the store hangs")
        told = [sea.health.written_at]
        for _ in range(3):
            sea.until(lambda: sea.health.written_at != told[-1], "the sentinel to tell", 8)
            told.append(sea.health.written_at)
        sea.kill_lifeboats()
        sea.until(lambda: sea.decided.count("with all that was in it"), "the lifeboat to be raised")
        here = shoppers.taken("lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > here + 10, "orders in the lifeboat while the store hangs")
        ordered = subprocess.run(
            [sys.executable, "-m", "ballast.cli", "recover", "--now", "--config", str(sea.config_path)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ordered.returncode == 0, ordered.stderr
        sea.until(lambda: "ordered the recovery" in sea.decided, "the word to be heard")
        here = shoppers.taken("lifeboat")
        sea.until(lambda: shoppers.taken("lifeboat") > here + 10, "orders in the lifeboat while it would be recovered")
        line.thaw()
        sea.until(lambda: sea.course.mode == "home" and sea.course.number > number, "everybody to be home", 200)
    nothing_is_lost(sea, shoppers)
