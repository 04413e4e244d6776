"""An inbox of 5,000 documents, published once, copied for every client that comes to it.

Of them the first 200 have bytes of their own, from a few hundred to some ten thousand; one has 64 MB, enough that a
client can be stopped in the middle of it; the others share a few. Blobs are read only, so all copies share them.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import select

from gateway import clock
from gateway.config import FolderSettings
from gateway.delivery.publish import publish
from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, Folder, SshKey
from gateway.domain.parties import Client
from gateway.domain.states import DeliveryState
from gateway.dropfolder.folders import DropFolders
from gateway.store import migrations
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction, sqlite_url
from tests.dropfolder.world import PARIS, World

ENTRIES, PULLED, BATCH = 5_000, 200, 500
LARGE = 64 << 20  # bytes


class Inbox(World):
    """The client `acme` of a copy, with everything that a World can tell."""

    def __init__(self, db: Database, blobs: LocalBlobs) -> None:
        self.db = db
        self.blobs = blobs
        self.folders = DropFolders(db, blobs, FolderSettings())
        self.gateways = [self.folders]
        self.client = db.read(lambda tx: tx.exec(select(Client)).one())
        self.folder = db.read(lambda tx: tx.exec(select(Folder)).one())
        self.key = db.read(lambda tx: tx.exec(select(SshKey)).one())


@dataclass(frozen=True)
class Stock:
    """What was published, and where a copy of it begins."""

    directory: Path

    @contextmanager
    def copied(self, directory: Path) -> Iterator[Inbox]:
        """A copy of the database below `directory`."""
        shutil.copy(self.directory / "gateway.db", directory / "gateway.db")
        db = Database.open(sqlite_url(directory / "gateway.db"))
        inbox = Inbox(db, LocalBlobs(self.directory / "blobs"))
        try:
            yield inbox
        finally:
            inbox.close()
            db.close()


def stocked(directory: Path) -> Stock:
    """The stock in `directory`, made by the first process that asks; the others wait."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "made").exists():
            _make(directory)
            (directory / "made").touch()
    return Stock(directory)


def _make(directory: Path) -> None:
    url = sqlite_url(directory / "gateway.db")
    migrations.upgrade(url)
    db = Database.open(url)
    world = World(db, LocalBlobs(directory / "blobs"))
    world.publish(*[hashlib.sha256(b"%d" % i).digest() * (10 + i * i % 997) for i in range(PULLED)])
    world.publish(os.urandom(1 << 20) * (LARGE >> 20))
    missing = ENTRIES - PULLED - 1
    while missing > 0:
        ids = db.write(lambda tx: _more(tx, min(missing, BATCH)))  # noqa: B023 -- it runs at once
        db.write(lambda tx: publish(tx, ids, frozenset(), PARIS))  # noqa: B023
        missing -= len(ids)
    assert db.read(lambda tx: tx.execute(sa.select(sa.func.count()).select_from(Entry)).scalar_one()) == ENTRIES
    world.close()
    db.close()


def _more(tx: Transaction, number: int) -> list[str]:
    """So many documents like the first one, each with its delivery: their ids."""
    document = dict(tx.execute(sa.select(Document.__table__)).mappings().first() or {})  # type: ignore[attr-defined]
    delivery = dict(tx.execute(sa.select(Delivery.__table__)).mappings().first() or {})  # type: ignore[attr-defined]
    documents, deliveries = [], []
    for _ in range(number):
        key = clock.new_id("doc")
        documents.append(document | {"id": key, "number": f"G-{key[-12:]}", "key": key})
        delivery_id = clock.new_id("dlv")
        deliveries.append(delivery | {"id": delivery_id, "document_id": key, "state": DeliveryState.PLANNED})
    tx.execute(sa.insert(Document), documents)
    tx.execute(sa.insert(Delivery), deliveries)
    return [row["id"] for row in deliveries]
