"""Every client's folder, behind one object: what the protocols, the portal and the daemon's sweeps call."""

import datetime as dt
import os
import threading
from collections.abc import Collection
from weakref import WeakValueDictionary

import structlog

from .. import clock
from ..config import FolderSettings
from ..errors import NotFound, Unavailable
from ..store.blobs import Blobs
from ..store.database import Database
from . import entries, receipts, sessions
from .index import Index, Item
from .sessions import Login, Session
from .visit import Visit

log = structlog.get_logger(__name__)
FORGET_SECONDS = 3600.0  # a folder that nobody came to for this long is dropped from memory


class DropFolders:
    """Every client's folder."""

    def __init__(self, db: Database, blobs: Blobs, settings: FolderSettings) -> None:
        self._db = db
        self._settings = settings
        self._blobs = blobs
        self._indexes: WeakValueDictionary[str, Index] = WeakValueDictionary()  # one a folder, while anybody is there
        self._kept: dict[str, tuple[Index, float]] = {}  # and for a while after, with the time of the last visit
        self._lock = threading.Lock()

    def log_in(self, user_name: str, fingerprint: str) -> Login:
        """See sessions.log_in."""
        return self._db.read(lambda tx: sessions.log_in(tx, user_name, fingerprint))

    def no_longer_allowed(self, key_ids: Collection[str]) -> dict[str, str]:
        """Of the keys of open sessions, those that were revoked, expired or disabled since, with the reason."""
        return self._db.read(lambda tx: sessions.no_longer_allowed(tx, key_ids)) if key_ids else {}

    def visit(self, session: Session) -> Visit:
        """A session's view; `begin` it."""
        index = self._index(session.login.folder_id)
        return Visit(self._db, index, session, self._open_blob, self._settings.directories)

    def _open_blob(self, item: Item) -> int:
        """A file descriptor of an entry's bytes; Unavailable when they are missing or not whole."""
        try:
            fd = self._blobs.open(item.sha256)
        except NotFound:
            log.error("entry.blob_missing", entry=item.id, sha256=item.sha256)
            raise Unavailable("these bytes cannot be read at the moment; try again") from None
        if (size := os.fstat(fd).st_size) != item.size:
            os.close(fd)
            log.error("entry.blob_damaged", entry=item.id, sha256=item.sha256, size=size, expected=item.size)
            raise Unavailable("these bytes cannot be read at the moment; try again")
        return fd

    def acknowledge(self, folder_id: str, entry_ids: Collection[str], by: str) -> int:
        """Receipts by API, see receipts.acknowledge; how many entries were received by it."""
        items = self._db.write(lambda tx: receipts.acknowledge(tx, folder_id, entry_ids, by))
        self._apply(folder_id, items)
        return len(items)

    def return_renamed(self, now: dt.datetime) -> int:
        """Entries renamed too long ago and still not fully read get their own names back; how many."""
        before = now - dt.timedelta(hours=self._settings.rename_return_hours)
        count = 0
        for folder_id in self._db.read(lambda tx: entries.folders_with_overdue_renames(tx, before)):
            count += self._return_renamed(folder_id, before)
        return count

    def _return_renamed(self, folder_id: str, before: dt.datetime) -> int:
        items = self._db.write(lambda tx: entries.return_renamed(tx, folder_id, before))
        self._apply(folder_id, items)
        for item in items:
            log.warning("entry.returned", entry=item.id, folder=folder_id, sequence=item.sequence)
        return len(items)

    def _apply(self, folder_id: str, items: list[Item]) -> None:
        with self._lock:
            index = self._indexes.get(folder_id)
        if index is not None:
            index.apply(items)

    def _index(self, folder_id: str) -> Index:
        now = clock.monotonic()
        with self._lock:
            for other in [f for f, (_, used) in self._kept.items() if now - used > FORGET_SECONDS]:
                del self._kept[other]
            index = self._indexes.get(folder_id)
            if index is None:
                linger = dt.timedelta(minutes=self._settings.linger_minutes)
                index = self._indexes[folder_id] = Index(self._db, folder_id, linger)
            self._kept[folder_id] = index, now
            return index
