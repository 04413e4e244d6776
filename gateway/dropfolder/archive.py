"""The months of one folder's archive, read when they are listed and kept while there is room.

A past month changes only when something in it is withdrawn: the index says which months its looks found touched. A
month that is too large to be kept is read page by page.
"""

import threading
import weakref
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ..domain import names
from ..store.database import Database, Transaction
from .history import HISTORY
from .items import ENTRY, Item, history_in, items_where
from .memory import Memory
from .nodes import Node
from .snapshots import NODE, OLD_NODE, Snapshot, Stream

SPACIOUS = 20_000  # files of a month that are kept
_ROW_BYTES = 350  # of a month's entry, beside its name


class _Month:
    """One that is kept."""

    is_read_at_once = True

    def __init__(self, archive: "Archive", month: str, rows: list[Node], last_mtime: int) -> None:
        self._archive = archive
        self._month = month
        self._last_mtime = last_mtime
        shown = [row for row in rows if row.mtime < last_mtime or not row.sequence]  # history is over
        self._is_whole = len(shown) == len(rows)
        self._row_bytes = sum(_ROW_BYTES + len(row.name) for row in shown)
        this = weakref.ref(self)  # no circle: what is forgotten is freed at once

        def grown() -> None:
            if (month := this()) is not None:
                month.hold()

        self.snapshot = Snapshot(shown, grown)

    def is_valid(self, last_mtime: int) -> bool:
        """Whether it shows all that is visible by now."""
        return self._is_whole or self._last_mtime == last_mtime

    def hold(self) -> None:
        """It is in use."""
        if self._archive.has(self._month, self):
            self._archive.memory.hold(self, self._row_bytes + self.snapshot.bytes)

    def forget(self) -> None:
        """See memory.Holder."""
        self._archive.forget(self._month, self)


class Archive:
    """Any thread may ask."""

    def __init__(self, db: Database, folder_id: str, memory: Memory) -> None:
        self.memory = memory
        self._db = db
        self._folder_id = folder_id
        self._lock = threading.Lock()
        self._months: dict[str, _Month] = {}
        self._touches = 0

    def entries(self, month: str, last_mtime: int, *, has_history: bool) -> Snapshot | Stream:
        """The history of a month, and what was published, is not withdrawn and has an mtime below `last_mtime`.

        Everybody who asks shares one list until the month is touched: it is large, and handles are many.
        """
        with self._lock:
            kept, touches = self._months.get(month), self._touches
        if kept is None or not kept.is_valid(last_mtime):
            rows = self._db.read(lambda tx: self._read(tx, month, has_history=has_history))
            if len(rows) > SPACIOUS:
                visible = (*self._entries_of(month), ENTRY.c.mtime < last_mtime)
                return Stream(self._db, visible, self._history_of(month) if has_history else None)
            kept = _Month(self, month, rows, last_mtime)
            with self._lock:
                if self._touches == touches:
                    self._months[month] = kept
        kept.hold()
        return kept.snapshot

    def named(self, month: str, last_mtime: int, name: str, *, has_history: bool) -> list[Item]:
        """Of the same what has that name in some case."""
        that = (*self._entries_of(month), ENTRY.c.mtime < last_mtime, ENTRY.c.name_folded == names.fold(name))

        def look(tx: Transaction) -> list[Item]:
            brought = history_in(tx, self._folder_id, month, name) if has_history else []
            return brought + items_where(tx, self._folder_id, *that)

        return self._db.read(look)

    def _entries_of(self, month: str) -> tuple[Any, ...]:
        return ENTRY.c.folder_id == self._folder_id, ENTRY.c.month == month, ENTRY.c.withdrawn_at.is_(None)

    def _history_of(self, month: str) -> tuple[Any, ...]:
        return HISTORY.c.folder_id == self._folder_id, HISTORY.c.month == month

    def _read(self, tx: Transaction, month: str, *, has_history: bool) -> list[Node]:
        """Up to one more than are kept."""
        entries = sa.select(*NODE).where(*self._entries_of(month)).order_by(ENTRY.c.sequence)
        history = sa.select(*OLD_NODE).where(*self._history_of(month)).order_by(HISTORY.c.mtime, HISTORY.c.name)
        rows: list[Node] = []
        for query in (history, entries) if has_history else (entries,):
            rows += map(Node._make, tx.execute(query.limit(SPACIOUS + 1 - len(rows))))
        return rows

    def touched(self, months: Iterable[str]) -> None:
        """Something was published or withdrawn in these."""
        with self._lock:
            self._touches += 1
            gone = [kept for month in months if (kept := self._months.pop(month, None)) is not None]
        for kept in gone:
            self.memory.release(kept)

    def has(self, month: str, kept: _Month) -> bool:
        """Whether that is what is kept of it."""
        return self._months.get(month) is kept

    def forget(self, month: str, kept: _Month) -> None:
        """Keep it no longer."""
        with self._lock:
            if self._months.get(month) is kept:
                del self._months[month]
