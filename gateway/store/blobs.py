"""Bytes by their SHA-256: written once, replaced only where the disk damaged them, read through a file descriptor.

Written: temporary file, fsync, link under its digest, fsync of the folder. A name under `objects/` therefore
always holds whole, durable bytes. `scratch()` gives worker processes a place on the same file system; `adopt`
takes what they made. Failures: NotFound for unknown digests, Unavailable when the disk refuses.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from .. import clock
from ..errors import NotFound, Unavailable

log = structlog.get_logger(__name__)
_PIECE = 1 << 18  # bytes hashed at a time: most documents at once


@dataclass(frozen=True)
class Blob:
    """Bytes that are kept: their SHA-256 (64 hexadecimal digits) and size in bytes."""

    sha256: str
    size: int


class Blobs(Protocol):
    """What every store of bytes does (LocalBlobs, S3Blobs)."""

    def put(self, content: bytes) -> Blob:
        """Keep bytes; durable when it returns."""

    def adopt(self, path: Path) -> Blob:
        """Keep a scratch file's bytes and remove the file; durable when it returns."""

    def open(self, sha256: str) -> int:
        """A read-only file descriptor, the caller's to close; NotFound."""

    def path(self, sha256: str) -> Path:
        """A local file with these bytes, for worker processes; NotFound."""

    def scratch(self) -> Path:
        """A path that does not exist yet, for a worker to write to."""

    def remove(self, sha256: str) -> None:
        """Forget bytes that the retention rules let go; unknown ones are no error."""

    def free_percent(self) -> float:
        """Free space where the next bytes go."""


class LocalBlobs:
    """Blobs as files: `objects/ab/abcdef…`, mode 0400."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._scratch = directory / "scratch"
        for folder in (directory, self._objects, self._scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(256):  # made once, so that no write has to make and sync a parent
            (self._objects / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
        for folder in (self._objects, directory, directory.parent):
            _sync_folder(folder)
        self._clear_scratch()

    def put(self, content: bytes) -> Blob:
        """See Blobs.put."""
        temporary = self.scratch()
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return self._link(temporary, Blob(hashlib.sha256(content).hexdigest(), len(content)))
        except OSError as error:
            raise Unavailable(f"the store could not keep the bytes ({error.strerror}); try again") from error
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, path: Path) -> Blob:
        """See Blobs.adopt."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                blob = _digest(fd)
                os.fchmod(fd, 0o400)
                os.fsync(fd)
            finally:
                os.close(fd)
            return self._link(path, blob)
        except OSError as error:
            raise Unavailable(f"the store could not keep the bytes ({error.strerror}); try again") from error
        finally:
            path.unlink(missing_ok=True)

    def open(self, sha256: str) -> int:
        """See Blobs.open."""
        try:
            return os.open(f"{self._objects}/{check_digest(sha256)[:2]}/{sha256}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("these bytes are not in the store", sha256=sha256) from None

    def path(self, sha256: str) -> Path:
        """See Blobs.path."""
        path = self._path(sha256)
        if not path.exists():
            raise NotFound("these bytes are not in the store", sha256=sha256)
        return path

    def scratch(self) -> Path:
        """See Blobs.scratch."""
        return self._scratch / clock.new_id("tmp")

    def remove(self, sha256: str) -> None:
        """See Blobs.remove."""
        self._path(sha256).unlink(missing_ok=True)

    def free_percent(self) -> float:
        """See Blobs.free_percent."""
        space = os.statvfs(self._objects)
        return 100.0 * space.f_bavail / max(space.f_blocks, 1)

    def _path(self, sha256: str) -> Path:
        return self._objects / check_digest(sha256)[:2] / sha256

    def _link(self, temporary: Path, blob: Blob) -> Blob:
        final = self._path(blob.sha256)
        try:
            os.link(temporary, final)
        except FileExistsError:
            if not _holds(final, blob):
                log.error("blob.mended", sha256=blob.sha256)
                os.replace(temporary, final)
        # If it was there: maybe by a writer that has not synced the folder yet.
        _sync_folder(final.parent)
        return blob

    def _clear_scratch(self) -> None:
        """What a killed process left half written; nothing that is named in a row ever lies here.

        Whoever opens the store holds the state directory's lock (store/state.py): nobody else is at work in it.
        """
        for leftover in self._scratch.iterdir():
            leftover.unlink(missing_ok=True)


def check_digest(sha256: str) -> str:
    """The digest, when it has the form of one; NotFound otherwise: it becomes part of a path."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise NotFound("these bytes are not in the store", sha256=sha256[:64])
    return sha256


def _holds(path: Path, blob: Blob) -> bool:
    """Whether a file still has the bytes that it was made of; the disk may have damaged them since."""
    try:
        return digest_of(path) == blob
    except OSError:
        return False


def digest_of(path: Path) -> Blob:
    """What a file holds."""
    with path.open("rb") as file:
        return _digest(file.fileno())


def _digest(fd: int) -> Blob:
    """Without a Python file around it, whose every call to the system makes the threads of a busy daemon queue."""
    digest, size = hashlib.sha256(), 0
    while piece := os.read(fd, _PIECE):
        digest.update(piece)
        size += len(piece)
    return Blob(digest.hexdigest(), size)


def read(blobs: Blobs, sha256: str) -> bytes:
    """All the bytes; for documents, which are bounded by the intake's limit."""
    with os.fdopen(blobs.open(sha256), "rb") as file:
        return file.read()


def is_whole(blobs: Blobs, sha256: str) -> bool:
    """Whether the store still has these bytes, as they were kept; Unavailable when it does not answer."""
    return size_of(blobs, sha256) is not None


def size_of(blobs: Blobs, sha256: str) -> int | None:
    """How many bytes the store has under that digest, None when not as they were kept; Unavailable as above."""
    try:
        fd = blobs.open(sha256)
    except NotFound:
        return None
    except Unavailable as error:
        if error.code == "blob_changed":
            return None
        raise
    try:
        found = _digest(fd)
    finally:
        os.close(fd)
    return found.size if found.sha256 == sha256 else None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
