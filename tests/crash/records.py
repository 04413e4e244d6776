"""The ledger against the rows: each fact is recorded once, in its order, and says what its row says."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gateway.domain.deliveries import Delivery
from gateway.domain.documents import Document
from gateway.domain.ledger import Record
from gateway.domain.states import Channel, DocumentState
from gateway.evidence import canonical

if TYPE_CHECKING:
    from tests.crash.checker import State

_RECEIVED = (
    "kind", "number", "issue_date", "seller", "contract_id", "company_id", "client_id", "total", "currency",
    "nature", "nature_reason", "subscription_id", "source",
)  # fmt: skip
_SEALED = (
    "sha256", "level", "made_by", "signer", "signer_issuer", "signer_serial", "certificate_sha256", "sealed_at",
)  # fmt: skip
_LIFE = ("document.received", "document.sealed", "delivery.planned", "message.composed")
Told = dict[tuple[str, str], list[dict[str, Any]]]  # what the records of (subject, event) say


def violations(state: "State") -> Iterator[str]:
    """Each in words, with the id of the record, or of the row of which a record is missing or says something else."""
    told: Told = defaultdict(list)
    for record in sorted(state.records, key=lambda one: one.id):
        body = json.loads(record.body)
        told[record.subject, record.event].append(body["facts"])
        yield from (f"{record.id} ({record.event}): {it}" for it in _record(record, body))
    for document in state.documents.values():
        yield from (f"{document.id}: {it}" for it in _document(state, document, told))
    for delivery in state.deliveries.values():
        yield from (f"{delivery.id}: {it}" for it in _delivery(state, delivery, told))
    yield from _order(state)


def _record(record: Record, body: dict[str, Any]) -> Iterator[str]:
    if hashlib.sha256(record.body.encode()).hexdigest() != record.sha256:
        yield "its SHA-256 is another than its body's"
    row = {"id": record.id, "at": record.at, "event": record.event, "subject": record.subject}
    if _plain(row | {"document": record.document_id}) != {key: body[key] for key in body if key != "facts"}:
        yield "its row and its body do not agree"


def _counted(told: Told, subject: str, expected: dict[str, int]) -> Iterator[str]:
    for event, count in expected.items():
        if len(told[subject, event]) != count:
            yield f"{len(told[subject, event])} records of {event}, not {count}"


def _document(state: "State", document: Document, told: Told) -> Iterator[str]:
    seal = state.seals.get(document.id)
    is_quarantined = document.state is DocumentState.QUARANTINED
    counts = {"document.received": 1, "document.sealed": int(seal is not None)}
    yield from _counted(told, document.id, counts | {"document.quarantined": int(is_quarantined)})
    received = {name: getattr(document, name) for name in _RECEIVED}
    received |= {"sha256": document.received_sha256, "size": document.received_size}
    yield from _differs(told[document.id, "document.received"], received, "document.received")
    if seal is not None:
        sealed = {name: getattr(seal, name) for name in _SEALED} | {"size": document.sealed_size}
        sealed["verification_sha256"] = hashlib.sha256(canonical(seal.verification).encode()).hexdigest()
        yield from _differs(told[document.id, "document.sealed"], sealed, "document.sealed")
    if document.state is DocumentState.WAITING and not told[document.id, "document.waiting"]:
        yield "0 records of document.waiting"
    if is_quarantined:
        reason = {"reason": document.state_reason}
        yield from _differs(told[document.id, "document.quarantined"], reason, "document.quarantined")


def _delivery(state: "State", delivery: Delivery, told: Told) -> Iterator[str]:
    planned = {name: getattr(delivery, name) for name in ("channel", "destination", "again", "settings_id")}
    yield from _counted(told, delivery.id, {"delivery.planned": 1})
    yield from _differs(told[delivery.id, "delivery.planned"], planned, "delivery.planned")
    yield from (_mail if delivery.channel is Channel.EMAIL else _publication)(state, delivery, told)


def _publication(state: "State", delivery: Delivery, told: Told) -> Iterator[str]:
    entries = [entry for entry in state.entries.values() if entry.delivery_id == delivery.id]
    yield from _counted(told, delivery.id, {"delivery.published": len(entries)})
    published = told[delivery.id, "delivery.published"]
    for entry in entries:
        names = ("folder_id", "name", "sequence", "mtime", "sha256", "size")
        expected = {name: getattr(entry, name) for name in names} | {"entry": entry.id}
        of_it = [facts for facts in published if facts["entry"] == entry.id]
        yield from _differs(of_it, expected, "delivery.published")


def _mail(state: "State", delivery: Delivery, told: Told) -> Iterator[str]:
    attempts = state.attempts[delivery.id]
    outcomes = Counter(attempt.outcome for attempt in attempts)
    counts = {f"delivery.{event}": outcomes[event] for event in ("accepted", "deferred", "uncertain")}
    counts |= {"delivery.attempting": len(attempts), "message.composed": int(bool(delivery.message_sha256))}
    yield from _counted(told, delivery.id, counts)
    for attempt in attempts:
        begun = [facts for facts in told[delivery.id, "delivery.attempting"] if facts["attempt"] == attempt.id]
        yield from _differs(begun, {"number": attempt.number}, "delivery.attempting")
        event = f"delivery.{attempt.outcome}"
        if attempt.outcome and attempt.id not in [facts["attempt"] for facts in told[delivery.id, event]]:
            yield f"no record of {event} speaks of {attempt.id}"
    composed = {"sha256": delivery.message_sha256, "size": delivery.message_size, "message_id": delivery.message_id}
    yield from _differs(told[delivery.id, "message.composed"], composed, "message.composed")


def _differs(told: list[dict[str, Any]], expected: dict[str, Any], event: str) -> Iterator[str]:
    for facts in told:
        wrong = {name for name, value in _plain(expected).items() if facts.get(name) != value}
        if wrong:
            yield f"the record of {event} says something else than the row of {', '.join(sorted(wrong))}"


def _order(state: "State") -> Iterator[str]:
    """Ids sort by time: what was recorded first of a document's life is first."""
    first: dict[str, dict[str, str]] = defaultdict(dict)
    for record in sorted(state.records, key=lambda one: one.id):
        if record.document_id:
            first[record.document_id].setdefault(record.event, record.id)
    for document_id, seen in first.items():
        life = [seen[event] for event in _LIFE if event in seen]
        left = [seen[event] for event in ("delivery.published", "delivery.attempting") if event in seen]
        if life != sorted(life) or min(seen.values()) != life[0] or (left and min(left) < seen["delivery.planned"]):
            yield f"{document_id}: its records are not in the order of its life"


def _plain(facts: dict[str, Any]) -> Any:
    """As records spell it."""
    return json.loads(canonical(facts))
