"""A file that a client is writing: bytes at any place and in any order, until it is whole and explicitly closed.

What is written lies in a scratch file. `finish` is the only way out of it: every byte from the first to the last must
have been written, then the area that it goes to keeps it, durably. Whatever else ends an upload (a lost connection, an
end of the channel, a write that failed) discards it: half a file is no file. A daemon that is killed leaves scratch
files only, which go when it starts.

Failures: Refused for what breaks a rule (a hole, a limit), Unavailable when the disk refuses or is nearly full. An
upload of which a write failed cannot be finished any more.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from .. import clock
from ..errors import GatewayError, Refused, TooLarge, Unavailable
from . import paths, ranges
from .nodes import File, Node
from .ranges import Ranges

log = structlog.get_logger(__name__)
_PIECE = 1 << 18  # bytes copied at once
RESUMED = "an upload cannot be resumed here: send the file again from its beginning"


@dataclass
class _Account:
    uploads: int = 0  # that are open
    written: int = 0  # bytes, by them
    kept: int = 0  # bytes, as the last one to begin found them


class Quota:
    """Bytes that each owner keeps and is writing, by all its sessions with this process. Any thread."""

    def __init__(self, limit: int, require_space: Callable[[], None]) -> None:
        """`limit` in bytes an owner. `require_space` raises Unavailable while the disk is below its floor."""
        self.limit = limit
        self._require_space = require_space
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()

    def begin(self, owner: str, kept: int) -> None:
        """An upload begins; `kept` bytes are the owner's already."""
        self._require_space()
        with self._lock:
            account = self._accounts.setdefault(owner, _Account())
            account.uploads += 1
            account.kept = kept

    def take(self, owner: str, count: int) -> None:
        """An open upload grows. Refused (`quota`): over the limit; Unavailable: the disk is nearly full."""
        self._require_space()
        with self._lock:
            account = self._accounts[owner]
            if account.kept + account.written + count > self.limit:
                raise Refused(f"this area holds {self.limit / 1_000_000:g} MB at most: remove files", code="quota")
            account.written += count

    def end(self, owner: str, count: int, kept: int) -> None:
        """An upload of `count` bytes is over; `kept` of them stay."""
        with self._lock:
            account = self._accounts[owner]
            account.uploads -= 1
            account.written -= count
            account.kept += kept
            if not account.uploads:  # the next one brings its own figure
                del self._accounts[owner]

    def left(self, owner: str, kept: int) -> int:
        """Bytes that an owner who keeps so many can still write."""
        with self._lock:
            written = self._accounts[owner].written if owner in self._accounts else 0
        return max(0, self.limit - kept - written)


class Upload(File):
    """One open file. One thread at a time."""

    waits_to_finish = True

    def __init__(
        self,
        path: str,
        scratch: Path,
        quota: Quota,
        owner: str,
        kept: int,
        keep: Callable[["Upload"], None],
        *,
        head: bytes = b"",
        most: int | None = None,
        replaces: bool = False,
        left: Callable[["Upload"], None] = lambda _: None,
    ) -> None:
        """`kept`: bytes that the owner has already. `head` comes before the file's own, of which there are `most`.

        `keep` takes the scratch file of a whole upload over. `replaces`: there is a file of that name, which a client
        that goes on at its end believes to be writing. `left` is told when it is over.
        """
        self.path = path
        self.scratch = scratch
        self._head = len(head)
        self._quota = quota
        self._owner = owner
        self._keep = keep
        self._most = most
        self._replaces = replaces
        self._left = left
        self._taken = 0  # of the quota
        self._written: Ranges = []
        self._failure: GatewayError | None = None
        self._is_over = False
        quota.begin(owner, kept)
        try:
            fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            quota.end(owner, 0, 0)
            raise _no_room(error) from error
        super().__init__(paths.split(path)[1], 0, int(clock.now().timestamp()), fd)
        try:
            self._write(0, head)
        except GatewayError:
            self._end(0)
            raise

    def write(self, offset: int, data: bytes) -> None:
        """Bytes at a place. Refused: over a limit, or this would resume what is not there."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._replaces and offset and not self._written:
                raise Refused(RESUMED, code="resume")
            self._grow(offset + len(data))
            self._write(self._head + offset, data)
        except GatewayError as error:
            self._failure = error
            raise
        ranges.add(self._written, offset, offset + len(data))
        self.size = max(self.size, offset + len(data))

    def copy(self, source: File, offset: int, length: int, place: int) -> None:
        """So many bytes of another file, 0: all from `offset` on. Refused: it has fewer; else errors as of `write`."""
        end = offset + length if length else source.size
        while offset < end and (piece := source.read(offset, min(_PIECE, end - offset))):
            self.write(place, piece)
            offset, place = offset + len(piece), place + len(piece)
        if length and offset < end:
            raise Refused("the file ends before that")

    def _grow(self, size: int) -> None:
        if self._most is not None and size > self._most:
            raise TooLarge(f"a file has at most {self._most / 1_000_000:g} MB here")
        if size > self._taken:
            self._quota.take(self._owner, size - self._taken)
            self._taken = size

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise _no_room(error) from error

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """What was written there; empty at the end."""
        return os.pread(self._fd, max(0, min(size, self.size - offset)), self._head + min(offset, self.size))

    @property
    def node(self) -> Node:
        """As the session that writes it sees it."""
        return Node(self.name, False, self.size, self.mtime)

    def set_size(self, size: int) -> None:
        """Cut, or announce so many bytes: what is missing of them must still come."""
        try:
            self._grow(size)
        except GatewayError as error:
            self._failure = error
            raise
        self._written = ranges.without(self._written, size, max(size, self.size))
        self.size = size

    def sync(self) -> None:
        """The scratch file's bytes are on the disk when this returns; OSError."""
        os.fsync(self._fd)

    def finish(self) -> None:
        """The client closed it: keep it, if it is whole; durable when this returns. Over in any case."""
        try:
            if self._failure is not None:
                raise self._failure
            if self.size and not ranges.covers(self._written, self.size):
                raise Refused("the file has holes: parts of it were never written", code="hole")
            self._cut()
            self._keep(self)
        except GatewayError as error:
            log.warning("upload.refused", path=self.path, bytes=self.size, code=error.code)
            self._end(0)
            raise
        except BaseException:
            self._end(0)
            raise
        self._end(self.size)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._head + self.size)
        except OSError as error:
            raise _no_room(error) from error

    def release(self) -> None:
        """It was never closed: nothing of it counts."""
        if not self._is_over:
            log.info("upload.discarded", path=self.path, bytes=self.size)
            self._end(0)

    def _end(self, kept: int) -> None:
        if self._is_over:
            return
        self._is_over = True
        os.close(self._fd)
        self.scratch.unlink(missing_ok=True)
        self._quota.end(self._owner, self._taken, kept)
        self._left(self)


def _no_room(error: OSError) -> Unavailable:
    return Unavailable(f"the gateway could not keep the bytes ({error.strerror}); try again later", code="disk")
