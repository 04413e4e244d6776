"""The bytes of entries: opened only when they are whole and have the digest under which they were published.

A file's digest is taken when it is first opened, and again when it has changed on disk since; so what lies damaged in
the store is refused, with an alert, and never served for the original.
"""

import hashlib
import os

import structlog

from ..errors import NotFound, Unavailable
from ..store.blobs import Blobs
from .index import Item

log = structlog.get_logger(__name__)
MAX_KNOWN = 100_000
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
        try:
            fd = self._blobs.open(item.sha256)
        except NotFound:
            log.error("entry.blob_missing", entry=item.id, sha256=item.sha256)
            raise Unavailable("these bytes cannot be read at the moment; try again") from None
        try:
            is_good = self._is_good(fd, item)
        except BaseException:
            os.close(fd)
            raise
        if not is_good:
            os.close(fd)
            log.error("entry.blob_damaged", entry=item.id, sha256=item.sha256)
            raise Unavailable("these bytes cannot be read at the moment; try again")
        return fd

    def _is_good(self, fd: int, item: Item) -> bool:
        changed = os.fstat(fd).st_ctime_ns
        if self._known.get(item.sha256) == changed:
            return True
        with open(fd, "rb", closefd=False) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != item.sha256:
                self._known.pop(item.sha256, None)
                return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[item.sha256] = changed
        return True
