"""Bytes that were kept are there, whole and unchanged, or the caller was told otherwise."""

import errno
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import NotFound, Unavailable
from gateway.store import blobs as store
from gateway.store.blobs import Blob, LocalBlobs

BYTES = b"one invoice"
DIGEST = hashlib.sha256(BYTES).hexdigest()


def _leftovers(blobs: LocalBlobs) -> list[Path]:
    return list(blobs.scratch().parent.iterdir())


def _objects(blobs: LocalBlobs) -> list[Path]:
    return [path for path in (blobs.scratch().parent.parent / "objects").rglob("*") if path.is_file()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=5000))
def test_bytes_come_back_as_they_went_in(blobs: LocalBlobs, content: bytes) -> None:
    """By the SHA-256 that everything else refers to; empty ones too."""
    blob = blobs.put(content)
    assert blob == Blob(hashlib.sha256(content).hexdigest(), len(content))
    assert store.read(blobs, blob.sha256) == content
    assert blobs.path(blob.sha256).read_bytes() == content


def test_a_scratch_file_is_taken_over(blobs: LocalBlobs) -> None:
    """What a worker wrote becomes a blob; its own name is gone."""
    path = blobs.scratch()
    path.write_bytes(BYTES)
    assert blobs.adopt(path) == Blob(DIGEST, len(BYTES)) == store.digest_of(blobs.path(DIGEST))
    assert not path.exists()
    assert store.read(blobs, DIGEST) == BYTES


def test_scratch_names_are_new_and_on_the_same_file_system(blobs: LocalBlobs) -> None:
    """A link cannot cross file systems, and two workers must not meet."""
    names = {blobs.scratch() for _ in range(100)}
    assert len(names) == 100
    assert not any(path.exists() for path in names)
    assert os.stat(names.pop().parent).st_dev == os.stat(blobs.path(blobs.put(BYTES).sha256)).st_dev


def test_the_same_bytes_are_kept_once(blobs: LocalBlobs) -> None:
    """A repeated document costs no space, and never overwrites."""
    blobs.put(BYTES)
    first = blobs.path(DIGEST).stat()
    path = blobs.scratch()
    path.write_bytes(BYTES)
    assert blobs.put(BYTES) == blobs.adopt(path) == Blob(DIGEST, len(BYTES))
    assert blobs.path(DIGEST).stat().st_ino == first.st_ino
    assert len(_objects(blobs)) == 1
    assert _leftovers(blobs) == []


@pytest.mark.parametrize("damaged", [b"", BYTES[:-1], BYTES + b"!", b"ONE INVOICE"])
def test_bytes_that_the_disk_damaged_are_mended_by_those_that_come_again(blobs: LocalBlobs, damaged: bytes) -> None:
    """Handed in again, or sealed again after a kill: the name must not go on standing for other bytes."""
    for keep in (lambda: blobs.put(BYTES), lambda: blobs.adopt(_scratch(blobs, BYTES))):
        blobs.put(BYTES)
        blobs.path(DIGEST).chmod(0o600)
        blobs.path(DIGEST).write_bytes(damaged)
        keep()
        assert store.is_whole(blobs, DIGEST)
        assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o400
    assert len(_objects(blobs)) == 1
    assert _leftovers(blobs) == []


def _scratch(blobs: LocalBlobs, content: bytes) -> Path:
    path = blobs.scratch()
    path.write_bytes(content)
    return path


def test_many_threads_may_keep_the_same_and_other_bytes(blobs: LocalBlobs) -> None:
    """Every door writes at once; one name is linked by one of them."""
    contents = [b"%d" % (number % 10) for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        kept = list(pool.map(blobs.put, contents))
    assert [store.read(blobs, blob.sha256) for blob in kept] == contents
    assert (len(_objects(blobs)), _leftovers(blobs)) == (10, [])


def test_a_blob_cannot_be_written_to(blobs: LocalBlobs) -> None:
    """Mode 0400 in folders of 0700: a mistake of ours or of an operator's tool meets a refusal."""
    path = blobs.path(blobs.put(BYTES).sha256)
    taken = blobs.scratch()
    taken.write_bytes(b"adopted")
    for kept in (path, blobs.path(blobs.adopt(taken).sha256)):
        assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    fd = blobs.open(DIGEST)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "digest", ["0" * 64, "", "0" * 63, "0" * 65, DIGEST.upper(), "../" * 21 + "x", "\x00" * 64, "g" * 64, "é" * 64]
)
def test_what_is_not_there_is_not_found(blobs: LocalBlobs, digest: str) -> None:
    """Whatever looks like a path is no digest; nothing outside `objects/` can be named."""
    blobs.put(BYTES)
    for call in (blobs.open, blobs.path):
        with pytest.raises(NotFound):
            call(digest)


def test_removing_forgets_the_bytes_and_can_be_repeated(blobs: LocalBlobs) -> None:
    """Retention may be cut short by a kill and start again."""
    blobs.put(BYTES)
    fd = blobs.open(DIGEST)
    for _ in range(2):
        blobs.remove(DIGEST)
    with pytest.raises(NotFound):
        blobs.open(DIGEST)
    assert os.read(fd, 100) == BYTES, "who has it open reads on"
    os.close(fd)
    assert blobs.put(BYTES).sha256 == DIGEST


def test_what_a_killed_process_left_half_written_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    """The lock on the state directory says that nobody else is at work there; what is kept stays."""
    blobs = LocalBlobs(tmp_path)
    blob = blobs.put(BYTES)
    blobs.scratch().write_bytes(BYTES)
    assert _leftovers(LocalBlobs(tmp_path)) == []
    assert store.read(blobs, blob.sha256) == BYTES


def test_free_space_is_a_percentage(blobs: LocalBlobs) -> None:
    """The intake compares it with its floor."""
    assert 0 < blobs.free_percent() <= 100


@pytest.mark.parametrize("call", ["open", "fsync", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE])
def test_a_disk_that_refuses_is_unavailable_and_leaves_nothing(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """At any step: no name under `objects/`, nothing half in scratch, and no path in the message."""
    scratch = blobs.scratch()
    scratch.write_bytes(BYTES)

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number), "/secret/path")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(Unavailable) as unavailable:
            blobs.put(BYTES)
        if call != "open":  # pathlib opens without os.open
            with pytest.raises(Unavailable):
                blobs.adopt(scratch)
    assert "secret" not in unavailable.value.message
    assert _objects(blobs) == []
    if call != "open":
        assert _leftovers(blobs) == []
    assert blobs.put(BYTES).sha256 == DIGEST, "and the next one is kept"


def test_bytes_are_synced_before_they_have_a_name_and_the_name_before_it_is_answered(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other order loses bytes, or shows half of them, in a power cut. Also when the name was there already."""
    happened: list[str] = []
    fsync, link = os.fsync, os.link

    def noting_fsync(fd: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "bytes")
        fsync(fd)

    def noting_link(source: Path, target: Path) -> None:
        happened.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "link", noting_link)
    blobs.put(BYTES)
    blobs.put(BYTES)
    scratch = blobs.scratch()
    scratch.write_bytes(b"adopted")
    blobs.adopt(scratch)
    assert happened == ["bytes", "name", "folder"] * 3


def test_a_missing_scratch_file_is_unavailable(blobs: LocalBlobs) -> None:
    """A worker that died wrote nothing."""
    with pytest.raises(Unavailable):
        blobs.adopt(blobs.scratch())


def test_a_write_that_hits_a_limit_leaves_nothing(tmp_path: Path) -> None:
    """A real short write: the size of files is limited."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gateway.errors import Unavailable\n"
        "from gateway.store.blobs import LocalBlobs\n"
        "blobs = LocalBlobs(Path(sys.argv[1]))\n"
        "try:\n"
        "    blobs.put(b'x' * 100_000)\n"
        "except Unavailable:\n"
        "    print(blobs.put(b'y' * 1000).size)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, "-B", "-c", script, str(tmp_path / "blobs")]
    ran = subprocess.run(command, preexec_fn=limit, check=True, capture_output=True, text=True)
    assert ran.stdout == "1000\n"
    blobs = LocalBlobs(tmp_path / "blobs")
    assert ([path.stat().st_size for path in _objects(blobs)], _leftovers(blobs)) == ([1000], [])


def test_two_stores_of_one_folder_share_their_bytes(tmp_path: Path) -> None:
    """Commands beside the daemon read what it keeps."""
    one, two = (LocalBlobs(tmp_path / "blobs") for _ in range(2))
    assert store.read(two, one.put(BYTES).sha256) == BYTES
