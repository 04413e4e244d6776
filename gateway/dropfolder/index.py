"""What one folder holds now, in memory: the answer to nearly every request without the database.

The index is compared with the folder's `version` at most once a second, or when a hint says that something changed,
and loads only what is newer (news.py). The archive is not in it, but for its months.

Which entries may be listed: those whose mtime is below `Folder.last_mtime`, since everything that is published
later gets at least that mtime. For the newest ones this becomes true in `news.settle`: once their second is over, the
first look at the folder raises `last_mtime` by one, in a write that waits for any publication under way. That
holds whatever the clocks do, however long a commit takes, and for every gateway on the same database.

It may be told to forget (memory.py); the next look reads it anew.

Failures: Unavailable when the database is away and what is known is older than a minute, or nothing is.
"""

import datetime as dt
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from operator import attrgetter

import structlog

from .. import clock
from ..domain.folders import ReceiptMode
from ..domain.path_map import PathMap
from ..errors import Unavailable
from ..store.database import Database
from . import news, paths, ranges
from .archive import Archive
from .items import BYTES, Item
from .memory import Memory
from .news import Known, News
from .ranges import Ranges
from .snapshots import Snapshot, Stream

log = structlog.get_logger(__name__)

FRESH_SECONDS = 1.0
STALE_SECONDS = 60.0
MOST_DOUBTFUL = 10_000
_ID, _NAME, _MTIME = (attrgetter(name) for name in ("id", "name", "mtime"))


class Index:
    """One folder's entries by place. Any thread may ask; `refresh` waits for the database."""

    is_read_at_once = False  # see memory.Holder

    def __init__(self, db: Database, folder_id: str, linger: dt.timedelta, memory: Memory) -> None:
        """`linger`: where the folder has no rule of its own."""
        self.folder_id = folder_id
        self.last_mtime = 0  # entries below it are visible
        self.path_map = PathMap(())
        self.receipt_mode = ReceiptMode.FULL_READ  # until it is known: the one in which reading alone is a receipt
        self._db = db
        self._usual_linger = self._linger = linger
        self._memory = memory
        self._archive = Archive(db, folder_id, memory)
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # held for microseconds, milliseconds of large folders: the event loop takes it
        self._pins: Counter[str] = Counter()
        self._doubtful: dict[str, list[tuple[int, int]]] = {}  # by entry, of its last read that a lost connection ended
        self._unconfirmed: dict[str, Ranges] = {}  # the same of all such reads
        self._empty()

    def _empty(self) -> None:
        self._version = -1
        self._last_sequence = 0
        self._newest = 0
        self._checked = self._loaded = float("-inf")
        self._looked = 0.0  # Unix seconds
        self._items: dict[str, Item] = {}
        self._unlisted: dict[str, Item] = {}
        self._places: dict[str, dict[str, Item]] = {}
        self._snapshots: dict[str, Snapshot] = {}  # of what is in `_places` now, by folder
        self._directories: dict[str, int] = {}
        self._months: dict[str, int] = {}
        self._imports = -1
        self._history: frozenset[str] = frozenset()

    # -- freshness

    @property
    def is_fresh(self) -> bool:
        """Whether what is known is at most a second old, or the database did not answer a second ago.

        Not any more when the second is over that held back the newest entries.
        """
        if clock.monotonic() - self._checked >= FRESH_SECONDS:
            return False
        return not (self._is_hiding and self._looked < self.last_mtime + 1 <= clock.now().timestamp())

    @property
    def _is_hiding(self) -> bool:
        return self._newest >= self.last_mtime

    @property
    def is_stale(self) -> bool:
        """Whether the database did not answer when it was last asked."""
        return self._loaded < self._checked

    def refresh(self) -> None:
        """Compare with the database unless that was just done. Unavailable: it is away, for more than a minute."""
        with self._loading:
            if self.is_fresh:
                return
            began, looked = clock.monotonic(), clock.now().timestamp()
            try:
                self._look()
                self._loaded = began
            except Unavailable:
                if began - self._loaded > STALE_SECONDS:
                    raise
                log.warning("folder.stale", folder=self.folder_id, seconds=round(began - self._loaded, 1))
            self._looked = looked
            self._checked = began  # only now: until here, nobody may take what is known for the whole
        self._hold()

    def expire(self) -> None:
        """The next question looks first: something is known to have changed."""
        self._checked = float("-inf")

    def _look(self) -> None:
        if self._is_hiding and self._version >= 0 and self.last_mtime < int(clock.now().timestamp()):
            self._settle()  # first: what this waits for is read at once, and only once
        found = self._db.read(lambda tx: news.read(tx, self.folder_id, self._known(), self._usual_linger))
        self._take(found)
        if self._is_hiding and int(found.now.timestamp()) > found.last_mtime:
            self._settle()
            self._take(self._db.read(lambda tx: news.read(tx, self.folder_id, self._known(), self._usual_linger)))

    def _settle(self) -> None:
        self._db.write(lambda tx: news.settle(tx, self.folder_id, self._newest))

    def _known(self) -> Known:
        with self._lock:
            return Known(self._version, self._last_sequence, self._months, self._imports, list(self._pins))

    def _take(self, found: News) -> None:
        changed = set() if found.history is None else found.history | self._history  # what was withdrawn, too
        self._archive.touched(found.touched | changed)
        with self._lock:
            if self._version < 0:
                self._newest = found.last_mtime  # a first look does not read whatever was published last
            if self._items:
                for item in found.items:
                    self._put(item)
            else:
                self._fill(found.items)
            if found.directories is not None:
                self._directories = found.directories
            if found.months is not None:
                self._months = found.months
            if found.history is not None:
                self._history = found.history
            self._imports = found.imports
            if found.last_mtime != self.last_mtime and self._is_hiding:
                self._snapshots.clear()
            self._version, self._last_sequence = found.version, found.last_sequence
            self.last_mtime, self._linger = found.last_mtime, found.linger
            self.path_map, self.receipt_mode = found.path_map, found.receipt_mode
            self._evict(found.now)

    def apply(self, items: Iterable[Item]) -> None:
        """What this process has just committed, before the next look at the database would show it."""
        with self._lock:
            for item in items:
                self._put(item)

    def _fill(self, items: list[Item]) -> None:
        """The same as to `_put` each into nothing, for as many as there may be."""
        others = [item for item in items if item.elsewhere is not None or not item.listed]
        plain = [item for item in items if item.elsewhere is None and item.listed] if others else items
        self._items = dict(zip(map(_ID, plain), plain, strict=True))
        if plain:
            self._places[paths.INBOX] = dict(zip(map(_NAME, plain), plain, strict=True))
            newest = max(map(_MTIME, plain))
            self._newest = max(self._newest, newest)
        for item in others:
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
            self._snapshots.pop(parent, None)
            del names[name]
            if not names:
                del self._places[parent]

    def _replace_at_its_place(self, item: Item) -> None:
        parent, name = paths.split(item.place)
        names = self._places.setdefault(parent, {})
        if item.listed or name not in names or not names[name].listed:
            self._snapshots.pop(parent, None)
            names[item.name if name == item.name else name] = item

    def _evict(self, now: dt.datetime) -> None:
        """Forget what is neither listed nor lingering, once the database is known to say so."""
        for item in list(self._unlisted.values()):
            if item.changed <= self._version and not self._lingers(item, now) and not self._pins[item.id]:
                del self._unlisted[item.id], self._items[item.id]
                self._displace(item)

    def _lingers(self, item: Item, now: dt.datetime) -> bool:
        return not item.is_gone and item.received_at is not None and item.received_at + self._linger > now

    # -- memory

    @property
    def bytes(self) -> int:
        """What it holds, by estimate."""
        with self._lock:
            return len(self._items) * BYTES + sum(one.bytes + 8 * len(one.rows) for one in self._snapshots.values())

    def _hold(self) -> None:
        self._memory.hold(self, self.bytes)

    def forget(self) -> None:
        """See memory.Holder. Nothing happens while somebody looks at the database for it."""
        if self._loading.acquire(blocking=False):
            try:
                with self._lock:
                    self._empty()
            finally:
                self._loading.release()

    def doubt(self, entry_id: str, doubtful: list[tuple[int, int]]) -> None:
        """These bytes were given out, and the connection went before it was known whether they arrived."""
        with self._lock:
            if len(self._doubtful) >= MOST_DOUBTFUL:
                self._doubtful.clear()  # their receipts come late, at the next whole read
                self._unconfirmed.clear()
            self._doubtful[entry_id] = doubtful
            self._unconfirmed[entry_id] = ranges.union(self._unconfirmed.get(entry_id, []), doubtful)

    def doubtful(self, entry_id: str) -> list[tuple[int, int]]:
        """See `doubt`."""
        with self._lock:
            return self._doubtful.get(entry_id, [])

    def unconfirmed(self, entry_id: str) -> Ranges:
        """What was given out over connections that were lost, as far as this process remembers."""
        with self._lock:
            return self._unconfirmed.get(entry_id, [])

    def pin(self, item: Item) -> None:
        """A session has opened it: it stays known until `unpin`, lingering or not."""
        with self._lock:
            self._pins[item.id] += 1

    def unpin(self, ids: Iterable[str]) -> None:
        """The session ended."""
        with self._lock:
            self._pins.subtract(ids)
            self._pins += Counter()  # drops what is zero

    # -- questions

    def _require(self) -> None:
        if self._version < 0:
            raise Unavailable("this folder is being read; try again")

    def now(self, item: Item) -> Item:
        """What is known of an entry by now."""
        with self._lock:
            return self._items.get(item.id, item)

    def find(self, path: str, opened: Collection[str] = ()) -> Item | None:
        """The entry at a place outside the archive; `opened`: ids that the session asking has opened before."""
        parent, name = paths.split(path)
        with self._lock:
            self._require()
            item = self._places.get(parent, {}).get(name)
        if item is None or item.mtime >= self.last_mtime:
            return None
        return item if item.listed or item.id in opened or self._lingers(item, clock.now()) else None

    def entries_in(self, directory: str) -> Snapshot:
        """The entries to list in a folder outside the archive, as they are now: the same object until they change."""
        with self._lock:
            self._require()
            found = self._snapshots.get(directory)
            if found is None:
                items = self._places.get(directory, {}).values()
                rows = [item for item in items if item.listed and item.mtime < self.last_mtime]
                found = Snapshot(rows, self._hold)
                if rows:
                    self._snapshots[directory] = found
        return found

    def directories(self) -> dict[str, int]:
        """Folders that the client or the layout made, and those that a rename made by naming them; with their mtime."""
        with self._lock:
            self._require()
            made = dict(self._directories)
            parents = [(p, next(iter(n.values()))) for p, n in self._places.items() if p not in ("/", paths.INBOX)]
        for parent, item in parents:
            for path in (parent, *paths.ancestors(parent)):
                if path != paths.INBOX:
                    made.setdefault(path, item.mtime)
        return made

    def archived(self, month: str) -> Snapshot | Stream:
        """What is visible in a month of the archive, its history first. Waits for the database."""
        return self._archive.entries(month, self.last_mtime, has_history=month in self._history)

    def in_month(self, month: str, name: str) -> list[Item]:
        """What is visible in a month of the archive under that name in some case. Waits for the database."""
        return self._archive.named(month, self.last_mtime, name, has_history=month in self._history)

    def months(self) -> list[str]:
        """The archive's months, `YYYY-MM`, oldest first."""
        with self._lock:
            self._require()
            months, brought = list(self._months.items()), self._history
        return sorted({month for month, mtime in months if mtime < self.last_mtime} | brought)
