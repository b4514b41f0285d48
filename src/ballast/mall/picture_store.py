"""Where pictures are kept: a folder or a bucket, under ``<shop>/<SHA-256>-<width>.webp``. Added once, never overwritten.

Serving one asks no database: its shop and its hash name it.
"""

from __future__ import annotations

import asyncio
import os
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from ballast.errors import ConfigError, StoreError


class PictureStore:
    """The store of one process. Contacts nothing before the first picture.

    Args:
        address: a folder, or ``s3://bucket/prefix``; S3 takes endpoint and credentials from the environment (AWS_*).
        synced: in a folder, that it is on the disk is waited for; not where pictures can be made again.
    """

    def __init__(self, address: str, *, synced: bool = True) -> None:
        self._address = address
        self._synced = synced
        self._folder = None if address.startswith("s3://") else Path(address).expanduser().absolute()

    async def put(self, shop_id: UUID, picture: str, width: int, data: bytes) -> None:
        """Add one size of a picture; durable when it returns. What is there already stays as it is.

        Raises:
            StoreError: the store did not take it.
        """
        name = _name(shop_id, picture, width)
        try:
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            await obstore.put_async(self._backend, name, data, mode="create", use_multipart=False)
            if self._folder and self._synced:
                await asyncio.to_thread(_sync, self._folder / name)
        except (AlreadyExistsError, FileExistsError):
            return
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(
                f"the picture store {self._address} did not take a picture: {_gist(error)}.",
                "See that it is there and may be written to.",
            ) from error

    async def get(self, shop_id: UUID, picture: str, width: int) -> bytes | None:
        """One size of a picture; None: the shop has no such picture.

        Raises:
            StoreError: the store does not answer.
        """
        if self._folder and not self._folder.is_dir():
            return None
        try:
            found = await obstore.get_async(self._backend, _name(shop_id, picture, width))
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(
                f"the picture store {self._address} does not answer: {_gist(error)}.", "Try again in a moment."
            ) from error

    @cached_property
    def _backend(self) -> Any:
        if self._folder:
            return LocalStore(self._folder)
        parts = urlsplit(self._address)
        if not parts.netloc:
            raise ConfigError(f"{self._address} names no bucket.", "Write s3://bucket or s3://bucket/prefix.")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            virtual_hosted_style_request=False,
            client_options={
                "connect_timeout": "2s",
                "timeout": "20s",
                "allow_http": endpoint.startswith("http://"),
            },
        )


def _name(shop_id: UUID, picture: str, width: int) -> str:
    return f"{shop_id}/{picture}-{width}.webp"


def _sync(path: Path) -> None:
    """The file and its name, through to the disk: a name that is taken is never written again."""
    for one in (path, path.parent):
        opened = os.open(one, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _gist(error: Exception) -> str:
    """The first line of an error: obstore adds a page of its own structures."""
    return str(error).strip().split("\n", 1)[0].rstrip(".")[:300]
