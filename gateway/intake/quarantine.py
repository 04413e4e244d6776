"""The three exits of quarantine, each with an operator and a reason: accept, reject, replace.

Accept: the document goes its way as if it had just come in. Reject: it ends here, its bytes stay as evidence.
Replace: it becomes version 2 of the document that holds its number, only while nothing of version 1 was published or
sent; version 1 is kept. Conflict says why an exit is closed.
"""

import datetime as dt

from sqlmodel import col, select

from ..delivery import orders, plan
from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.states import DeliveryState, DocumentState, advance_document
from ..errors import Conflict, NotFound
from ..evidence import record
from ..store import database
from ..store.database import Transaction
from .accept import settle_nature

_NOT_LEFT = (DeliveryState.PLANNED, DeliveryState.HELD, DeliveryState.CANCELLED)


def accept(tx: Transaction, document_id: str, actor: str, reason: str, default_channel: str) -> Document:
    """Let a quarantined document go on; Conflict while another one holds its number."""
    document = _quarantined(tx, document_id)
    holder = _holder_of(tx, document)
    if holder is not None:
        raise Conflict(
            f"{document.number} is held by document {holder.id}: replace that one, or reject this one",
            code="number_taken",
        )
    _go_on(tx, document, "accepted", actor, reason, default_channel)
    return document


def reject(tx: Transaction, document_id: str, actor: str, reason: str) -> Document:
    """End a quarantined document."""
    document = _quarantined(tx, document_id)
    document.state = advance_document(document.state, "rejected")
    document.state_reason, document.accepted_key = f"rejected: {reason}"[:1000], None
    _touch(document, database.now(tx))
    record(tx, "document.rejected", document.id, document=document.id, actor=actor, reason=reason)
    return document


def replace(tx: Transaction, document_id: str, actor: str, reason: str, default_channel: str) -> Document:
    """Make a quarantined document version 2 of the one that holds its number."""
    document = _quarantined(tx, document_id)
    first = _holder_of(tx, document)
    if first is None:
        raise Conflict(f"no accepted document holds {document.number}: there is nothing to replace")
    _stop(tx, first, document, actor, reason)
    document.version, document.replaces_id = first.version + 1, first.id
    _go_on(tx, document, "accepted", actor, reason, default_channel)
    return document


def _stop(tx: Transaction, first: Document, second: Document, actor: str, reason: str) -> None:
    deliveries = tx.exec(select(Delivery).where(Delivery.document_id == first.id).with_for_update()).all()
    left = [delivery for delivery in deliveries if delivery.state not in _NOT_LEFT]
    if left:
        raise Conflict(
            f"document {first.id} has left ({len(left)} deliveries): issue a credit note or a corrected invoice",
            code="already_left",
        )
    for delivery in deliveries:
        if delivery.state is not DeliveryState.CANCELLED:
            orders.cancel(tx, delivery.id, actor, f"replaced by version {first.version + 1}")
    first.state = advance_document(first.state, "replaced")
    first.state_reason, first.accepted_key, first.due_at = f"replaced by document {second.id}", None, None
    _touch(first, database.now(tx))
    tx.flush()  # its number must be free before the second takes it
    record(tx, "document.replaced", first.id, document=first.id, actor=actor, reason=reason, by=second.id)


def _go_on(tx: Transaction, document: Document, event: str, actor: str, reason: str, default_channel: str) -> None:
    now = database.now(tx)
    document.state = advance_document(document.state, event)
    document.state_reason = ""
    settle_nature(tx, document, default_channel, now)
    _touch(document, now)
    record(
        tx,
        "document.accepted",
        document.id,
        document=document.id,
        actor=actor,
        reason=reason,
        version=document.version,
        nature=document.nature,
        nature_reason=document.nature_reason,
    )
    if document.nature is None:
        plan.plan(tx, [document], now)


def _quarantined(tx: Transaction, document_id: str) -> Document:
    document = tx.exec(select(Document).where(Document.id == document_id).with_for_update()).first()
    if document is None:
        raise NotFound("no such document")
    if document.state is not DocumentState.QUARANTINED:
        raise Conflict(f"this document is {document.state}, not quarantined")
    return document


def _holder_of(tx: Transaction, document: Document) -> Document | None:
    query = select(Document).where(Document.accepted_key == document.key, col(Document.id) != document.id)
    return tx.exec(query.with_for_update()).first()


def _touch(document: Document, now: dt.datetime) -> None:
    document.updated_at, document.row_version = now, document.row_version + 1
