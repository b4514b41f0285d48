"""A store gives back what was put, never replaces it, and says what is wrong when it cannot."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ballast.errors import AlreadyExists, ConfigError, NotFound, StoreError
from ballast.vault import store as store_module
from ballast.vault.records import ObjectRef
from ballast.vault.run import open_run, sort_rows, write_run
from ballast.vault.store import BucketStore, FolderStore, open_store
from tests.fix_vault import Asked, Place
from tests.unit.test_run import table_of


def test_what_was_put_is_got(vault_store: Place) -> None:
    store = vault_store.store
    store.put("data/a/0-run.bin", b"\x00\xffabc")
    store.put("data/empty", b"")
    assert store.get("data/a/0-run.bin") == b"\x00\xffabc"
    assert store.get("data/empty") == b""
    assert store.get_range("data/a/0-run.bin", 1, 3) == b"\xffa"
    assert store.get_range("data/a/0-run.bin", 3, 99) == b"bc"
    assert b"".join(store.stream("data/a/0-run.bin")) == b"\x00\xffabc"


def test_a_name_is_given_once(vault_store: Place, tmp_path: Path) -> None:
    store = vault_store.store
    store.put("ledger/000000000001.json", b"first")
    with pytest.raises(AlreadyExists, match=r"000000000001\.json"):
        store.put("ledger/000000000001.json", b"second")
    (tmp_path / "file").write_bytes(b"third")
    with pytest.raises(AlreadyExists):
        store.put_file("ledger/000000000001.json", tmp_path / "file")
    assert store.get("ledger/000000000001.json") == b"first"


@pytest.mark.parametrize("single_put_bytes", [64 << 20, 1 << 20])
def test_a_large_file_is_put_whole_and_once(
    vault_store: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single_put_bytes: int
) -> None:
    monkeypatch.setattr(store_module, "SINGLE_PUT_BYTES", single_put_bytes)
    content = os.urandom(20 << 20)
    (tmp_path / "large").write_bytes(content)
    vault_store.store.put_file("data/large", tmp_path / "large")
    assert vault_store.store.get("data/large") == content
    with pytest.raises(AlreadyExists):
        vault_store.store.put_file("data/large", tmp_path / "large")


def test_a_missing_object_is_not_found(vault_store: Place) -> None:
    vault_store.store.put("data/there", b"x")
    with pytest.raises(NotFound, match="data/missing"):
        vault_store.store.get("data/missing")
    with pytest.raises(NotFound):
        vault_store.store.get_range("data/missing", 0, 1)
    with pytest.raises(NotFound):
        list(vault_store.store.stream("data/missing"))
    with pytest.raises(NotFound):
        vault_store.store.open("data/missing").read()


def test_listing_is_sorted_and_goes_on_after_a_name(vault_store: Place) -> None:
    names = [f"ledger/{n:012d}.json" for n in range(1, 13)]
    for name in reversed(names):
        vault_store.store.put(name, b"xy")
    vault_store.store.put("data/other", b"z")
    assert vault_store.store.list("ledger/") == [(name, 2) for name in names]
    assert vault_store.names("ledger/") == names
    assert [name for name, _ in vault_store.store.list("ledger/", after=names[9])] == names[10:]
    assert vault_store.store.list("ledger/", after=names[-1]) == []
    assert vault_store.names() == ["data/other", *names]
    assert vault_store.names("nothing/") == []


def test_parquet_is_read_through_the_store(vault_store: Place, tmp_path: Path) -> None:
    table = pa.table({"n": list(range(100_000)), "text": [f"row {n}" for n in range(100_000)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10_000)
    vault_store.store.put_file("data/t.parquet", tmp_path / "t.parquet")
    size = (tmp_path / "t.parquet").stat().st_size
    file = pq.ParquetFile(vault_store.store.open("data/t.parquet", size))
    assert file.read_row_group(7, columns=["n"])["n"].to_pylist() == list(range(70_000, 80_000))
    assert pq.read_table(vault_store.store.open("data/t.parquet")).equals(table)


def test_a_run_in_a_bucket_is_read_by_who_asks_for_it_a_request_a_row_group(
    bucket_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_requests: list[Asked]
) -> None:
    """A thread of Arrow's own that comes into Python while that ends takes the process down, after all was done."""
    rows = table_of([(f"t{n % 7}", 1, b"%d" % n, n, n, "I", b"x" * 50) for n in range(200_000)])
    facts = write_run(tmp_path / "run.parquet", sort_rows(rows))
    bucket_place.store.put_file("data/run.parquet", tmp_path / "run.parquet")
    size = (tmp_path / "run.parquet").stat().st_size
    readers = set()
    for name in ("get_range", "get_ranges"):
        real = getattr(BucketStore, name)

        def noted(*said: Any, real: Any = real) -> Any:
            readers.add(threading.get_ident())
            return real(*said)

        monkeypatch.setattr(BucketStore, name, noted)
    run = open_run(bucket_place.store, facts.ref(ObjectRef("data/run.parquet", size, ""), None))
    groups = len(list(run.groups()))
    assert groups > 1
    s3_requests.clear()
    assert sum(table.num_rows for table in run.slices(columns=("op", "row", "missing"))) == len(rows)
    assert len(s3_requests) == groups
    assert sum(table.num_rows for table in run.batches(50_000)) == len(rows)
    assert readers == {threading.get_ident()}


def test_a_killed_put_shows_nothing(folder_place: Place, tmp_path: Path) -> None:
    """Killed while a put of 1 GB is under way: no name, and the leftover is swept when it is old."""
    program = (
        "import sys; from ballast.vault.store import open_store\n"
        "print('begin', flush=True); open_store(sys.argv[1]).put_file('data/big', '/dev/zero')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder_place.url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    root = Path(folder_place.url)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size > 0 for p in (root / ".staging").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((root / ".staging").iterdir())
    assert folder_place.names() == []
    assert folder_place.store.sweep() == 0
    assert folder_place.store.sweep(older_than_s=0) == 1
    folder_place.store.put("data/big", b"now")


def test_a_put_is_synced_before_it_has_its_name(folder_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (happened.append(_named(fd)), fsync(fd))[1])
    monkeypatch.setattr(os, "link", lambda a, b: (happened.append("link"), link(a, b))[1])
    folder_place.store.put("data/one/object", b"x")
    linked = happened.index("link")
    assert happened[linked - 1].startswith("vault/data") or happened[linked - 1] == "vault/data"
    assert any("staging/" in place for place in happened[:linked])
    assert happened[linked + 1 :] == ["vault/data/one"]


def _named(descriptor: int) -> str:
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    return path[path.rfind("vault") :] if "vault" in path else path


def test_nothing_is_put_where_the_folder_was_unmounted(folder_place: Place) -> None:
    """Not even by a store that was opened before, and puts now for the first time."""
    folder_place.store.put("ledger/1", b"x")
    opened = open_store(folder_place.url)
    root = Path(folder_place.url)
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    for store in (opened, folder_place.store):
        with pytest.raises(StoreError, match="another folder than before"):
            store.put("ledger/2", b"x")
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", ["../outside", "a//b", ".staging/x", "", "/etc/passwd"])
def test_a_name_cannot_lead_out_of_the_folder(folder_place: Place, name: str) -> None:
    with pytest.raises(StoreError):
        folder_place.store.put(name, b"x")


def test_an_unreachable_bucket_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        _s3_at(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
            open_store("s3://bucket/prefix").get("ledger/000000000001.json")


def test_a_bucket_that_accepts_but_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_CLIENT", {**store_module._CLIENT, "read_timeout": "1s"})
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        _s3_at(monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(StoreError, match="failed"):
            open_store("s3://bucket/prefix").put("data/x", b"x")


def test_a_missing_bucket_is_named(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _s3_at(monkeypatch, s3_endpoint)
    for ask in (lambda s: s.get("x"), lambda s: s.put("x", b""), lambda s: s.list("x")):
        with pytest.raises(StoreError, match="bucket"):
            ask(open_store("s3://no-such-bucket/prefix"))


def test_plain_http_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _s3_at(monkeypatch, "http://192.0.2.1:9000")
    with pytest.raises(ConfigError, match="https"):
        open_store("s3://bucket")


@pytest.mark.parametrize(
    "url", ["s3://", "ftp://host/x", "https://host/bucket", "s3:/bucket", "s3:bucket", "s4://bucket"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


def test_addresses_of_folders(tmp_path: Path) -> None:
    plain, url = open_store(str(tmp_path / "a b")), open_store(f"file://{tmp_path}/a%20b")
    assert isinstance(plain, FolderStore)
    assert isinstance(url, FolderStore)
    assert plain.root == url.root == tmp_path / "a b"
    assert plain.list() == []


def _s3_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
