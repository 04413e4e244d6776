"""What a folder lists at one moment, for everybody who lists it: entries, and the pages that a protocol made of them.

A Snapshot is in memory and its pages are made once: a second listing sends bytes that are there. A Stream is a month
of the archive that is too large for that; each page is read when it is asked for, and nothing is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ..domain import names
from ..store.database import Database
from . import paths
from .history import HISTORY
from .items import ENTRY, Item
from .nodes import Encoder, Node, Page, Place

AT_A_TIME = 200  # nodes of a stream that are read at once: more than a page holds
_FILE = sa.literal(value=False)
NODE = (ENTRY.c.name, _FILE, ENTRY.c.size, ENTRY.c.mtime, ENTRY.c.sequence)
OLD_NODE = (HISTORY.c.name, _FILE, HISTORY.c.size, HISTORY.c.mtime, sa.literal(0))


def node_of(item: Item) -> Node:
    """An entry under the name that it has outside the archive."""
    _, name, elsewhere, _, size, mtime, sequence, _, _, _, _, _ = item
    return Node(name if elsewhere is None else paths.split(elsewhere)[1], False, size, mtime, sequence)


class Snapshot:
    """Entries in the order in which they are listed. Any thread may ask."""

    is_at_hand = True

    def __init__(self, rows: Sequence[Item] | Sequence[Node], grown: Callable[[], None] = lambda: None) -> None:
        """`grown` is called when pages were made: they are what a snapshot mostly costs."""
        self.rows = rows
        self.bytes = 0  # of its pages
        self._grown = grown
        self._edition = 0
        self._pages: dict[int, Page] = {}

    def nodes(self, start: Place, count: int) -> tuple[list[Node], int]:
        """Those from a place on, and the place behind them."""
        first = _index(start)
        return list(self._nodes(first, first + count)), first + count

    def _nodes(self, start: int, end: int) -> Iterator[Node]:
        rows = self.rows[start:end]
        return map(node_of, rows) if rows and isinstance(rows[0], Item) else iter(rows)  # type: ignore[arg-type]

    def page(self, start: Place, encoder: Encoder) -> Page | None:
        """The page that begins there; None at the end."""
        first = _index(start)
        if first >= len(self.rows):
            return None
        if self._edition != encoder.edition:
            self._edition, self._pages, self.bytes = encoder.edition, {}, 0
        page = self._pages.get(first)
        if page is None:
            count, content = encoder.encode(self._nodes(first, first + AT_A_TIME))
            page = Page(content, count, first + count, max(row.sequence for row in self.rows[first : first + count]))
            self._pages[first] = page
            self.bytes += len(content)
            self._grown()
        return page


def _index(place: Place) -> int:
    return place if isinstance(place, int) else 0


class Stream:
    """The files of a large month, page by page from the database: its history by name, then entries by sequence.

    What is withdrawn meanwhile is not shown any more. A place in it is the name, or the sequence, of the one before.
    """

    is_at_hand = False

    def __init__(self, db: Database, entries: Sequence[Any], history: Sequence[Any] | None) -> None:
        """The conditions for each; no history: None."""
        self._db = db
        self._entries = sa.select(*NODE).where(*entries).order_by(ENTRY.c.sequence)
        self._history = None
        if history is not None:
            self._history = sa.select(*OLD_NODE).where(*history).order_by(HISTORY.c.name_folded)

    def nodes(self, start: Place, count: int) -> tuple[list[Node], Place]:
        """Those after a place, and the place behind them. Unavailable: the database is away."""
        if self._history is not None and not isinstance(start, int):
            nodes = self._read(self._history.where(HISTORY.c.name_folded > (start or "")), count)
            if nodes:
                return nodes, self._place_of(nodes[-1])
        after = start if isinstance(start, int) else 0
        nodes = self._read(self._entries.where(ENTRY.c.sequence > after), count)
        return nodes, self._place_of(nodes[-1]) if nodes else after

    def _read(self, query: Any, count: int) -> list[Node]:
        return self._db.read(lambda tx: list(map(Node._make, tx.execute(query.limit(count)))))

    @staticmethod
    def _place_of(node: Node) -> Place:
        return node.sequence or names.fold(node.name)

    def page(self, start: Place, encoder: Encoder) -> Page | None:
        """See Snapshot.page. Unavailable as above."""
        nodes, _ = self.nodes(start, AT_A_TIME)
        if not nodes:
            return None
        count, content = encoder.encode(iter(nodes))
        return Page(content, count, self._place_of(nodes[count - 1]), nodes[count - 1].sequence)
