"""A client with a drop folder, documents that are published into it as the gateway does, and sessions in it."""

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import select

from gateway import clock
from gateway.config import FolderSettings
from gateway.delivery.publish import publish
from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, Folder, FolderEvent, FolderSession, ReceiptMode, SshKey
from gateway.domain.ledger import Record
from gateway.domain.parties import Client, Contract, ContractType
from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.dropfolder.folders import DropFolders
from gateway.dropfolder.sessions import Login, Session
from gateway.dropfolder.visit import Visit
from gateway.store import migrations
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction, sqlite_url

T = TypeVar("T")
PARIS = ZoneInfo("Europe/Paris")
FINGERPRINT = "SHA256:" + "x" * 43


class World:
    """One client, one folder. What is asked of the database is asked when everything that was gathered is recorded."""

    open: ClassVar[list["World"]] = []  # their threads end before the database is closed

    def __init__(
        self, db: Database, blobs: LocalBlobs, *, user: str = "acme", formats: tuple[str, ...] = ("pdf",),
        mode: ReceiptMode = ReceiptMode.DELETE, **settings: Any,
    ) -> None:  # fmt: skip
        self.mode = mode
        self.db = db
        self.blobs = blobs
        self.folders = DropFolders(db, blobs, FolderSettings(**settings))
        self.gateways = [self.folders]
        self.open.append(self)
        self._numbers = itertools.count(1)
        now = clock.now()
        self.client = Client(name=user, created_at=now)
        self.contract = Contract(number=f"C-{user}", type=ContractType.CARD_S, type_name="CARD-S", created_at=now)
        self.folder = Folder(
            client_id=self.client.id, user_name=user, formats=list(formats), receipt_mode=mode, created_at=now
        )
        self.key = SshKey(
            folder_id=self.folder.id, fingerprint=FINGERPRINT, public_key="ssh-ed25519 AAAA", label="erp",
            created_by="test", created_at=now,
        )  # fmt: skip
        for row in (self.client, self.contract, self.folder, self.key):
            self.add(row)

    def add(self, row: Any) -> None:
        self.db.write(lambda tx: tx.add(row))

    def set(self, table: Any, row_id: str, **values: Any) -> None:
        self.db.write(lambda tx: tx.execute(sa.update(table).where(table.id == row_id).values(**values)))

    def plan(self, *contents: bytes, at: dt.datetime | None = None) -> list[str]:
        """Sealed documents with these bytes, to be published; the ids of their deliveries."""
        documents, deliveries = [], []
        now = at or clock.now()
        for content in contents:
            blob = self.blobs.put(content)
            xml = self.blobs.put(b"<xml>" + content[:50])
            document = Document(
                kind=Kind.INVOICE, number=f"F{next(self._numbers):05d}", issue_date=dt.date(2026, 1, 31),
                type_code="380", seller="534010764", key=clock.new_id("key"), contract_id=self.contract.id,
                client_id=self.client.id, nature=Nature.ORIGINAL, state=DocumentState.SEALED,
                received_sha256=blob.sha256, received_size=blob.size, received_at=now, source="api", facts={},
                xml_sha256=xml.sha256, xml_size=xml.size, sealed_sha256=blob.sha256, sealed_size=blob.size,
                updated_at=now,
            )  # fmt: skip
            documents.append(document)
            deliveries.append(
                Delivery(
                    document_id=document.id, client_id=self.client.id, channel=Channel.FOLDER,
                    destination=self.folder.id, state=DeliveryState.PLANNED, due_at=now, created_at=now,
                    updated_at=now, retry_since=now,
                )
            )  # fmt: skip
        self.db.write(lambda tx: tx.add_all(documents))
        self.db.write(lambda tx: tx.add_all(deliveries))
        return [delivery.id for delivery in deliveries]

    def publish(self, *contents: bytes, at: dt.datetime | None = None) -> list[str]:
        """Publish documents with these bytes in one transaction; the ids of their deliveries."""
        ids = self.plan(*contents, at=at)
        self.db.write(lambda tx: publish(tx, ids, frozenset(), PARIS))
        return ids

    def fill(self, count: int, **values: Any) -> list[str]:
        """So many entries more, in one go, like the newest one but for `values`; their names."""
        first = self.entries()[-1]
        listed = {**first.model_dump(), **values}
        made = []
        for number in range(first.sequence + 1, first.sequence + 1 + count):
            name = f"20260131_{self.contract.number}_M{number:07d}_ORIG.pdf"
            one = {"id": clock.new_id("ent"), "name": name, "name_folded": name.lower(), "sequence": number}
            made.append({**listed, **one})
        now = clock.now()
        event = {"folder_id": self.folder.id, "event": "published", "at": now}
        events = [event | {"sequence": one["sequence"], "entry_id": one["id"]} for one in made]

        def step(tx: Any) -> None:
            tx.execute(sa.insert(Entry), made)
            tx.execute(sa.insert(FolderEvent), events)
            counted = {"last_sequence": first.sequence + count, "version": Folder.version + 1}
            tx.execute(sa.update(Folder).where(Folder.id == self.folder.id).values(**counted))  # type: ignore[arg-type]

        if made:
            self.db.write(step)
        return [one["name"] for one in made]

    def visit(self, *, begun: bool = True) -> Visit:
        """A new session."""
        login = Login(self.folder.id, self.client.id, self.folder.user_name, self.key.id, self.key.fingerprint)
        visit = self.folders.visit(Session(clock.new_id("ses"), login, "sftp", "192.0.2.7", "test", "none"))
        if begun:
            visit.begin()
        return visit

    def another_gateway(self) -> DropFolders:
        """On the same database; sessions go there from now on."""
        self.folders = DropFolders(self.db, self.blobs, self.folders._settings)
        self.gateways.append(self.folders)
        return self.folders

    def close(self) -> None:
        for folders in self.gateways:
            folders.close()

    def ask(self, step: Callable[[Transaction], T]) -> T:
        for folders in self.gateways:
            folders.record_now()
        return self.db.read(step)

    def entries(self) -> list[Entry]:
        return list(self.ask(lambda tx: tx.exec(select(Entry).order_by(Entry.sequence)).all()))  # type: ignore[arg-type]

    def entry(self, name: str = "") -> Entry:
        """The entry of that name; without one, the only entry."""
        (found,) = [entry for entry in self.entries() if name in ("", entry.name)]
        return found

    def delivery(self, delivery_id: str) -> Delivery:
        return self.ask(lambda tx: tx.exec(select(Delivery).where(Delivery.id == delivery_id)).one())

    def events(self, prefix: str = "") -> list[str]:
        """The recorded events, oldest first."""
        records = self.ask(lambda tx: tx.exec(select(Record).order_by(Record.id)).all())
        return [record.event for record in records if record.event.startswith(prefix)]

    def bodies(self, event: str) -> list[Any]:
        """The records of an event, oldest first."""
        records = self.ask(lambda tx: tx.exec(select(Record).order_by(Record.id)).all())
        return [json.loads(record.body) for record in records if record.event == event]

    def sessions(self) -> list[FolderSession]:
        return list(self.ask(lambda tx: tx.exec(select(FolderSession)).all()))


@contextmanager
def on_sqlite(directory: Path, blobs: LocalBlobs | None = None) -> Iterator[World]:
    """A world on a database of its own below a directory."""
    url = sqlite_url(directory / "gateway.db")
    migrations.upgrade(url)
    db = Database.open(url)
    world = World(db, blobs or LocalBlobs(directory / "blobs"))
    yield world
    world.close()
    db.close()


def names(visit: Visit, path: str = "/inbox") -> list[str]:
    """What a listing shows."""
    return [node.name for node in visit.ask(visit.listing, path).take(10**6)]


def get(visit: Visit, path: str, *ranges: tuple[int, int]) -> bytes:
    """Open, read these `(offset, size)` or everything, close."""
    reading = visit.ask(visit.open, path)
    parts = [reading.read(offset, size) for offset, size in ranges or [(0, 10**9)]]
    visit.close(reading)
    return b"".join(parts)
