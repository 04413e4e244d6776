"""What an operator may order of deliveries: retry, cancel, release, send again, withdraw.

Each in one transaction, with its actor and its evidence. Conflict when the state does not allow it, NotFound for
unknown ids.
"""

import datetime as dt

import sqlalchemy as sa
from sqlmodel import col, select

from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.folders import Entry, EventKind, Folder, FolderEvent
from ..domain.parties import Mailbox
from ..domain.states import (
    FOLDER_MOVES,
    Channel,
    DeliveryState,
    DocumentState,
    advance_delivery,
    advance_document,
)
from ..errors import Conflict, NotFound
from ..evidence import Fact, record, record_all
from ..store import database
from ..store.database import Transaction
from . import plan


def retry(tx: Transaction, delivery_id: str, actor: str) -> Delivery:
    """Make a mail delivery that failed, bounced or waits due at once; giving up counts from now."""
    delivery = _delivery(tx, delivery_id)
    _require_not_withdrawn(tx, delivery)
    now = database.now(tx)
    _advance(tx, delivery, "retried", now, actor)
    delivery.due_at = delivery.retry_since = now
    delivery.final_at, delivery.state_reason = None, ""
    return delivery


def cancel(tx: Transaction, delivery_id: str, actor: str, reason: str) -> Delivery:
    """End a delivery that has not left."""
    delivery = _delivery(tx, delivery_id)
    now = database.now(tx)
    _advance(tx, delivery, "cancelled", now, actor, reason)
    delivery.due_at, delivery.final_at, delivery.state_reason = None, now, reason
    return delivery


def release(tx: Transaction, delivery_id: str, actor: str, reason: str = "") -> Delivery:
    """Let a held delivery go. Conflict while its mailbox cannot be written to, or its client is in dry run."""
    delivery = _delivery(tx, delivery_id)
    now = database.now(tx)
    if plan.is_in_dry_run(tx, delivery.client_id):
        raise Conflict(f"this delivery stays held: {plan.DRY_RUN}", code="still_held")
    if delivery.channel is Channel.EMAIL:
        box = tx.get(Mailbox, delivery.destination)
        obstacle = plan.unusable(box) if box is not None else "the address is gone"
        if obstacle:
            raise Conflict(f"this delivery stays held: {obstacle}", code="still_held")
    _advance(tx, delivery, "released", now, actor, reason)
    delivery.due_at, delivery.state_reason = now, ""
    return delivery


def send_again(tx: Transaction, delivery_id: str, actor: str, reason: str) -> str:
    """A new delivery, marked `again`, of the same document to the same destination; its id. Never automatic."""
    before = _delivery(tx, delivery_id)
    document = _require_not_withdrawn(tx, before)
    (new,) = plan.again(tx, [document], before.channel, before.destination, database.now(tx))
    record(tx, "delivery.ordered_again", new, document=document.id, actor=actor, reason=reason, of=before.id)
    return new


def withdraw(tx: Transaction, document_id: str, actor: str, reason: str) -> Document:
    """Take a document from its client's inbox and archive (wrong recipient). Bytes and facts stay; it recalls no mail.

    Mail that has left cannot be recalled: those deliveries keep their state, and the record names them.
    """
    document = tx.exec(select(Document).where(Document.id == document_id).with_for_update()).first()
    if document is None:
        raise NotFound("no such document")
    now = database.now(tx)
    document.state = advance_document(document.state, "withdrawn")
    document.state_reason, document.due_at = reason, None
    document.updated_at, document.row_version = now, document.row_version + 1
    gone = [d for d in _deliveries(tx, document_id) if not _stop(tx, d, now, actor, reason)]
    _withdraw_entries(tx, document_id, now)
    record(
        tx,
        "document.withdrawn",
        document.id,
        document=document.id,
        actor=actor,
        reason=reason,
        mail_that_left=[d.id for d in gone],
    )
    return document


def _stop(tx: Transaction, delivery: Delivery, now: dt.datetime, actor: str, reason: str) -> bool:
    """Withdraw or cancel a delivery of a withdrawn document; False when it has left by mail."""
    if delivery.channel is Channel.FOLDER:
        if (delivery.state, "withdrawn") in FOLDER_MOVES:
            _advance(tx, delivery, "withdrawn", now, actor, reason)
            delivery.due_at, delivery.final_at = None, now
        return True
    try:
        _advance(tx, delivery, "cancelled", now, actor, reason)
    except Conflict:
        return delivery.state in (DeliveryState.CANCELLED, DeliveryState.FAILED, DeliveryState.BOUNCED)
    delivery.due_at, delivery.final_at = None, now
    return True


def _require_not_withdrawn(tx: Transaction, delivery: Delivery) -> Document:
    """The delivery's document, held so that nobody withdraws it meanwhile."""
    query = select(Document).where(Document.id == delivery.document_id)
    document = tx.exec(query.with_for_update(key_share=True)).one()
    if document.state is DocumentState.WITHDRAWN:
        raise Conflict("the document was withdrawn: it is not sent again", code="document_withdrawn")
    return document


def _withdraw_entries(tx: Transaction, document_id: str, now: dt.datetime) -> None:
    entries = tx.exec(
        select(Entry)
        .where(Entry.document_id == document_id, col(Entry.withdrawn_at).is_(None))
        .order_by(col(Entry.folder_id), col(Entry.sequence))
    ).all()
    for entry in entries:
        sequence = tx.execute(
            sa.update(Folder)
            .where(col(Folder.id) == entry.folder_id)
            .values(last_sequence=col(Folder.last_sequence) + 1, version=col(Folder.version) + 1)
            .returning(col(Folder.last_sequence))
        ).scalar_one()
        tx.add(
            FolderEvent(
                folder_id=entry.folder_id, sequence=sequence, event=EventKind.WITHDRAWN, entry_id=entry.id, at=now
            )
        )
        entry.withdrawn_at, entry.listed = now, False
    tx.flush()
    record_all(tx, [Fact("entry.withdrawn", e.id, document_id, {"folder_id": e.folder_id}) for e in entries])


def _advance(tx: Transaction, delivery: Delivery, event: str, now: dt.datetime, actor: str, reason: str = "") -> None:
    before = delivery.state
    delivery.state = advance_delivery(delivery.channel, delivery.state, event)
    delivery.updated_at, delivery.row_version = now, delivery.row_version + 1
    record(
        tx, f"delivery.{event}", delivery.id, document=delivery.document_id, actor=actor, reason=reason, before=before
    )


def _delivery(tx: Transaction, delivery_id: str) -> Delivery:
    delivery = tx.exec(select(Delivery).where(Delivery.id == delivery_id).with_for_update()).first()
    if delivery is None:
        raise NotFound("no such delivery")
    return delivery


def _deliveries(tx: Transaction, document_id: str) -> list[Delivery]:
    return list(tx.exec(select(Delivery).where(Delivery.document_id == document_id).with_for_update()).all())
