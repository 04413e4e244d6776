"""Folders for a benchmark: rows and blobs put straight into a gateway's store, and the same files in a directory.

What the publisher would have written is written in one go: entries with names, mtime and sequence, events, documents,
deliveries. The files of the other servers are hard links to the blobs, so that all read the same bytes from the same
page cache.
"""

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway import clock
from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.folders import Entry, EventKind, Folder, FolderEvent, FolderPassword, SshKey
from gateway.domain.parties import Client
from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.store import migrations
from gateway.store.blobs import Blob, LocalBlobs
from gateway.store.database import Database, sqlite_url

PIECE = 1 << 20


@dataclass(frozen=True)
class Access:
    """What opens every folder of the benchmark."""

    fingerprint: str
    password_hash: str


class Store:
    """A state directory that no daemon runs on yet, and a directory beside it for the other servers."""

    def __init__(self, directory: Path, beside: Path, access: Access) -> None:
        directory.mkdir(mode=0o700, parents=True)
        self._beside = beside
        self._access = access
        self._blobs = LocalBlobs(directory / "blobs")
        url = sqlite_url(directory / "gateway.db")
        migrations.upgrade(url)
        self._db = Database.open(url)
        self._now = clock.now() - dt.timedelta(minutes=5)
        self._client = Client(name="bench", created_at=self._now)
        self._db.write(lambda tx: tx.add(self._client))

    def blobs(self, count: int, size: int) -> list[Blob]:
        """So many different ones."""
        return [self._blobs.put(os.urandom(size)) for _ in range(count)]

    def big(self, size: int) -> Blob:
        """One of that many bytes."""
        path, piece = self._blobs.scratch(), os.urandom(PIECE)
        with path.open("wb") as file:
            for number in range(size // PIECE):
                file.write(number.to_bytes(8, "big") + piece[8:])
        return self._blobs.adopt(path)

    def files(self, name: str, blobs: Sequence[Blob], names: Sequence[str]) -> None:
        """The same in a directory."""
        place = self._beside / name
        place.mkdir(parents=True)
        for blob, own in zip(blobs, names, strict=True):
            os.link(self._blobs.path(blob.sha256), place / own)

    def folder(self, user: str, blobs: Sequence[Blob], names: Sequence[str]) -> None:
        """A drop folder with an entry for each; `user` is its log-in."""
        folder = Folder(
            client_id=self._client.id, user_name=user, formats=["pdf"], created_at=self._now, version=1,
            last_sequence=len(blobs), last_mtime=int(self._now.timestamp()) + 2,
        )  # fmt: skip
        key = SshKey(
            folder_id=folder.id, fingerprint=self._access.fingerprint, public_key="ssh-ed25519 AAAA", label="bench",
            created_by="bench", created_at=self._now,
        )  # fmt: skip
        password = FolderPassword(
            folder_id=folder.id, label="bench", hash=self._access.password_hash, created_by="bench",
            created_at=self._now,
        )  # fmt: skip
        rows = [
            self._rows(folder.id, number, blob, name)
            for number, (blob, name) in enumerate(zip(blobs, names, strict=True), 1)
        ]

        def step(tx: Any) -> None:
            tx.add(folder)
            tx.flush()
            tx.add_all([key, password])
            for table, column in zip((Document, Delivery, Entry, FolderEvent), zip(*rows, strict=True), strict=True):
                tx.execute(sa.insert(table), list(column))

        self._db.write(step)

    def _rows(self, folder_id: str, number: int, blob: Blob, name: str) -> tuple[dict[str, Any], ...]:
        now = self._now
        document = Document(
            kind=Kind.INVOICE, number=f"F{number:06d}", issue_date=now.date(), type_code="380", seller="534010764",
            key=clock.new_id("key"), client_id=self._client.id, nature=Nature.ORIGINAL, state=DocumentState.SEALED,
            received_sha256=blob.sha256, received_size=blob.size, received_at=now, source="api", facts={},
            sealed_sha256=blob.sha256, sealed_size=blob.size, updated_at=now,
        )  # fmt: skip
        delivery = Delivery(
            document_id=document.id, client_id=self._client.id, channel=Channel.FOLDER, destination=folder_id,
            state=DeliveryState.PUBLISHED, created_at=now, updated_at=now, retry_since=now,
        )  # fmt: skip
        entry = Entry(
            folder_id=folder_id, delivery_id=delivery.id, document_id=document.id, name=name, name_folded=name.lower(),
            format="pdf", sha256=blob.sha256, size=blob.size, mtime=int(now.timestamp()), month=f"{now:%Y-%m}",
            sequence=number,
        )  # fmt: skip
        event = FolderEvent(folder_id=folder_id, sequence=number, event=EventKind.PUBLISHED, entry_id=entry.id, at=now)
        return tuple(row.model_dump() for row in (document, delivery, entry, event))

    def close(self) -> None:
        """A daemon may have it now."""
        self._db.close()


def names(count: int) -> list[str]:
    """As the gateway gives them."""
    return [f"20260302_CARD-S-000101_F2026-{number:06d}_ORIG.pdf" for number in range(1, count + 1)]
