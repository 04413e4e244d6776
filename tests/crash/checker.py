"""What may stand in a state directory at any instant, whenever the power of the process was taken away.

`violations` looks at rows, bytes and records alone, and says in words what no order of steps could have left. It works
on a copy of the database, so that it changes nothing of what the next start finds. records.py holds the ledger against
the rows, witness.py what stands outside the state directory.
"""

import hashlib
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import SQLModel, select

from gateway.domain.deliveries import Attempt, Delivery
from gateway.domain.documents import Document, Seal
from gateway.domain.folders import Entry, Folder, FolderEvent
from gateway.domain.ledger import Record
from gateway.domain.parties import IdempotencyKey, Mailbox
from gateway.domain.states import FINAL_MAIL, Channel, DeliveryState, DocumentState, Kind, Nature
from gateway.store.database import Database, Transaction, sqlite_url
from tests.crash import records

Row = TypeVar("Row", bound=SQLModel)


class State:
    """All rows of one instant. `repeated`: ids that a table has more than once."""

    def __init__(self, tx: Transaction) -> None:
        self.repeated: list[str] = []

        def rows(table: type[Row]) -> Sequence[Row]:
            return tx.exec(select(table)).all()

        def by_id(table: type[Row], key: str = "id") -> dict[str, Row]:
            count = Counter(tx.execute(sa.select(getattr(table, key))).scalars())
            self.repeated += [f"{table.__name__} {id_}" for id_, times in count.items() if times > 1]
            return {getattr(row, key): row for row in rows(table)}

        self.documents = by_id(Document)
        self.seals = by_id(Seal, "document_id")
        self.deliveries = by_id(Delivery)
        self.entries = by_id(Entry)
        self.folders = by_id(Folder)
        self.mailboxes = {box.id: box.address for box in rows(Mailbox)}
        self.kept_answers = rows(IdempotencyKey)
        self.records = list(by_id(Record).values())
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in by_id(Attempt).values():
            self.attempts[attempt.delivery_id].append(attempt)
        self.deliveries_of: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in self.deliveries.values():
            self.deliveries_of[delivery.document_id].append(delivery)
        # The ORM would take two events of one number for one.
        columns = (FolderEvent.folder_id, FolderEvent.sequence, FolderEvent.entry_id, FolderEvent.event)
        self.folder_events = tx.execute(sa.select(*columns).order_by(FolderEvent.sequence)).all()  # type: ignore[call-overload]

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
    return state, list(violations(state, directory / "blobs"))


def violations(state: State, blobs: Path) -> Iterator[str]:
    """Each in words, with the row's id."""
    yield from (f"{row} is there twice" for row in state.repeated)
    yield from _bytes(state, blobs)
    yield from _strangers(state)
    yield from _numbers(state)
    for document in state.documents.values():
        yield from (f"{document.id} ({document.state}): {it}" for it in _document(state, document))
    for delivery in state.deliveries.values():
        if delivery.document_id in state.documents:
            rule = _mail if delivery.channel is Channel.EMAIL else _folder_delivery
            yield from (f"{delivery.id} ({delivery.channel} {delivery.state}): {it}" for it in rule(state, delivery))
    for folder in state.folders.values():
        yield from (f"{folder.id}: {it}" for it in _folder(state, folder))
    yield from records.violations(state)


def _bytes(state: State, blobs: Path) -> Iterator[str]:
    """What rows name is there; whatever is there is whole and in its place, a row's or not: bytes come first."""
    found = {path for path in blobs.rglob("*") if path.is_file() and path.parent != blobs / "scratch"}
    digests = {path.name for path in found}
    for path in found:
        if path != blobs / "objects" / path.name[:2] / path.name or len(path.name) != 64:
            yield f"{path.relative_to(blobs)} has no place there"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            yield f"{path.name}: its bytes have another SHA-256"
    yield from (f"{digest}: a row names it, and there are no such bytes" for digest in _named(state) - digests)


def _named(state: State) -> set[str]:
    """Digests of all bytes that a row names."""
    named = {entry.sha256 for entry in state.entries.values()} | {seal.sha256 for seal in state.seals.values()}
    for document in state.documents.values():
        named |= {document.received_sha256, document.sealed_sha256 or "", document.xml_sha256 or ""}
    return (named | {delivery.message_sha256 or "" for delivery in state.deliveries.values()}) - {""}


def _strangers(state: State) -> Iterator[str]:
    """Rows that belong to a row that is not there."""
    documents, deliveries, folders = state.documents.keys(), state.deliveries.keys(), state.folders.keys()
    entries = state.entries.values()
    belongs: dict[str, tuple[Iterable[str], Iterable[str]]] = {
        "a seal": (state.seals, documents),
        "a delivery": ((one.document_id for one in state.deliveries.values()), documents),
        "an entry of a document": ((one.document_id for one in entries), documents),
        "an entry of a delivery": ((one.delivery_id for one in entries), deliveries),
        "an entry of a folder": ((one.folder_id for one in entries), folders),
        "an attempt": (state.attempts, deliveries),
        "a sequence number": ((event.folder_id for event in state.folder_events), folders),
        "an answer": ((body["id"] for body in _document_answers(state)), documents),
        "a record": ((record.document_id for record in state.records if record.document_id), documents),
    }
    for what, (owners, there) in belongs.items():
        yield from (f"{what} belongs to {owner}, which is not there" for owner in sorted(set(owners) - set(there)))


def _document_answers(state: State) -> Iterator[dict[str, Any]]:
    """Kept answers that are documents; what was ordered of a delivery, say, is answered by another thing."""
    for answer in state.kept_answers:
        if str(answer.body.get("id", "")).startswith("doc_"):
            yield answer.body


def _numbers(state: State) -> Iterator[str]:
    """One document holds a number, and the same bytes are in once."""
    held = Counter(document.accepted_key for document in state.documents.values() if document.accepted_key)
    yield from (f"{key}: accepted {count} times" for key, count in held.items() if count > 1)
    taken = Counter((document.key, document.received_sha256) for document in state.documents.values())
    yield from (f"{key}: the same bytes {count} times" for (key, _), count in taken.items() if count > 1)


def _document(state: State, document: Document) -> Iterator[str]:
    seal = state.seals.get(document.id)
    is_sealed = document.state is DocumentState.SEALED
    is_quarantined = document.state is DocumentState.QUARANTINED
    is_waiting = document.state is DocumentState.WAITING  # for a sealing worker, that was killed while it began
    if document.state not in (DocumentState.RECEIVED, DocumentState.WAITING) and not (is_sealed or is_quarantined):
        yield f"nothing here leads to it: {document.state_reason}"
    if (seal is not None) != is_sealed or (seal.sha256 if seal else None) != document.sealed_sha256:
        yield "state, seal and sealed bytes do not agree"
    channels = sorted(delivery.channel for delivery in state.deliveries_of[document.id])
    if channels != ([Channel.EMAIL, Channel.FOLDER] if is_sealed else []):
        yield f"it has {len(channels)} deliveries"
    key = f"invoice:{document.seller}:{document.issue_date.year}:{document.number}"
    if document.kind is not Kind.INVOICE or document.key != key:
        yield f"it is one of {document.key}"
    # What was accepted keeps its number, in quarantine too when its seal could not be made.
    was_accepted = document.nature is not None
    if document.accepted_key != (document.key if was_accepted else None) or not (was_accepted or is_quarantined):
        yield f"it holds {document.accepted_key}"
    if (is_quarantined or is_waiting) != bool(document.state_reason):
        yield "quarantine without a reason, or a reason without quarantine"
    is_received = document.state is DocumentState.RECEIVED
    to_seal = is_waiting or (is_received and document.nature is Nature.ORIGINAL)
    if to_seal != (document.due_at is not None) or (document.lease_owner and not to_seal):
        yield "its next step and its state do not agree"


def _folder_delivery(state: State, delivery: Delivery) -> Iterator[str]:
    entries = [entry for entry in state.entries.values() if entry.delivery_id == delivery.id]
    document = state.documents[delivery.document_id]
    is_published = delivery.state is DeliveryState.PUBLISHED
    parts = {
        (delivery.destination, document.id, "pdf", document.sealed_sha256, document.sealed_size),
        (delivery.destination, document.id, "xml", document.xml_sha256, document.xml_size),
    }
    expected = parts if is_published else set()
    if delivery.state not in (DeliveryState.PLANNED, DeliveryState.PUBLISHED):
        yield f"nothing here leads to it: {delivery.state_reason}"
    if len(entries) != len(expected) or {_part(entry) for entry in entries} != expected:
        yield f"it has {len(entries)} entries, or other bytes in them than its document"
    if is_published == (delivery.due_at is not None) or delivery.attempts != is_published or delivery.again:
        yield "its next step and its state do not agree"


def _part(entry: Entry) -> tuple[str, str, str, str | None, int | None]:
    return entry.folder_id, entry.document_id, entry.format, entry.sha256, entry.size


def _mail(state: State, delivery: Delivery) -> Iterator[str]:
    attempts = sorted(state.attempts[delivery.id], key=lambda attempt: attempt.number)
    running = [attempt.id for attempt in attempts if attempt.ended_at is None]
    is_running, is_final = delivery.state is DeliveryState.ATTEMPTING, delivery.state in FINAL_MAIL
    if [attempt.number for attempt in attempts] != list(range(1, delivery.attempts + 1)):
        yield "its attempts are not numbered 1, 2, …"
    if running != ([delivery.lease_owner] if is_running else []) or is_running != (delivery.lease_until is not None):
        yield f"{len(running)} attempts run, under the lease of {delivery.lease_owner}"
    if any((attempt.ended_at is None) != (not attempt.outcome) for attempt in attempts):
        yield "an attempt ended without a result, or has one and runs"
    if (delivery.due_at is None) != (is_running or is_final) or is_final != (delivery.final_at is not None):
        yield "its next step and its state do not agree"
    outcomes = [attempt.outcome for attempt in attempts if attempt.ended_at is not None]
    if delivery.maybe_sent != ("uncertain" in outcomes):
        yield "maybe_sent is not what its attempts say"
    if delivery.state is DeliveryState.ACCEPTED and (outcomes[-1:] != ["accepted"] or not delivery.message_sha256):
        yield "accepted without an attempt that says so, or without a message"
    if outcomes.count("accepted") != (delivery.state is DeliveryState.ACCEPTED):
        yield f"{outcomes.count('accepted')} attempts were accepted"
    if bool(delivery.message_sha256) != bool(delivery.message_id) or delivery.destination not in state.mailboxes:
        yield "its message has no name, or no address"
    if delivery.state in (DeliveryState.HELD, DeliveryState.FAILED, DeliveryState.CANCELLED, DeliveryState.BOUNCED):
        yield f"nothing here leads to it: {delivery.state_reason}"


def _folder(state: State, folder: Folder) -> Iterator[str]:
    events = [event for event in state.folder_events if event.folder_id == folder.id]
    if [event.sequence for event in events] != list(range(1, folder.last_sequence + 1)):
        yield f"its sequence has gaps or repeats below {folder.last_sequence}"
    entries = sorted((e for e in state.entries.values() if e.folder_id == folder.id), key=lambda entry: entry.sequence)
    if [(event.sequence, event.entry_id) for event in events] != [(entry.sequence, entry.id) for entry in entries]:
        yield "its sequence and its entries do not agree"
    if len({entry.name_folded for entry in entries}) != len(entries):
        yield "two entries have one name"
    if any(entry.name.lower() != entry.name_folded for entry in entries):
        yield "a name and its folded form do not agree"
    mtimes = [entry.mtime for entry in entries]
    if mtimes != sorted(mtimes) or (mtimes and mtimes[-1] > folder.last_mtime):
        yield "a later entry has an earlier time"
