"""What one folder holds now, in memory: the answer to nearly every request without the database.

The index is compared with the folder's `version` at most once a second and loads only what is newer: published and
withdrawn entries by the folder's sequence, what clients did by `Entry.changed`. The archive is not in it, but for
its months.

Which entries may be listed: those whose mtime is below `Folder.last_mtime`, since everything that is published
later gets at least that mtime. For the newest ones this becomes true in `_settle`: once their second is over, the
first look at the folder raises `last_mtime` by one, in a write that waits for any publication under way. That
holds whatever the clocks do, however long a commit takes, and for every gateway on the same database.

Failures: Unavailable when the database is away and what is known is older than a minute.
"""

import datetime as dt
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import sqlalchemy as sa
import structlog

from .. import clock
from ..domain import names
from ..domain.folders import ReceiptMode
from ..domain.path_map import PathMap
from ..domain.tables import metadata
from ..errors import Unavailable
from ..store import database
from ..store.database import Database, Transaction
from . import history, paths
from .ranges import Ranges

log = structlog.get_logger(__name__)

FRESH_SECONDS = 1.0
STALE_SECONDS = 60.0
MOST_DOUBTFUL = 10_000
ENTRY = metadata.tables["folder_entry"]
FOLDER = metadata.tables["folder"]
EVENT = metadata.tables["folder_event"]
DIRECTORY = metadata.tables["folder_directory"]
_COLUMNS = [
    ENTRY.c[name]
    for name in (
        "id",
        "document_id",
        "area",
        "directory",
        "name",
        "path",
        "sha256",
        "size",
        "mtime",
        "month",
        "sequence",
        "changed",
        "listed",
        "received_at",
        "removed_at",
        "withdrawn_at",
    )
]


@dataclass(frozen=True, slots=True)
class Item:
    """An entry as clients see it."""

    id: str
    document_id: str
    name: str
    place: str  # its path outside the archive
    sha256: str
    size: int  # bytes
    mtime: int  # Unix seconds
    month: str  # YYYY-MM
    sequence: int
    changed: int
    listed: bool
    is_gone: bool  # removed or withdrawn
    is_moved: bool  # by a client
    received_at: dt.datetime | None

    @property
    def is_history(self) -> bool:
        """Brought along from the server before: no entry, and none of the folder's numbers, which begin with 1."""
        return self.sequence == 0


def own_place(row: Any) -> str:
    """Where an entry was published; a client may have moved it."""
    return paths.join(paths.join(f"/{row.area}", row.directory) if row.directory else f"/{row.area}", row.name)


def item_of(row: Any) -> Item:
    """From a row with the columns of `items_where`."""
    return Item(
        id=row.id,
        document_id=row.document_id,
        name=row.name,
        place=row.path or own_place(row),
        sha256=row.sha256,
        size=row.size,
        mtime=row.mtime,
        month=row.month,
        sequence=row.sequence,
        changed=row.changed,
        listed=row.listed,
        is_gone=row.removed_at is not None or row.withdrawn_at is not None,
        is_moved=row.path is not None,
        received_at=row.received_at,
    )


def items_where(tx: Transaction, folder_id: str, *conditions: Any) -> list[Item]:
    """Entries of a folder, in the order of their sequence."""
    query = sa.select(*_COLUMNS).where(ENTRY.c.folder_id == folder_id, *conditions).order_by(ENTRY.c.sequence)
    return [item_of(row) for row in tx.execute(query)]


def history_in(tx: Transaction, folder_id: str, month: str, name: str | None = None) -> list[Item]:
    """What a month of the archive has of the server before; see history.in_month."""
    return [
        Item(row.id, "", row.name, "", row.sha256, row.size, row.mtime, row.month, 0, 0, False, False, False, None)
        for row in history.in_month(tx, folder_id, month, name)
    ]


class Month(list[Item]):
    """The entries of one month of the archive; a list that is forgotten when nobody holds it."""


@dataclass(frozen=True)
class _News:
    """What one look at the database brought."""

    version: int
    last_mtime: int
    last_sequence: int
    receipt_mode: ReceiptMode
    linger: dt.timedelta
    path_map: PathMap
    now: dt.datetime
    items: list[Item]
    directories: dict[str, int] | None  # path -> Unix seconds; None: as before
    months: dict[str, int] | None  # YYYY-MM -> least mtime in it; None: as before
    imports: int
    history: frozenset[str] | None  # months of which there is history; None: as before


class Index:
    """One folder's entries by place. Any thread may ask; `refresh` waits for the database."""

    def __init__(self, db: Database, folder_id: str, linger: dt.timedelta) -> None:
        """`linger`: where the folder has no rule of its own."""
        self.folder_id = folder_id
        self.last_mtime = 0  # entries below it are visible
        self.path_map = PathMap(())
        self.receipt_mode = ReceiptMode.FULL_READ  # until it is known: the one in which reading alone is a receipt
        self._db = db
        self._usual_linger = self._linger = linger
        self._version = -1
        self._last_sequence = 0
        self._newest = 0
        self._checked = self._loaded = float("-inf")
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # held for microseconds: the event loop takes it too
        self._items: dict[str, Item] = {}
        self._unlisted: dict[str, Item] = {}
        self._places: dict[str, dict[str, Item]] = {}
        self._directories: dict[str, int] = {}
        self._months: dict[str, int] = {}
        self._imports = -1
        self._history: frozenset[str] = frozenset()
        self._pins: Counter[str] = Counter()
        self._doubtful: dict[str, Ranges] = {}  # by entry, of its last read that a lost connection ended
        self._archive: WeakValueDictionary[tuple[str, int, int, int], Month] = WeakValueDictionary()

    # -- freshness

    @property
    def is_fresh(self) -> bool:
        """Whether what is known is at most a second old, or the database did not answer a second ago."""
        return clock.monotonic() - self._checked < FRESH_SECONDS

    @property
    def is_stale(self) -> bool:
        """Whether the database did not answer when it was last asked."""
        return self._loaded < self._checked

    def refresh(self) -> None:
        """Compare with the database unless that was just done. Unavailable: it is away, for more than a minute."""
        with self._loading:
            if self.is_fresh:
                return
            began = clock.monotonic()
            try:
                self._look()
                self._loaded = began
            except Unavailable:
                if began - self._loaded > STALE_SECONDS:
                    raise
                log.warning("folder.stale", folder=self.folder_id, seconds=round(began - self._loaded, 1))
            self._checked = began  # only now: until here, nobody may take what is known for the whole

    def expire(self) -> None:
        """The next question looks first: something is known to have changed."""
        self._checked = float("-inf")

    def _look(self) -> None:
        news = self._db.read(self._read)
        self._take(news)
        if self._newest >= news.last_mtime and int(news.now.timestamp()) > news.last_mtime:
            self._db.write(self._settle)
            self._take(self._db.read(self._read))

    def _read(self, tx: Transaction) -> _News:
        folder = tx.execute(
            sa.select(
                FOLDER.c.version,
                FOLDER.c.last_mtime,
                FOLDER.c.last_sequence,
                FOLDER.c.receipt_mode,
                FOLDER.c.linger_minutes,
                FOLDER.c.path_map,
                FOLDER.c.imports,
            ).where(FOLDER.c.id == self.folder_id)
        ).one()
        now = database.now(tx)
        minutes = folder.linger_minutes
        linger = self._usual_linger if minutes is None else dt.timedelta(minutes=minutes)
        items: list[Item] = []
        directories = months = None
        if self._version < 0:
            items = items_where(tx, self.folder_id, self._is_at_hand(now - linger))
        elif (folder.version, folder.last_sequence) != (self._version, self._last_sequence):
            items = self._newer(tx)
        if folder.version != self._version:
            directories = self._read_directories(tx)
        if self._version < 0 or any(item.is_gone or item.month not in self._months for item in items):
            months = self._read_months(tx)
        version, last_mtime, last_sequence = folder.version, folder.last_mtime, folder.last_sequence
        path_map = PathMap(folder.path_map or ())
        brought = history.months(tx, self.folder_id) if folder.imports != self._imports else None
        rules = folder.receipt_mode, linger, path_map
        news = (version, last_mtime, last_sequence, *rules, now, items, directories, months)
        return _News(*news, folder.imports, brought)

    @staticmethod
    def _is_at_hand(received_after: dt.datetime) -> Any:
        lingers = sa.and_(
            ENTRY.c.received_at > received_after, ENTRY.c.removed_at.is_(None), ENTRY.c.withdrawn_at.is_(None)
        )
        return sa.or_(ENTRY.c.listed, lingers)

    def _newer(self, tx: Transaction) -> list[Item]:
        by_event = sa.select(EVENT.c.entry_id).where(
            EVENT.c.folder_id == self.folder_id, EVENT.c.sequence > self._last_sequence
        )
        items = items_where(tx, self.folder_id, ENTRY.c.changed > self._version)
        return items + items_where(tx, self.folder_id, ENTRY.c.id.in_(by_event))

    def _read_directories(self, tx: Transaction) -> dict[str, int]:
        query = sa.select(DIRECTORY.c.path, DIRECTORY.c.created_at).where(DIRECTORY.c.folder_id == self.folder_id)
        return {row.path: int(row.created_at.timestamp()) for row in tx.execute(query)}

    def _read_months(self, tx: Transaction) -> dict[str, int]:
        # One step along the index for each month: DISTINCT would walk over every entry of six years.
        months: dict[str, int] = {}
        query = (
            sa.select(ENTRY.c.month, ENTRY.c.mtime)
            .where(
                ENTRY.c.folder_id == self.folder_id,
                ENTRY.c.month > sa.bindparam("after"),
                ENTRY.c.withdrawn_at.is_(None),
            )
            .order_by(ENTRY.c.month, ENTRY.c.sequence)
            .limit(1)
        )
        while row := tx.execute(query, {"after": max(months, default="")}).first():
            months[row.month] = row.mtime
        return months

    def _settle(self, tx: Transaction) -> None:
        """The second of `last_mtime` is over: nothing more is published in it. No effect if another was faster."""
        now = int(database.now(tx).timestamp())
        tx.execute(
            sa.update(FOLDER)
            .where(FOLDER.c.id == self.folder_id, FOLDER.c.last_mtime == self._newest, FOLDER.c.last_mtime < now)
            .values(last_mtime=FOLDER.c.last_mtime + 1)
        )

    def _take(self, news: _News) -> None:
        with self._lock:
            if self._version < 0:
                self._newest = news.last_mtime  # a first look does not read whatever was published last
            for item in news.items:
                self._put(item)
            if news.directories is not None:
                self._directories = news.directories
            if news.months is not None:
                self._months = news.months
            if news.history is not None:
                self._history = news.history
            self._imports = news.imports
            self._version, self._last_sequence = news.version, news.last_sequence
            self.last_mtime, self._linger = news.last_mtime, news.linger
            self.path_map, self.receipt_mode = news.path_map, news.receipt_mode
            self._evict(news.now)

    def apply(self, items: Iterable[Item]) -> None:
        """What this process has just committed, before the next look at the database would show it."""
        with self._lock:
            for item in items:
                self._put(item)

    def _put(self, item: Item) -> None:
        known = self._items.get(item.id)
        if known is not None:
            if item.changed < known.changed or item.sequence < known.sequence:
                return  # read before what is known was committed
            self._displace(known)
        self._items[item.id] = item
        self._newest = max(self._newest, item.mtime)
        self._unlisted.pop(item.id, None)
        if not item.listed:
            self._unlisted[item.id] = item
        if not item.is_gone and (item.listed or item.received_at is not None):
            self._replace_at_its_place(item)

    def _displace(self, item: Item) -> None:
        parent, name = paths.split(item.place)
        names = self._places.get(parent, {})
        if names.get(name) is item:
            del names[name]
            if not names:
                del self._places[parent]

    def _replace_at_its_place(self, item: Item) -> None:
        parent, name = paths.split(item.place)
        names = self._places.setdefault(parent, {})
        if item.listed or name not in names or not names[name].listed:
            names[name] = item

    def _evict(self, now: dt.datetime) -> None:
        """Forget what is neither listed nor lingering, once the database is known to say so."""
        for item in list(self._unlisted.values()):
            if item.changed <= self._version and not self._lingers(item, now) and not self._pins[item.id]:
                del self._unlisted[item.id], self._items[item.id]
                self._displace(item)

    def _lingers(self, item: Item, now: dt.datetime) -> bool:
        return not item.is_gone and item.received_at is not None and item.received_at + self._linger > now

    def doubt(self, entry_id: str, doubtful: Ranges) -> None:
        """These bytes were given out, and the connection went before it was known whether they arrived."""
        with self._lock:
            if len(self._doubtful) >= MOST_DOUBTFUL:
                self._doubtful.clear()  # their receipts come late, at the next whole read
            self._doubtful[entry_id] = doubtful

    def doubtful(self, entry_id: str) -> Ranges:
        """See `doubt`."""
        with self._lock:
            return self._doubtful.get(entry_id, [])

    # -- questions

    def pin(self, item: Item) -> None:
        """A session has opened it: it stays known until `unpin`, lingering or not."""
        with self._lock:
            self._pins[item.id] += 1

    def unpin(self, ids: Iterable[str]) -> None:
        """The session ended."""
        with self._lock:
            self._pins.subtract(ids)
            self._pins += Counter()  # drops what is zero

    def now(self, item: Item) -> Item:
        """What is known of an entry by now."""
        with self._lock:
            return self._items.get(item.id, item)

    def find(self, path: str, opened: Collection[str] = ()) -> Item | None:
        """The entry at a place outside the archive; `opened`: ids that the session asking has opened before."""
        parent, name = paths.split(path)
        with self._lock:
            item = self._places.get(parent, {}).get(name)
        if item is None or item.mtime >= self.last_mtime:
            return None
        return item if item.listed or item.id in opened or self._lingers(item, clock.now()) else None

    def listed_in(self, directory: str) -> list[Item]:
        """The entries to list in a folder outside the archive, as they are now."""
        with self._lock:
            items = list(self._places.get(directory, {}).values())
        return [item for item in items if item.listed and item.mtime < self.last_mtime]

    def directories(self) -> dict[str, int]:
        """Folders that the client or the layout made, and those that a rename made by naming them; with their mtime."""
        with self._lock:
            made = dict(self._directories)
            parents = [(p, next(iter(n.values()))) for p, n in self._places.items() if p not in ("/", paths.INBOX)]
        for parent, item in parents:
            for path in (parent, *paths.ancestors(parent)):
                if path != paths.INBOX:
                    made.setdefault(path, item.mtime)
        return made

    def archived(self, month: str) -> Month:
        """What was published in a month and is not withdrawn, after its history, from the database.

        Everybody who asks until something comes to it shares one list: an archive is large, and handles are many.
        """
        key = (month, self._last_sequence, self.last_mtime, self._imports)
        found = self._archive.get(key)
        if found is None:
            found = self._archive[key] = Month(self.in_month(month))
        return found

    def in_month(self, month: str, name: str | None = None) -> list[Item]:
        """What a month of the archive holds, its history first; under that name alone, if one is given."""
        that = [ENTRY.c.month == month, ENTRY.c.withdrawn_at.is_(None), ENTRY.c.mtime < self.last_mtime]
        if name is not None:
            that.append(ENTRY.c.name_folded == names.fold(name))

        def look(tx: Transaction) -> list[Item]:
            brought = history_in(tx, self.folder_id, month, name) if month in self._history else []
            return brought + items_where(tx, self.folder_id, *that)

        return self._db.read(look)

    def months(self) -> list[str]:
        """The archive's months, `YYYY-MM`, oldest first."""
        with self._lock:
            months, brought = list(self._months.items()), self._history
        return sorted({month for month, mtime in months if mtime < self.last_mtime} | brought)
