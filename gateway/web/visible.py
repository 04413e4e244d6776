"""What of documents and deliveries exists for a caller: decided here, for lists and single things alike.

An operator sees all. A client sees its own, without those that wait in quarantine or were withdrawn from it; the
answer for what is not its own is the answer for what does not exist.
"""

from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from ..access import Actor
from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.states import DocumentState
from ..errors import NotFound
from ..store.database import Transaction

_HIDDEN = (DocumentState.QUARANTINED, DocumentState.WITHDRAWN)


def documents(actor: Actor) -> "sa.ColumnElement[bool]":
    """The condition on Document that the actor's eyes put into every query."""
    if actor.client_id is None:
        return sa.true()
    return sa.and_(col(Document.client_id) == actor.client_id, col(Document.state).not_in(_HIDDEN))


def document(tx: Transaction, actor: Actor, document_id: str) -> Document:
    """One document; NotFound."""
    found: Any = tx.execute(sa.select(Document).where(col(Document.id) == document_id, documents(actor))).first()
    if found is None:
        raise NotFound("no such document")
    row: Document = found[0]
    return row


def delivery(tx: Transaction, actor: Actor, delivery_id: str) -> Delivery:
    """One delivery of a document that the actor sees; NotFound."""
    query = (
        sa.select(Delivery)
        .join(Document, col(Document.id) == col(Delivery.document_id))
        .where(col(Delivery.id) == delivery_id, documents(actor))
    )
    found: Any = tx.execute(query).first()
    if found is None or not actor.sees(found[0].client_id):
        raise NotFound("no such delivery")
    row: Delivery = found[0]
    return row
