"""The picture store in a folder and in a bucket: added once, never changed, and it says when it is away."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from ballast.errors import StoreError
from ballast.mall.db import Busy
from ballast.mall.picture_store import PictureStore
from ballast.mall.pictures import Pictures
from ballast.mall.rules.pictures import WIDTHS
from tests.fix_vault import Place

NAME = "a" * 64


def _photo(colour: str, size: tuple[int, int] = (1200, 900)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


def test_a_picture_is_added_once_and_only_its_shop_has_it(vault_store: Place) -> None:
    store, shop, other = PictureStore(f"{vault_store.url}/pictures"), uuid4(), uuid4()

    async def story() -> None:
        assert await store.get(shop, NAME, 480) is None
        await store.put(shop, NAME, 480, b"first")
        await store.put(shop, NAME, 480, b"second")
        assert await store.get(shop, NAME, 480) == b"first"
        assert await store.get(other, NAME, 480) is None
        assert await store.get(shop, NAME, 160) is None

    asyncio.run(story())


def test_uploads_are_worked_on_few_at_a_time_and_too_many_are_sent_away(tmp_path: Path) -> None:
    pictures, shop = Pictures(PictureStore(str(tmp_path / "p"))), uuid4()
    reading = most_reading = 0

    async def read() -> bytes:
        nonlocal reading, most_reading
        reading += 1
        most_reading = max(most_reading, reading)
        await asyncio.sleep(0.01)
        reading -= 1
        return _photo("teal", (64, 48))

    async def story() -> None:
        kept = await asyncio.gather(*(pictures.keep(shop, read) for _ in range(40)), return_exceptions=True)
        sent_away = [one for one in kept if isinstance(one, Busy)]
        taken = [one for one in kept if not isinstance(one, BaseException)]
        assert (len(taken), len(sent_away)) == (24, 16)
        assert len({one.picture for one in taken}) == 1
        assert most_reading == 2
        for width in WIDTHS:
            data = await pictures.read(shop, taken[0].picture, width)
            assert data is not None
            assert Image.open(io.BytesIO(data)).size == (64, 48)
        # And all of them are over: the next one comes in.
        await pictures.keep(shop, read)

    asyncio.run(story())
    assert len([one for one in (tmp_path / "p").rglob("*") if one.is_file()]) == len(WIDTHS)


def test_a_store_that_is_away_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")

    async def story(address: str) -> None:
        with pytest.raises(StoreError, match="did not take a picture"):
            await PictureStore(address).put(uuid4(), NAME, 480, b"x")

    asyncio.run(story(str(tmp_path / "file" / "pictures")))
    asyncio.run(story("s3://nobody/pictures"))
