"""What operators decide about a document: the exits of quarantine, withdrawal, another delivery. Each has a reason."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from ...access import Permission
from ...delivery import orders
from ...domain.deliveries import Delivery
from ...domain.documents import Document
from ...domain.states import Channel
from ...errors import Conflict
from ...intake import quarantine
from ...store.database import Transaction
from .. import visible
from ..calls import Answer, Call
from ..login import Needs
from . import API
from .documents import DocumentShown, answer

routes = APIRouter(prefix=f"{API}/documents/{{document_id}}", tags=["documents"])
Deciding = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_DECIDE))]
Ordering = Annotated[Call, Depends(Needs(Permission.DELIVERIES_MANAGE))]


class Reason(BaseModel):
    """Why; it goes into the evidence."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str = Field(min_length=1, max_length=500)


class Again(Reason):
    """Another delivery, to each destination that the document had, or to those of one channel."""

    channel: Channel | None = None


class Ordered(BaseModel):
    """The new deliveries."""

    deliveries: list[str]


@routes.post("/accept", response_model=DocumentShown)
async def accept(call: Deciding, document_id: str, body: Reason) -> Response:
    """Let a quarantined document go on, as if it had just come in."""
    channel = call.parts.settings.issuer.original_channel
    return await _decide(
        call, document_id, lambda tx: quarantine.accept(tx, document_id, call.actor.id, body.reason, channel)
    )


@routes.post("/reject", response_model=DocumentShown)
async def reject(call: Deciding, document_id: str, body: Reason) -> Response:
    """End a quarantined document; its bytes stay as evidence."""
    return await _decide(call, document_id, lambda tx: quarantine.reject(tx, document_id, call.actor.id, body.reason))


@routes.post("/replace", response_model=DocumentShown)
async def replace(call: Deciding, document_id: str, body: Reason) -> Response:
    """Make a quarantined document the next version of the one that holds its number, while nothing of that one left."""
    channel = call.parts.settings.issuer.original_channel
    return await _decide(
        call, document_id, lambda tx: quarantine.replace(tx, document_id, call.actor.id, body.reason, channel)
    )


@routes.post("/withdraw", response_model=DocumentShown)
async def withdraw(call: Deciding, document_id: str, body: Reason) -> Response:
    """Take a document from its client's inbox and archive. It recalls no mail; its bytes and facts stay."""
    return await _decide(call, document_id, lambda tx: orders.withdraw(tx, document_id, call.actor.id, body.reason))


async def _decide(call: Call, document_id: str, act: Callable[[Transaction], Document]) -> Response:
    def step(tx: Transaction) -> Answer:
        call.require_match(visible.document(tx, call.actor, document_id).row_version)
        return answer(tx, act(tx))

    decided = await call.change(step)
    call.parts.wake()
    return decided


@routes.post("/send-again", status_code=201, response_model=Ordered)
async def send_again(call: Ordering, document_id: str, body: Again) -> Response:
    """Deliver the document once more, marked as a repeat."""

    def step(tx: Transaction) -> Answer:
        visible.document(tx, call.actor, document_id)
        new = [
            orders.send_again(tx, delivery.id, call.actor.id, body.reason)
            for delivery in _newest(tx, document_id, body.channel)
        ]
        if not new:
            raise Conflict("this document has no delivery to repeat", code="no_delivery")
        shown: dict[str, Any] = Ordered(deliveries=new).model_dump()
        return Answer(shown, status=201)

    ordered = await call.change(step)
    call.parts.wake()
    return ordered


def _newest(tx: Transaction, document_id: str, channel: Channel | None) -> list[Delivery]:
    """The last delivery to each destination."""
    query = select(Delivery).where(Delivery.document_id == document_id).order_by(col(Delivery.again), col(Delivery.id))
    if channel is not None:
        query = query.where(Delivery.channel == channel)
    return list({delivery.destination: delivery for delivery in tx.exec(query)}.values())
