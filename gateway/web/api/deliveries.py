"""Deliveries and their attempts: the queue as operators and clients see it, and what operators order of it."""

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from ...access import Permission
from ...delivery import orders
from ...domain.deliveries import Attempt, Delivery
from ...domain.documents import Document
from ...domain.folders import Folder
from ...domain.parties import Mailbox
from ...domain.states import Channel, DeliveryState
from ...dropfolder import receipts
from ...store.database import Transaction
from .. import pages, visible
from ..calls import Answer, Call
from ..login import Needs
from ..pages import Listing, Page
from . import API

routes = APIRouter(prefix=f"{API}/deliveries", tags=["deliveries"])
Reading = Annotated[Call, Depends(Needs(Permission.DOCUMENTS_READ))]
Acknowledging = Annotated[Call, Depends(Needs(Permission.DELIVERIES_ACKNOWLEDGE))]
Ordering = Annotated[Call, Depends(Needs(Permission.DELIVERIES_MANAGE))]


class DeliveryShown(BaseModel):
    """One document to one destination over one channel."""

    id: str
    document: str
    number: str
    client: str
    channel: Channel
    destination: str | None = Field(description="Mail address, or user name of the folder; null once erased")
    destination_id: str
    again: int
    state: DeliveryState
    state_reason: str
    message_id: str
    attempts: int
    last_reply: str
    maybe_sent: bool = Field(description="An attempt ended uncertain: the client may have it, and may get it twice")
    due_at: dt.datetime | None = Field(description="When the gateway does something about it by itself")
    created_at: dt.datetime
    updated_at: dt.datetime


class AttemptShown(BaseModel):
    """One try. `outcome` is empty while it runs."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    started_at: dt.datetime
    ended_at: dt.datetime | None
    outcome: str
    phase: str
    relay: str
    reply: str
    tls: str
    duration_ms: int | None
    late: bool


class DeliveryWhole(DeliveryShown):
    """A delivery with its attempts."""

    attempt_list: list[AttemptShown]


class DeliveryFilter(Listing):
    """Which deliveries."""

    state: DeliveryState | None = None
    channel: Channel | None = None
    client: str | None = Field(None, max_length=40, description="Id of the client")
    document: str | None = Field(None, max_length=40, description="Id of the document")
    number: str | None = Field(None, max_length=40, description="Number of the document")


class Remark(BaseModel):
    """Why, if there is something to say."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str = Field("", max_length=500)


@routes.get("", response_model=Page[DeliveryShown])
async def find(call: Reading, wanted: Annotated[DeliveryFilter, Query()]) -> Response:
    """Deliveries, the newest first."""
    return await call.answer(lambda tx: _page(tx, call, wanted))


def _page(tx: Transaction, call: Call, wanted: DeliveryFilter) -> dict[str, Any]:
    conditions = pages.equal(
        (Delivery.state, wanted.state),
        (Delivery.channel, wanted.channel),
        (Delivery.client_id, wanted.client),
        (Delivery.document_id, wanted.document),
        (Document.number, wanted.number),
    )
    if (after := wanted.after) is not None:
        conditions.append(col(Delivery.id) < after)
    query = _select().where(visible.documents(call.actor), *conditions).order_by(col(Delivery.id).desc())
    rows, more = pages.cut(tx.execute(query.limit(wanted.limit + 1)).all(), wanted)
    return {
        "items": [_shown(*row) for row in rows],
        "next_cursor": pages.encode(rows[-1][0].id) if more else None,
    }


def _select() -> Any:
    return (
        sa.select(Delivery, col(Document.number), col(Mailbox.address), col(Folder.user_name))
        .join(Document, col(Document.id) == col(Delivery.document_id))
        .outerjoin(Mailbox, col(Mailbox.id) == col(Delivery.destination))
        .outerjoin(Folder, col(Folder.id) == col(Delivery.destination))
    )


def _shown(delivery: Delivery, number: str, address: str | None, user_name: str | None) -> dict[str, Any]:
    return DeliveryShown(
        document=delivery.document_id,
        number=number,
        client=delivery.client_id,
        destination=address or user_name,
        destination_id=delivery.destination,
        **{name: getattr(delivery, name) for name in _SAME},
    ).model_dump(mode="json")


_OTHERWISE = {"document", "number", "client", "destination", "destination_id"}
_SAME = [name for name in DeliveryShown.model_fields if name not in _OTHERWISE]


@routes.get("/{delivery_id}", response_model=DeliveryWhole)
async def one(call: Reading, delivery_id: str) -> Response:
    """One delivery with its attempts."""
    return await call.show(lambda tx: _whole(tx, visible.delivery(tx, call.actor, delivery_id)))


def _whole(tx: Transaction, delivery: Delivery) -> Answer:
    tx.flush()
    row = tx.execute(_select().where(col(Delivery.id) == delivery.id)).one()
    attempts = tx.exec(select(Attempt).where(Attempt.delivery_id == delivery.id).order_by(col(Attempt.number)))
    listed = [AttemptShown.model_validate(attempt).model_dump(mode="json") for attempt in attempts]
    return Answer(_shown(*row) | {"attempt_list": listed}, delivery.row_version)


@routes.post("/{delivery_id}/acknowledge", response_model=DeliveryWhole)
async def acknowledge(call: Acknowledging, delivery_id: str) -> Response:
    """Say that a document arrived: the receipt of folders whose receipts are given by API; once is enough."""

    def step(tx: Transaction) -> Answer:
        delivery = visible.delivery(tx, call.actor, delivery_id)
        receipts.acknowledge(tx, delivery_id, call.actor.id)
        tx.refresh(delivery)
        return _whole(tx, delivery)

    return await call.change(step)


@routes.post("/{delivery_id}/retry", response_model=DeliveryWhole)
async def retry(call: Ordering, delivery_id: str) -> Response:
    """Try a mail delivery at once: one that failed, bounced, or waits for its next attempt."""
    return await _order(call, delivery_id, lambda tx: orders.retry(tx, delivery_id, call.actor.id))


@routes.post("/{delivery_id}/cancel", response_model=DeliveryWhole)
async def cancel(call: Ordering, delivery_id: str, body: Remark | None = None) -> Response:
    """End a delivery that has not left."""
    reason = body.reason if body else ""
    return await _order(call, delivery_id, lambda tx: orders.cancel(tx, delivery_id, call.actor.id, reason))


@routes.post("/{delivery_id}/release", response_model=DeliveryWhole)
async def release(call: Ordering, delivery_id: str, body: Remark | None = None) -> Response:
    """Let a held delivery go."""
    reason = body.reason if body else ""
    return await _order(call, delivery_id, lambda tx: orders.release(tx, delivery_id, call.actor.id, reason))


async def _order(call: Call, delivery_id: str, act: Callable[[Transaction], Delivery]) -> Response:
    def step(tx: Transaction) -> Answer:
        call.require_match(visible.delivery(tx, call.actor, delivery_id).row_version)
        return _whole(tx, act(tx))

    ordered = await call.change(step)
    call.parts.wake()
    return ordered
