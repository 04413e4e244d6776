"""A client in dry run: everything is accepted, sealed, planned and explained, and nothing leaves.

What is planned meanwhile is held for that reason (plan.py), as is what waited when it began; neither publishing nor
mail takes up what is left, such as an attempt whose end is uncertain. When it ends, what was held for it goes out in
the order in which it was planned, each once, or is cancelled: as the operator says. What is held for another reason
stays held. What was published before stays where it is.
"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlmodel import col, select

from ..access import Actor, Permission, client_for
from ..domain.deliveries import Delivery
from ..domain.parties import Client, Mailbox
from ..domain.states import Channel, DeliveryState, states_before
from ..evidence import Fact, record, record_all
from ..store import database
from ..store.database import Transaction
from .plan import DRY_RUN, unusable


def begin(tx: Transaction, actor: Actor, client_id: str, reason: str = "") -> int:
    """Let nothing leave to a client from now on; how many deliveries are held by it. Again, it changes nothing."""
    if not _switch(tx, actor, client_id, is_on=True):
        return 0
    now = database.now(tx)
    before = {channel: set(states_before(channel, "held")) - {DeliveryState.ATTEMPTING} for channel in Channel}
    waiting = [sa.and_(col(Delivery.channel) == c, col(Delivery.state).in_(states)) for c, states in before.items()]
    held = {"state": DeliveryState.HELD, "state_reason": DRY_RUN, "due_at": None}
    rows = _move(tx, now, held, col(Delivery.client_id) == client_id, sa.or_(*waiting))
    record(tx, "client.dry_run_begun", client_id, actor=actor.id, reason=reason, held=len(rows))
    record_all(tx, [Fact("delivery.held", row.id, row.document_id, {"reason": DRY_RUN}) for row in rows])
    return len(rows)


def end(tx: Transaction, actor: Actor, client_id: str, *, cancel: bool, reason: str = "") -> int:
    """Let things leave again: what was held for the dry run too, or, `cancel`, not; how many. Again, no change.

    What goes to an address that cannot be written to stays held, for that.
    """
    if not _switch(tx, actor, client_id, is_on=False):
        return 0
    now = database.now(tx)
    for box in tx.exec(select(Mailbox).where(Mailbox.client_id == client_id)).all():
        if not cancel and (obstacle := unusable(box)):
            _move(tx, now, {"state_reason": obstacle}, *_held(client_id), col(Delivery.destination) == box.id)
    # Due since they were planned: so their order is that of planning, and nothing planned later is before them.
    values: dict[str, Any] = {
        "state": DeliveryState.PLANNED,
        "state_reason": "",
        "due_at": col(Delivery.created_at),
        "retry_since": now,
    }
    if cancel:
        values = {"state": DeliveryState.CANCELLED, "state_reason": reason or DRY_RUN, "final_at": now}
    rows = _move(tx, now, values, *_held(client_id))
    event = "cancelled" if cancel else "released"
    record(tx, "client.dry_run_ended", client_id, actor=actor.id, reason=reason, outcome=event, deliveries=len(rows))
    facts = {"actor": actor.id, "reason": reason or "the dry run ended", "before": DeliveryState.HELD}
    record_all(tx, [Fact(f"delivery.{event}", row.id, row.document_id, facts) for row in rows])
    return len(rows)


def _held(client_id: str) -> tuple[Any, ...]:
    return (
        col(Delivery.client_id) == client_id,
        col(Delivery.state) == DeliveryState.HELD,
        col(Delivery.state_reason) == DRY_RUN,
    )


def _switch(tx: Transaction, actor: Actor, client_id: str, *, is_on: bool) -> bool:
    """Whether it was the other way before."""
    client = client_for(tx, actor, Permission.PARTIES_MANAGE, client_id, hold=True)
    if client.dry_run == is_on:
        return False
    client.dry_run = is_on
    client.version += 1
    tx.add(client)
    tx.flush()
    return True


def _move(tx: Transaction, now: dt.datetime, values: dict[str, Any], *conditions: Any) -> list[Any]:
    """Change deliveries in one statement; their ids and documents, in the order of planning."""
    changed = (
        sa.update(Delivery)
        .where(*conditions)
        .values(**values, updated_at=now, row_version=col(Delivery.row_version) + 1)
        .returning(col(Delivery.id), col(Delivery.document_id))
        .execution_options(synchronize_session=False)
    )
    return sorted(tx.execute(changed).all(), key=lambda row: row.id)


def may_leave() -> Any:
    """The condition for a delivery whose client is not in dry run."""
    return col(Delivery.client_id).not_in(sa.select(col(Client.id)).where(col(Client.dry_run)))
