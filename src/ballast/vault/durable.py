"""Writing files so that they survive a power cut: data first, then the name, then the folder that holds the name."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def keep_private() -> None:
    """Whatever this process makes from here on is for its own account only. At the beginning of every process of ours."""
    os.umask(0o077)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (the files' content is another matter)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents, each durably under its name; nothing happens if it is there.

    What is kept is customers' data: nobody else may look into a folder that we make."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        sync_folder(new.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` at once and durably: a reader sees the old or the new file, also after a crash."""
    make_folder(path.parent)
    staged = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with staged.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        staged.rename(path)
    finally:
        staged.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Unlink `path` durably; nothing happens if it is gone."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)
