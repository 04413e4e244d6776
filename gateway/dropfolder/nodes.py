"""What a folder shows: nodes, listings given out bit by bit, open files; those of entries remember what was read."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import structlog

from .. import clock
from ..errors import Unavailable
from . import ranges, receipts
from .items import Item

log = structlog.get_logger(__name__)
MOST_UNDER_WAY = 4 * ranges.MAX  # answers of one open file that are remembered one by one


class Node(NamedTuple):
    """A file or folder as a listing shows it."""

    name: str
    is_directory: bool
    size: int  # bytes; 0 for a folder
    mtime: int  # Unix seconds
    sequence: int = 0  # of the entry; 0 for a folder


Place = int | str | None  # in a listing; None: its beginning


class Encoder(NamedTuple):
    """How a protocol sends nodes."""

    encode: Callable[[Iterator[Node]], tuple[int, bytes]]  # the first nodes, as many as a page takes; how many
    edition: int  # what was encoded under another one is encoded anew


class Page(NamedTuple):
    """Some entries as a protocol sends them."""

    content: bytes
    length: int  # how many
    end: Place  # where the next one begins
    sequence: int  # the highest


class Entries(Protocol):
    """What a folder lists beside its folders (snapshots.py)."""

    is_at_hand: bool  # whether it answers at once, from memory

    def nodes(self, start: Place, count: int) -> tuple[list[Node], Place]:
        """Those from a place on, none at the end; and the place behind them."""

    def page(self, start: Place, encoder: Encoder) -> Page | None:
        """As many as a page takes; None at the end."""


class Listing:
    """A folder's content as it was when it was opened, given out bit by bit."""

    def __init__(
        self, nodes: list[Node], entries: Entries | None = None, saw: Callable[[int], None] = lambda _: None
    ) -> None:
        """Nodes that are no entries, then entries. `saw` is told the highest sequence of what was given out."""
        self._nodes = nodes
        self._entries = entries
        self._saw = saw
        self._position: Place = None

    @property
    def is_at_hand(self) -> bool:
        """Whether more of it is given out at once, from memory."""
        return self._entries is None or self._entries.is_at_hand

    def take(self, count: int) -> list[Node]:
        """The next `count` nodes at most; none at the end. Unavailable, where it is not at hand."""
        nodes, self._nodes = self._nodes[:count], self._nodes[count:]
        if self._entries is None or len(nodes) == count:
            return nodes
        entries, self._position = self._entries.nodes(self._position, count - len(nodes))
        if entries:
            self._saw(max(node.sequence for node in entries))
        return nodes + entries

    def pages(self, encoder: Encoder, most: int) -> tuple[int, bytes]:
        """The next nodes as a protocol sends them, up to `most` pages; none at the end. Unavailable as above."""
        if self._nodes:
            count, content = encoder.encode(iter(self._nodes))
            self._nodes = self._nodes[count:]
            return count, content
        contents: list[bytes] = []
        count = 0
        while self._entries is not None and len(contents) < most:
            page = self._entries.page(self._position, encoder)
            if page is None:
                break
            self._position = page.end
            self._saw(page.sequence)
            contents.append(page.content)
            count += page.length
        return count, b"".join(contents)


class File:
    """An open file that is read: what protocols see of it. It stays as it was when it was opened."""

    waits_to_finish = False  # for what must be durable first
    may_be_copied = False  # by the gateway itself: nothing of it then reaches the client

    def __init__(self, name: str, size: int, mtime: int, fd: int) -> None:
        """`size` in bytes: more of `fd` is never given out; `mtime` in Unix seconds. `fd` is its own from now on."""
        self.name = name
        self.size = size
        self.mtime = mtime
        self._fd = fd

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """Up to `size` bytes at `offset`; empty at the end. Unavailable when the disk refuses.

        `before`: how many bytes the connection's stream has before these, for `arrived`.
        """
        if offset >= self.size:
            return b""
        try:
            return os.pread(self._fd, min(size, self.size - offset), offset)
        except OSError as error:
            log.error("file.unreadable", file=self.name, cause=str(error))
            raise Unavailable("these bytes cannot be read at the moment; try again") from error

    def arrived(self, mark: int) -> None:
        """The client has taken the connection's stream up to that byte."""

    def finish(self) -> None:
        """The client closed it."""
        self.release()

    def release(self) -> None:
        """Let go of the bytes."""
        os.close(self._fd)


class Reading(File):
    """An entry's open file: gives out bytes and remembers which, and which of them have arrived."""

    def __init__(self, item: Item, fd: int) -> None:
        super().__init__(item.name, item.size, item.mtime, fd)
        self.item = item
        self.first: int | None = None  # where reading began
        self._arrived: ranges.Ranges = []
        self._under_way: deque[tuple[int, int, int]] = deque()  # (mark, start, end)
        self._given = 0
        self._began = clock.monotonic()

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """See File.read."""
        if offset >= self.size:
            return b""
        try:
            data = os.pread(self._fd, min(size, self.size - offset), offset)
        except OSError as error:
            log.error("entry.unreadable", entry=self.item.id, sha256=self.item.sha256, cause=str(error))
            raise Unavailable("these bytes cannot be read at the moment; try again") from error
        if data:
            self._given += len(data)
            if self.first is None:
                self.first = offset
            self._under_way.append((before + len(data), offset, offset + len(data)))
            if len(self._under_way) > MOST_UNDER_WAY:
                self._merge_oldest()
        return data

    def _merge_oldest(self) -> None:
        """A client with an endless window never says what it took: of many small answers it costs no memory.

        They count as arrived together, when the last of them has.
        """
        oldest = [self._under_way.popleft() for _ in range(MOST_UNDER_WAY - ranges.MAX)]
        mark = oldest[-1][0]
        merged = ranges.union((start, end) for _, start, end in oldest)
        self._under_way.extendleft((mark, start, end) for start, end in reversed(merged))

    def arrived(self, mark: int) -> None:
        """See File.arrived."""
        while self._under_way and self._under_way[0][0] <= mark:
            _, start, end = self._under_way.popleft()
            ranges.add(self._arrived, start, end)

    @property
    def under_way(self) -> int:
        """Answers of which it is not known whether they arrived."""
        return len(self._under_way)

    def outcome(self, who: dict[str, Any], *, is_clean: bool) -> receipts.Read:
        """What arrived. Of a clean close all of it did; what a lost connection had under way is doubtful.

        `who`: the session, as records name it.
        """
        under_way = [(start, end) for _, start, end in self._under_way]
        sure = ranges.union(self._arrived, under_way) if is_clean else self._arrived
        doubtful = [] if is_clean else under_way[: ranges.MAX]  # of more a client only claims less
        duration = round((clock.monotonic() - self._began) * 1000)
        return receipts.Read(self.item, sure, doubtful, is_clean, duration, self._given, who)
