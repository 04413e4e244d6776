"""What leaves the inbox by itself: entries that nobody received in time. The archive keeps them.

For a folder without receipts this is how every delivery ends. A delivery whose files the client removed unread ends
with it too. In a folder that waits for a removal after a full read, an entry that was fully read is received by it.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain.states import Channel, DeliveryState, advance_delivery, states_before
from ..evidence import Fact
from ..store import database
from ..store.database import Transaction
from . import receipts
from .items import ENTRY, FOLDER, Item, item_of
from .receipts import DELIVERY

_EXPIRED = advance_delivery(Channel.FOLDER, DeliveryState.PUBLISHED, "expired")


def folders_with_expired(tx: Transaction, now: dt.datetime, usual_days: float) -> dict[str, dt.datetime]:
    """Folders with deliveries that are not received in time; with the instant before which they were published.

    `usual_days` is the time in the inbox where the folder has no rule of its own.
    """
    found = {}
    for days in tx.execute(sa.select(FOLDER.c.inbox_days).distinct()).scalars().all():
        before = now - dt.timedelta(days=usual_days if days is None else days)
        late = sa.select(DELIVERY.c.destination).join(FOLDER, FOLDER.c.id == DELIVERY.c.destination).distinct()
        late = late.where(FOLDER.c.inbox_days.is_not_distinct_from(days), *_over(before))
        found.update(dict.fromkeys(tx.execute(late).scalars(), before))
    return dict(sorted(found.items()))


def expire(tx: Transaction, folder_id: str, before: dt.datetime, limit: int = 500) -> tuple[list[Item], list[str]]:
    """Take the entries of up to `limit` of those deliveries out of the inbox; they now, and the deliveries so ended."""
    version = receipts.bump(tx, folder_id)
    over = sa.select(DELIVERY.c.id).where(DELIVERY.c.destination == folder_id, *_over(before))
    rows = tx.execute(
        sa.select(ENTRY, FOLDER.c.receipt_mode)
        .join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id)
        .where(ENTRY.c.delivery_id.in_(over.order_by(DELIVERY.c.id).limit(limit)))
        .order_by(ENTRY.c.sequence)
        .with_for_update(of=ENTRY)
    ).all()
    now = database.now(tx)
    left = [_leave(tx, row, version, now) for row in rows]
    deliveries = tx.execute(
        sa.update(DELIVERY)
        .where(
            DELIVERY.c.id.in_({row.delivery_id for row in left}),
            DELIVERY.c.state.in_(states_before(Channel.FOLDER, "expired")),
        )
        .values(state=_EXPIRED, final_at=now, updated_at=now, row_version=DELIVERY.c.row_version + 1)
        .returning(DELIVERY.c.id, DELIVERY.c.document_id)
    ).all()
    evidence.record_all(tx, [Fact(f"delivery.{_EXPIRED}", row.id, row.document_id) for row in deliveries])
    return [item_of(row) for row in left], sorted(row.id for row in deliveries)


def _over(before: dt.datetime) -> tuple[Any, ...]:
    """Published, and every entry of it old enough; kinds without receipts stay."""
    of_it = sa.select(ENTRY.c.id).where(ENTRY.c.delivery_id == DELIVERY.c.id)
    young = of_it.where(sa.or_(ENTRY.c.mtime >= int(before.timestamp()), ENTRY.c.area != "inbox"))
    published = (DELIVERY.c.channel == Channel.FOLDER, DELIVERY.c.state == DeliveryState.PUBLISHED)
    return (*published, DELIVERY.c.created_at < before, ~sa.exists(young))


def _leave(tx: Transaction, row: Any, version: int, now: dt.datetime) -> Any:
    facts = []
    if row.listed:
        row = receipts.change(tx, row, {"listed": False, "changed": version})
        facts.append(Fact("entry.expired", row.id, row.document_id, {"name": row.name}))
    if receipts.is_received_now(row):
        row, more = receipts.receive(tx, row, version, now, "fully read, and its time in the inbox ended", {})
        facts += more
    evidence.record_all(tx, facts)
    return row
