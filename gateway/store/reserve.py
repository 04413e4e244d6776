"""Space kept in a file for what must go on when the disk is full: receipts, log-ins, the records of reads.

Below the floor of the settings nothing new is taken in and nothing is sealed, but other programs may go on writing.
So when the disk is below its floor and less is left than the file holds, the file goes, and comes back once there is
plenty again. At a start it is looked at before the database is opened: a process that ended for want of space comes
up with it. Failures: none; a file system that gives no space is logged and asked again at the next look.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)
SIZE = 256 * 1024 * 1024  # bytes
FILE = "reserve"


def space_of(directory: Path) -> tuple[int, int]:
    """Bytes in all and bytes free of the file system that a directory lies on."""
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


class Reserve:
    """The file, in the state directory. One thread at a time looks."""

    def __init__(
        self,
        directory: Path,
        floor_percent: float,
        size: int = SIZE,
        space: Callable[[Path], tuple[int, int]] = space_of,
    ) -> None:
        """`size` in bytes; 0 keeps nothing."""
        self._path = directory / FILE
        self._floor = floor_percent / 100
        self._size = size
        self._space = space
        self._is_released = False
        self.is_low = False  # below the floor, as of the last look

    def look(self) -> bool:
        """Take the space or let it go as the disk stands now; whether the disk is below its floor."""
        total, free = self._space(self._path.parent)
        is_held = self._is_held()
        # What was let go is not there to be filled again by what had to stop.
        self.is_low = free - (self._size if self._is_released else 0) < total * self._floor
        if is_held and self.is_low and free < self._size:
            self._path.unlink()
            self._is_released = True
            log.error("reserve.released", free_bytes=free, bytes=self._size)
        elif not is_held and self._size and free - self._size > 2 * max(total * self._floor, self._size):
            self._take()
            self._is_released = False
        return self.is_low

    def _is_held(self) -> bool:
        try:
            return self._path.stat().st_size >= self._size > 0
        except FileNotFoundError:
            return False

    def _take(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._path.unlink()
            log.warning("reserve.not_taken", cause=error.strerror)
        finally:
            os.close(fd)
