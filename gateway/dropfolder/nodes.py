"""What a folder shows: nodes, listings given out bit by bit, open files that remember what was read of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from .. import clock
from ..errors import Unavailable
from . import paths, ranges, receipts
from .index import Item

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Node:
    """A file or folder as a listing shows it."""

    name: str
    is_directory: bool
    size: int  # bytes; 0 for a folder
    mtime: int  # Unix seconds
    sequence: int = 0  # of the entry; 0 for a folder


class Listing:
    """A folder's content as it was when it was opened, given out bit by bit."""

    def __init__(
        self, directories: list[Node], items: list[Item], saw: Callable[[int], None], *, archived: bool = False
    ) -> None:
        """`saw` is told the highest sequence of what was given out; in the archive an entry has its own name."""
        self._directories = directories
        self._items = items
        self._saw = saw
        self._archived = archived
        self._position = 0

    def take(self, count: int) -> list[Node]:
        """The next `count` nodes at most; none at the end."""
        nodes, self._directories = self._directories[:count], self._directories[count:]
        items = self._items[self._position : self._position + count - len(nodes)]
        self._position += len(items)
        if items:
            self._saw(max(item.sequence for item in items))
        return nodes + [file_node(item, item.name if self._archived else paths.split(item.place)[1]) for item in items]


def file_node(item: Item, name: str) -> Node:
    """An entry under the name that it has where it is looked at."""
    return Node(name, False, item.size, item.mtime, item.sequence)


class Reading:
    """An open file: gives out bytes and remembers which."""

    def __init__(self, item: Item, fd: int) -> None:
        self.item = item
        self.ranges: ranges.Ranges = []
        self._fd = fd
        self._last = (0, 0)
        self._given = 0
        self._began = clock.monotonic()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`; empty at the end. Unavailable when the disk refuses."""
        try:
            data = os.pread(self._fd, size, min(offset, self.item.size))
        except OSError as error:
            log.error("entry.unreadable", entry=self.item.id, sha256=self.item.sha256, cause=str(error))
            raise Unavailable("these bytes cannot be read at the moment; try again") from error
        if data:
            self._given += len(data)
            self._last = (offset, offset + len(data))
            ranges.add(self.ranges, *self._last)
        return data

    def outcome(self, *, is_clean: bool) -> receipts.Read:
        """What was given out. What a lost connection had under way does not count: did it arrive?"""
        sure = self.ranges if is_clean else ranges.without(self.ranges, *self._last)
        duration = round((clock.monotonic() - self._began) * 1000)
        return receipts.Read(self.item, sure, is_clean, duration, self._given)

    def forget(self) -> None:
        """Nothing is known of what arrived: FTP has no word for it, and a connection that was cut tells too little."""
        self.ranges = []

    def release(self) -> None:
        """Let go of the bytes."""
        os.close(self._fd)
