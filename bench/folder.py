"""A drop folder's index: how soon entries are visible, and what an archive costs in memory.

- `folder_visible_max`: 50,000 entries are published as the daemon does; a client lists all the while. Seconds from an
  entry's commit until it was listed, the longest of all; the limit is 2
- `folder_archive_rss`: an archive of 1,000,000 entries, listed month by month as SFTP sends it. Growth of the process
  after its first month; the limit is what indexes may hold, 64 MB

    python -m bench.folder [PUBLISHED [ARCHIVED]]
"""

import datetime as dt
import functools
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from bench.beside.report import absolute
from bench.beside.state import Access, Store, names
from gateway import clock
from gateway.config import FolderSettings
from gateway.delivery.publish import Publisher
from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, Folder
from gateway.domain.states import DeliveryState
from gateway.dropfolder.folders import DropFolders
from gateway.dropfolder.sessions import Login, Session
from gateway.dropfolder.visit import Visit
from gateway.servers import sftp_packets as wire
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, sqlite_url

ZONE = ZoneInfo("Europe/Paris")
BATCH, MONTHS, AT_ONCE = 500, 60, 20_000
VISIBLE_SECONDS, MEMORY_MB = 2.0, 64


class Home:
    """A folder with one entry, and a session in it."""

    def __init__(self, directory: Path) -> None:
        if not directory.exists():
            store = Store(directory / "state", directory / "files", Access("SHA256:bench", ""))
            store.folder("bench", store.blobs(1, 1000), names(1))
            store.close()
        self.db = Database.open(sqlite_url(directory / "state" / "gateway.db"))
        self.blobs = LocalBlobs(directory / "state" / "blobs")
        self.folders = DropFolders(self.db, self.blobs, FolderSettings())
        self.folder = self._one(Folder)
        self.visit = self._visit()

    def _one(self, table: Any) -> dict[str, Any]:
        return dict(self.db.read(lambda tx: tx.execute(sa.select(table.__table__)).one())._mapping)

    def _visit(self) -> Visit:
        login = Login(self.folder["id"], self.folder["client_id"], "bench", "key_bench", "SHA256:bench")
        return self.folders.visit(Session(clock.new_id("ses"), login, "sftp", "192.0.2.1", "bench", ""))

    def close(self) -> None:
        """The database."""
        self.folders.close()
        self.db.close()

    def planned(self, count: int) -> list[str]:
        """The ids of so many deliveries that wait for the publisher."""
        document, delivery = self._one(Document), self._one(Delivery)
        documents = [
            document | {"id": clock.new_id("doc"), "number": f"N{one:07d}", "key": clock.new_id("key")}
            for one in range(count)
        ]
        planned = {"state": DeliveryState.PLANNED, "due_at": clock.now() - dt.timedelta(seconds=1)}
        deliveries = [delivery | planned | {"id": clock.new_id("dlv"), "document_id": one["id"]} for one in documents]
        self._insert(Document, documents)
        self._insert(Delivery, deliveries)
        return [one["id"] for one in deliveries]

    def archive(self, count: int) -> None:
        """So many entries more that were received long ago, in MONTHS."""
        entry = self._one(Entry)
        for start in range(0, count, AT_ONCE):
            self._insert(
                Entry,
                [
                    entry
                    | {
                        "id": f"ent_{one:026d}", "name": f"F{one:07d}.pdf", "name_folded": f"f{one:07d}.pdf",
                        "sequence": one + 2, "listed": False, "month": _month(one * MONTHS // count),
                    }
                    for one in range(start, min(start + AT_ONCE, count))
                ],
            )  # fmt: skip

    def _insert(self, table: Any, rows: list[dict[str, Any]]) -> None:
        self.db.write(lambda tx: tx.execute(sa.insert(table), rows))


def visible(home: Home, count: int) -> float:
    """Seconds from commit to listing, the longest."""
    home.planned(count)
    committed: list[float] = []  # by delivery
    is_over = threading.Event()
    turns = Publisher(home.db, home.blobs, ZONE, BATCH)

    def work() -> None:
        while done := turns.turn():
            committed.extend([time.monotonic()] * done)
        is_over.set()

    publisher = threading.Thread(target=work)
    publisher.start()
    seen, longest = 1, 0.0
    while seen <= count:
        shown = len(home.visit.ask(home.visit.listing, "/inbox").take(10**7))
        now = time.monotonic()
        if shown > seen:
            longest = max(longest, now - committed[seen - 1])
            seen = shown
        if is_over.is_set() and now - committed[-1] > 10 * VISIBLE_SECONDS:
            raise SystemExit(f"{count + 1 - seen} of {count} entries were never listed")
        time.sleep(0.1)
    publisher.join()
    return longest


def archived(home: Home) -> float:
    """MB by which the process grows."""
    months = [f"/archive/{_month(one).replace('-', '/')}" for one in range(MONTHS)]
    _list(home.visit, months[0])
    before = _rss()
    peak = max(_list(home.visit, month) for month in months)
    return (peak - before) / 1e6


def _month(number: int) -> str:
    return f"{2021 + number // 12}-{number % 12 + 1:02d}"


def _fill(directory: Path, count: int) -> None:
    """In a process of its own: what it leaves in the heap would hide a growth."""
    home = Home(directory)
    home.archive(count)
    home.close()


def _list(visit: Visit, path: str) -> int:
    listing = visit.ask(visit.listing, path)
    while listing.pages(wire.names_on(clock.now()), 1)[0]:
        pass
    return _rss()


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(published: str = "50000", entries: str = "1000000") -> None:
    """Both, each on a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        old, new = Path(name) / "old", Path(name) / "new"
        filling = multiprocessing.get_context("spawn").Process(target=_fill, args=(old, int(entries)))
        filling.start()
        filling.join()
        for directory, figure, work, unit, limit in (
            (old, "folder_archive_rss", archived, "MB", MEMORY_MB),
            (new, "folder_visible_max", functools.partial(visible, count=int(published)), "s", VISIBLE_SECONDS),
        ):
            home = Home(directory)
            try:
                absolute(figure, work(home), unit, limit)
            finally:
                home.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
