"""The bytes of entries, and of the lists beside them: opened only when they are whole and have the digest
that they were kept under.

A file's digest is taken when it is first opened, and again when it has changed on disk since; so what lies damaged in
the store is refused, with an alert, and never served for the original.
"""

import hashlib
import os

import structlog

from ..errors import NotFound, Unavailable
from ..store.blobs import Blobs
from .items import Item

log = structlog.get_logger(__name__)
MAX_KNOWN = 100_000
NOT_NOW = "these bytes cannot be read at the moment; try again"
AT_ONCE = 256 * 1024  # bytes whose digest takes no longer than the loop may be held


class Content:
    """Opens the bytes of entries. Any thread may."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: dict[str, int] = {}  # SHA-256 -> ctime (ns) of the file that has it

    def is_at_hand(self, item: Item) -> bool:
        """Whether opening it takes no time: its digest is known, or soon taken."""
        return item.size <= AT_ONCE or item.sha256 in self._known

    def open(self, item: Item) -> int:
        """A file descriptor, the caller's to close; Unavailable when the bytes are missing or damaged."""
        return self.open_blob(item.sha256, "entry", entry=item.id)

    def open_blob(self, sha256: str, kind: str, **facts: str) -> int:
        """The same for any bytes of the store; `kind` and `facts` say in the alert what they are."""
        try:
            fd = self._blobs.open(sha256)
        except NotFound:
            _alert(f"{kind}.blob_missing", sha256=sha256, **facts)
            raise Unavailable(NOT_NOW) from None
        except Unavailable as error:
            if error.code == "blob_changed":
                _alert(f"{kind}.blob_damaged", sha256=sha256, **facts)
            raise
        try:
            is_good = self._is_good(fd, sha256)
        except BaseException:
            os.close(fd)
            raise
        if not is_good:
            os.close(fd)
            _alert(f"{kind}.blob_damaged", sha256=sha256, **facts)
            raise Unavailable(NOT_NOW)
        return fd

    def _is_good(self, fd: int, sha256: str) -> bool:
        status = os.fstat(fd)
        changed = status.st_ctime_ns
        if self._known.get(sha256) == changed:
            return True
        if _digest(fd, status.st_size) != sha256:
            self._known.pop(sha256, None)
            return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[sha256] = changed
        return True


def _digest(fd: int, size: int) -> str:
    """The SHA-256 of a file, which is read at once where it is small."""
    if size <= AT_ONCE:
        return hashlib.sha256(os.pread(fd, size + 1, 0)).hexdigest()
    with open(fd, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _alert(event: str, **facts: str) -> None:
    log.error(event, **facts)
