"""What may stand in a state directory at any instant, whenever the power of the process was taken away.

`violations` looks at rows, bytes and records alone, and says in words what no order of steps could have left. It works
on a copy of the database, so that it changes nothing of what the next start finds.
"""

import hashlib
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from sqlmodel import SQLModel, select

from gateway.domain.deliveries import Attempt, Delivery
from gateway.domain.documents import Document, Seal
from gateway.domain.folders import Entry, Folder, FolderEvent
from gateway.domain.ledger import Record
from gateway.domain.states import FINAL_MAIL, Channel, DeliveryState, DocumentState, Nature
from gateway.store.database import Database, Transaction, sqlite_url

Row = TypeVar("Row", bound=SQLModel)


class State:
    """All rows of one instant."""

    def __init__(self, tx: Transaction) -> None:
        def rows(table: type[Row]) -> Sequence[Row]:
            return tx.exec(select(table)).all()

        self.documents = {document.id: document for document in rows(Document)}
        self.seals = {seal.document_id: seal for seal in rows(Seal)}
        self.deliveries = {delivery.id: delivery for delivery in rows(Delivery)}
        self.folders = rows(Folder)
        self.folder_events = rows(FolderEvent)
        self.entries = {entry.id: entry for entry in rows(Entry)}
        self.records = rows(Record)
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in rows(Attempt):
            self.attempts[attempt.delivery_id].append(attempt)
        self.recorded = Counter((record.subject, record.event) for record in self.records)

    @classmethod
    def of(cls, directory: Path) -> "State":
        """Of a state directory whose daemon is gone, or runs."""
        with tempfile.TemporaryDirectory() as copy:
            for path in directory.glob("gateway.db*"):
                if not path.name.endswith("-shm"):  # it is made anew from the log
                    shutil.copy(path, copy)
            db = Database.open(sqlite_url(Path(copy) / "gateway.db"))
            try:
                return db.read(cls)
            finally:
                db.close()


def check_state(directory: Path) -> tuple[State, list[str]]:
    """The state directory's rows, and what is wrong with them and their bytes."""
    state = State.of(directory)
    return state, list(violations(state, directory / "blobs" / "objects"))


def violations(state: State, objects: Path) -> Iterator[str]:
    """Each in words, with the row's id."""
    yield from (f"{digest}: {problem}" for digest in _digests(state) if (problem := _damage(objects, digest)))
    for record in state.records:
        if hashlib.sha256(record.body.encode()).hexdigest() != record.sha256:
            yield f"{record.id}: its SHA-256 is another than its body's"
    taken = Counter(document.accepted_key for document in state.documents.values() if document.accepted_key)
    yield from (f"{key}: accepted {count} times" for key, count in taken.items() if count > 1)
    of_document: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in state.deliveries.values():
        of_document[delivery.document_id].append(delivery)
    for document in state.documents.values():
        yield from (f"{document.id} ({document.state}): {it}" for it in _document(state, document, of_document))
    for delivery in state.deliveries.values():
        rule = _mail if delivery.channel is Channel.EMAIL else _folder_delivery
        yield from (f"{delivery.id} ({delivery.channel} {delivery.state}): {it}" for it in rule(state, delivery))
    for folder in state.folders:
        yield from (f"{folder.id}: {it}" for it in _folder(state, folder))


def _digests(state: State) -> set[str]:
    """Of all bytes that a row names."""
    found = {entry.sha256 for entry in state.entries.values()} | {seal.sha256 for seal in state.seals.values()}
    for document in state.documents.values():
        found |= {document.received_sha256, document.sealed_sha256 or "", document.xml_sha256 or ""}
    return (found | {delivery.message_sha256 or "" for delivery in state.deliveries.values()}) - {""}


def _damage(objects: Path, digest: str) -> str:
    path = objects / digest[:2] / digest
    if not path.exists():
        return "a row names it, and there are no such bytes"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == digest else "its bytes have another SHA-256"


def _document(state: State, document: Document, of_document: dict[str, list[Delivery]]) -> Iterator[str]:
    deliveries, seal = of_document[document.id], state.seals.get(document.id)
    is_sealed = document.state is DocumentState.SEALED
    is_quarantined = document.state is DocumentState.QUARANTINED
    if document.state not in (DocumentState.RECEIVED, DocumentState.SEALED, DocumentState.QUARANTINED):
        yield f"nothing here leads to it: {document.state_reason}"
    if (seal is not None) != is_sealed or (seal.sha256 if seal else None) != document.sealed_sha256:
        yield "state, seal and sealed bytes do not agree"
    if sorted(delivery.channel for delivery in deliveries) != (["email", "folder"] if is_sealed else []):
        yield f"it has {len(deliveries)} deliveries"
    if is_quarantined == (document.accepted_key is not None) or is_quarantined != bool(document.state_reason):
        yield "quarantine without a reason, or holding the number"
    to_seal = document.state is DocumentState.RECEIVED and document.nature is Nature.ORIGINAL
    if to_seal != (document.due_at is not None) or (document.lease_owner and not to_seal):
        yield "its next step and its state do not agree"
    for event, count in (("received", 1), ("sealed", is_sealed), ("quarantined", is_quarantined)):
        if state.recorded[document.id, f"document.{event}"] != count:
            yield f"{state.recorded[document.id, f'document.{event}']} records of document.{event}"


def _folder_delivery(state: State, delivery: Delivery) -> Iterator[str]:
    entries = [entry for entry in state.entries.values() if entry.delivery_id == delivery.id]
    document = state.documents[delivery.document_id]
    is_published = delivery.state is DeliveryState.PUBLISHED
    expected = {("pdf", document.sealed_sha256), ("xml", document.xml_sha256)} if is_published else set()
    if delivery.state not in (DeliveryState.PLANNED, DeliveryState.PUBLISHED):
        yield f"nothing here leads to it: {delivery.state_reason}"
    if len(entries) != len(expected) or {(entry.format, entry.sha256) for entry in entries} != expected:
        yield f"it has {len(entries)} entries"
    if is_published == (delivery.due_at is not None) or delivery.attempts != is_published:
        yield "its next step and its state do not agree"
    if state.recorded[delivery.id, "delivery.planned"] != 1:
        yield "its planning is not recorded once"
    if state.recorded[delivery.id, "delivery.published"] != len(expected):
        yield "its publication is not recorded once for each entry"


def _mail(state: State, delivery: Delivery) -> Iterator[str]:
    attempts = sorted(state.attempts[delivery.id], key=lambda attempt: attempt.number)
    running = [attempt.id for attempt in attempts if attempt.ended_at is None]
    is_running, is_final = delivery.state is DeliveryState.ATTEMPTING, delivery.state in FINAL_MAIL
    if [attempt.number for attempt in attempts] != list(range(1, delivery.attempts + 1)):
        yield "its attempts are not numbered 1, 2, …"
    if running != ([delivery.lease_owner] if is_running else []) or is_running != (delivery.lease_until is not None):
        yield f"{len(running)} attempts run, under the lease of {delivery.lease_owner}"
    if (delivery.due_at is None) != (is_running or is_final) or is_final != (delivery.final_at is not None):
        yield "its next step and its state do not agree"
    outcomes = [attempt.outcome for attempt in attempts if attempt.ended_at is not None]
    if delivery.maybe_sent != ("uncertain" in outcomes):
        yield "maybe_sent is not what its attempts say"
    if delivery.state is DeliveryState.ACCEPTED and (outcomes[-1:] != ["accepted"] or not delivery.message_sha256):
        yield "accepted without an attempt that says so, or without a message"
    if outcomes.count("accepted") != (delivery.state is DeliveryState.ACCEPTED):
        yield f"{outcomes.count('accepted')} attempts were accepted"
    if delivery.state in (DeliveryState.HELD, DeliveryState.FAILED, DeliveryState.CANCELLED, DeliveryState.BOUNCED):
        yield f"nothing here leads to it: {delivery.state_reason}"
    expected = Counter({"planned": 1, "attempting": len(attempts)}) + Counter(outcomes)
    for event in ("planned", "attempting", "accepted", "deferred", "uncertain"):
        if state.recorded[delivery.id, f"delivery.{event}"] != expected[event]:
            yield f"{state.recorded[delivery.id, f'delivery.{event}']} records of delivery.{event}"


def _folder(state: State, folder: Folder) -> Iterator[str]:
    events = sorted((e for e in state.folder_events if e.folder_id == folder.id), key=lambda event: event.sequence)
    if [event.sequence for event in events] != list(range(1, folder.last_sequence + 1)):
        yield f"its sequence has gaps below {folder.last_sequence}"
    entries = [entry for entry in state.entries.values() if entry.folder_id == folder.id]
    if [event.entry_id for event in events] != [e.id for e in sorted(entries, key=lambda entry: entry.sequence)]:
        yield "its sequence and its entries do not agree"
    if len({entry.name_folded for entry in entries}) != len(entries):
        yield "two entries have one name"
    mtimes = [state.entries[event.entry_id].mtime for event in events if event.entry_id in state.entries]
    if mtimes != sorted(mtimes) or (mtimes and mtimes[-1] > folder.last_mtime):
        yield "a later entry has an earlier time"
