"""The months of a folder's numbers: `manifest/index-YYYY-MM.csv`, by which an ERP sees that it misses nothing.

A month holds consecutive numbers: it begins after the last of the month before, and ends before the first number whose
instant lies in a later month of the issuer's; so months chain without gap or overlap, whatever the clocks do. Each
month since the folder began has one, also an empty one.

A month that is over is closed by `MonthCloser`: a row and a blob, which never change. The months that are not closed
yet (`OpenMonths`) are kept in scratch files without a name, a few folders at a time, and grow at their end by what was
published since the last question: a handle sees its own length, and a question reads what is new and no more. A number
stands there from the moment on that its entry is listed.

Failures: Unavailable when the disk or the database refuses.
"""

import datetime as dt
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog

from ..domain.tables import metadata
from ..errors import Unavailable
from ..store import database
from ..store.blobs import Blob, Blobs
from ..store.database import Database, Transaction
from . import events
from .events import Event
from .items import FOLDER
from .monthly_csv import header, lines, month_after, month_of, start_of

log = structlog.get_logger(__name__)
MONTH = metadata.tables["folder_month"]
MOST_FOLDERS = 100  # whose open months are kept ready
MOST_BYTES = 256_000_000  # of their files
_PAGE = 5000  # events read at once
_AFTER_MIDNIGHT = dt.timedelta(minutes=10)  # behind the manifest of the month's last day
_FOLDERS_A_TURN = 20


class Sheet:
    """A month's file while it grows. Its bytes are appended, never changed, and go with it."""

    def __init__(self, path: Path, begins: dt.datetime) -> None:
        """`path`: of a scratch file, which loses its name at once."""
        self.size = 0
        self.mtime = int(begins.timestamp())
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            path.unlink()
            weakref.finalize(self, os.close, self._fd)
            self._append(header())
        except OSError as error:
            raise _refused(error) from error

    def add(self, page: list[Event]) -> None:
        """Some events more."""
        try:
            self._append(lines(page))
        except OSError as error:
            raise _refused(error) from error
        self.mtime = max(self.mtime, *map(_second, page))

    def open(self) -> int:
        """A file descriptor of its bytes, the caller's to close."""
        return os.dup(self._fd)

    def _append(self, content: bytes) -> None:
        while content:
            written = os.pwrite(self._fd, content, self.size)
            self.size += written
            content = content[written:]


@dataclass(frozen=True)
class Open:
    """A month that is not closed, as it is now."""

    month: str
    size: int  # bytes
    mtime: int  # Unix seconds
    sheet: Sheet


class OpenMonths:
    """The open months of the folders that were asked for lately. Any thread may ask."""

    def __init__(self, db: Database, blobs: Blobs, zone: ZoneInfo) -> None:
        self._db = db
        self._blobs = blobs
        self._zone = zone
        self._folders: dict[str, _Growing] = {}  # the last used one stands last
        self._lock = threading.Lock()

    def look(self, folder_id: str) -> dict[str, Open]:
        """The open months of a folder, `YYYY-MM`, oldest first, as new as the database; it may have to be asked."""
        with self._lock:
            growing = self._folders.pop(folder_id, None) or _Growing(folder_id, self._zone, self._blobs)
            self._folders[folder_id] = growing
        found = growing.look(self._db)
        self._make_room()
        return found

    def _make_room(self) -> None:
        with self._lock:
            kept = sum(one.size for one in self._folders.values())
            for folder_id, one in list(self._folders.items())[:-1]:
                if kept <= MOST_BYTES and len(self._folders) <= MOST_FOLDERS:
                    return
                kept -= one.size
                del self._folders[folder_id]


class _Growing:
    """The open months of one folder."""

    def __init__(self, folder_id: str, zone: ZoneInfo, blobs: Blobs) -> None:
        self.size = 0
        self._folder_id = folder_id
        self._zone = zone
        self._blobs = blobs
        self._lock = threading.Lock()
        self._begin("", 0)

    def _begin(self, closed: str, last: int) -> None:
        """After that month, `YYYY-MM` or none, and that number."""
        self._closed = closed
        self._month = ""  # of the last number
        self._last = last
        self._sheets: dict[str, Sheet] = {}

    def look(self, db: Database) -> dict[str, Open]:
        with self._lock:
            try:
                self._grow(db)
            except BaseException:
                self._begin("", 0)  # a page may stand there in part
                raise
            self.size = sum(sheet.size for sheet in self._sheets.values())
            return {month: Open(month, one.size, one.mtime, one) for month, one in self._sheets.items()}

    def _grow(self, db: Database) -> None:
        folder, closed, now = db.read(self._read)
        if closed is not None and closed.month != self._closed:
            self._begin(closed.month, closed.last_sequence)
        first = month_after(self._closed) if self._closed else month_of(folder.created_at, self._zone)
        self._month = self._month or first
        while self._last < folder.last_sequence:
            page = db.read(lambda tx: events.after(tx, self._folder_id, self._last, _PAGE))
            shown = _before(page, folder.last_mtime)
            for month, run in _by_month(shown, self._month, self._zone):
                self._sheet(first, month).add(run)
                self._month, self._last = month, run[-1].sequence
            if len(shown) < len(page) or not page:
                break
        self._sheet(first, max(self._month, month_of(now, self._zone)))

    def _read(self, tx: Transaction) -> tuple[Any, Any, dt.datetime]:
        columns = FOLDER.c.last_sequence, FOLDER.c.last_mtime, FOLDER.c.created_at
        folder = tx.execute(sa.select(*columns).where(FOLDER.c.id == self._folder_id)).one()
        return folder, newest(tx, self._folder_id), database.now(tx)

    def _sheet(self, first: str, month: str) -> Sheet:
        """That month's, and those between, which stay empty."""
        new = month_after(max(self._sheets)) if self._sheets else first
        while new <= month:
            self._sheets[new] = Sheet(self._blobs.scratch(), start_of(new, self._zone))
            new = month_after(new)
        return self._sheets[month]


class MonthCloser:
    """Closes months that are over, a few folders a turn, one month of each."""

    def __init__(self, db: Database, blobs: Blobs, zone: ZoneInfo) -> None:
        self._db = db
        self._blobs = blobs
        self._zone = zone

    def turn(self) -> int:
        """How many months it closed; 0 when none is due."""
        return sum(self._close(*one) for one in self._db.read(self._due))

    def _due(self, tx: Transaction) -> list[tuple[str, str, int]]:
        """Folders that lack the newest month which is over: each with its first open month, and the number before."""
        this = month_of(database.now(tx) - _AFTER_MIDNIGHT, self._zone)
        over = month_of(start_of(this, self._zone) - dt.timedelta(days=1), self._zone)
        has_it = sa.select(MONTH.c.month).where(MONTH.c.folder_id == FOLDER.c.id, MONTH.c.month >= over)
        rows = tx.execute(
            sa.select(FOLDER.c.id, FOLDER.c.created_at)
            .where(~sa.exists(has_it), ~FOLDER.c.is_intake, FOLDER.c.created_at < start_of(this, self._zone))
            .order_by(FOLDER.c.id)
            .limit(_FOLDERS_A_TURN)
        ).all()
        return [self._next(tx, row) for row in rows]

    def _next(self, tx: Transaction, folder: Any) -> tuple[str, str, int]:
        before = newest(tx, folder.id)
        if before is None:
            return folder.id, month_of(folder.created_at, self._zone), 0
        return folder.id, month_after(before.month), before.last_sequence

    def _close(self, folder_id: str, month: str, after: int) -> int:
        """Bytes first, then the row; what another gateway made meanwhile stays.

        Ours then lie in the store unnamed: as those of an empty month they may be another folder's too.
        """
        path = self._blobs.scratch()
        try:
            last, mtime = self._write(path, folder_id, month, after)
            blob = self._blobs.adopt(path)
        except OSError as error:
            raise _refused(error) from error
        finally:
            path.unlink(missing_ok=True)
        if not self._db.write(lambda tx: _insert(tx, folder_id, month, after, last, mtime, blob)):
            return 0
        log.info("month.closed", folder=folder_id, month=month, last=last)
        return 1

    def _write(self, path: Path, folder_id: str, month: str, after: int) -> tuple[int, int]:
        """Its last number, and its mtime."""
        mtime = int(start_of(month, self._zone).timestamp())
        with path.open("xb") as file:
            file.write(header())
            while page := self._db.read(lambda tx: events.after(tx, folder_id, after, _PAGE)):  # noqa: B023
                runs = [run for of, run in _by_month(page, month, self._zone) if of == month]
                for run in runs:
                    file.write(lines(run))
                    mtime = max(mtime, *map(_second, run))
                    after = run[-1].sequence
                if after < page[-1].sequence:
                    break
        return after, mtime


def newest(tx: Transaction, folder_id: str) -> Any:
    """The row of the newest closed month of a folder, or None."""
    query = sa.select(MONTH).where(MONTH.c.folder_id == folder_id).order_by(MONTH.c.month.desc()).limit(1)
    return tx.execute(query).first()


def closed(tx: Transaction, folder_id: str, month: str) -> Any:
    """The row of a closed month, or None."""
    return tx.execute(sa.select(MONTH).where(MONTH.c.folder_id == folder_id, MONTH.c.month == month)).first()


def all_closed(tx: Transaction, folder_id: str) -> list[Any]:
    """The rows of a folder's closed months, oldest first."""
    return list(tx.execute(sa.select(MONTH).where(MONTH.c.folder_id == folder_id).order_by(MONTH.c.month)).all())


def _insert(tx: Transaction, folder_id: str, month: str, after: int, last: int, mtime: int, blob: Blob) -> bool:
    """The row, unless another gateway was faster; the folder's row is held meanwhile."""
    tx.execute(sa.select(FOLDER.c.id).where(FOLDER.c.id == folder_id).with_for_update())
    before = newest(tx, folder_id)
    if before is not None and before.month >= month:
        return False
    row = {
        "folder_id": folder_id,
        "month": month,
        "first_sequence": after + 1,
        "last_sequence": last,
        "sha256": blob.sha256,
        "size": blob.size,
        "mtime": mtime,
        "made_at": database.now(tx),
    }
    tx.execute(sa.insert(MONTH), [row])
    return True


def _before(page: list[Event], last_mtime: int) -> list[Event]:
    """The events up to the first that no listing may show yet."""
    for position, one in enumerate(page):
        if not one.is_listed_before(last_mtime):
            return page[:position]
    return page


def _by_month(page: list[Event], month: str, zone: ZoneInfo) -> Iterator[tuple[str, list[Event]]]:
    """Runs of events with their month; what was published with an instant of a month before stays in `month`."""
    run: list[Event] = []
    ends = start_of(month_after(month), zone)
    for one in page:
        if one.at >= ends:
            if run:
                yield month, run
            month, run = month_of(one.at, zone), []
            ends = start_of(month_after(month), zone)
        run.append(one)
    if run:
        yield month, run


def _second(event: Event) -> int:
    """Of the clock, or of the entry while this is its newest publication: what came later is never older."""
    return max(int(event.at.timestamp()), event.mtime if event.newest == event.sequence else 0)


def _refused(error: OSError) -> Unavailable:
    log.error("month.not_written", cause=str(error))
    return Unavailable("the list cannot be made at the moment; try again")
