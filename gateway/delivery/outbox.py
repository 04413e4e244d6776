"""The mail deliveries' outbox: claim what is due, and write what became of each attempt.

An attempt is registered, with its lease, before the network is touched. Its result is written by the lease's
holder alone; a late one is kept as a fact and moves uncertain to accepted on 2yz, nothing else. A lease that
expires is *uncertain*, always: nobody knows whether the final dot was sent.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col, select

from ..config import DeliverySettings
from ..domain.deliveries import Attempt, Delivery
from ..domain.documents import Document
from ..domain.states import (
    FINAL_MAIL,
    MAIL_MOVES,
    Channel,
    DeliveryState,
    DocumentState,
    advance_delivery,
    states_before,
)
from ..evidence import Fact, record, record_all, without_addresses
from ..store import database
from ..store.database import Transaction
from .dry_run import may_leave
from .retry import next_attempt

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Claim:
    """A delivery that this process may attempt until the lease ends; the attempt's id is the lease's owner."""

    delivery: Delivery
    attempt_id: str


@dataclass(frozen=True)
class Result:
    """What became of an attempt. `outcome`: accepted, deferred, uncertain, failed; held: it could not be composed."""

    outcome: str
    phase: str
    reply: str
    relay: str = ""
    remote_queue_id: str = ""
    tls: str = ""
    duration_ms: int = 0
    of_relay: bool = False  # the relay was in trouble, not this message


def claim(tx: Transaction, limit: int, lease_seconds: int) -> list[Claim]:
    """Up to `limit` mail deliveries that are due, oldest first, moved to attempting with their attempts registered."""
    now = database.now(tx)
    due = tx.exec(
        select(Delivery)
        .where(
            Delivery.channel == Channel.EMAIL,
            col(Delivery.state).in_(states_before(Channel.EMAIL, "claimed")),
            col(Delivery.due_at) <= now,
            may_leave(),
        )
        .order_by(col(Delivery.due_at), col(Delivery.id))
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    claims = [_register(tx, delivery, now, lease_seconds) for delivery in due]
    tx.flush()
    record_all(tx, [_attempting(c) for c in claims])
    return claims


def _register(tx: Transaction, delivery: Delivery, now: dt.datetime, lease_seconds: int) -> Claim:
    attempt = Attempt(delivery_id=delivery.id, number=delivery.attempts + 1, started_at=now)
    delivery.state = advance_delivery(Channel.EMAIL, delivery.state, "claimed")
    delivery.attempts += 1
    delivery.lease_owner = attempt.id
    delivery.lease_until = now + dt.timedelta(seconds=lease_seconds)
    delivery.due_at = None
    _touch(delivery, now)
    tx.add(attempt)
    return Claim(delivery, attempt.id)


def _attempting(claim: Claim) -> Fact:
    facts = {"attempt": claim.attempt_id, "number": claim.delivery.attempts, "maybe_again": claim.delivery.maybe_sent}
    return Fact("delivery.attempting", claim.delivery.id, claim.delivery.document_id, facts)


def composed(tx: Transaction, claim: Claim, sha256: str, size: int, message_id: str, headers: str) -> bool:
    """Note the stored message; False when the lease is no longer ours, and then nothing may be sent."""
    delivery = _held_by(tx, claim)
    if delivery is None:
        return False
    delivery.message_sha256, delivery.message_size = sha256, size
    delivery.message_id, delivery.message_headers = message_id, headers
    delivery.message_forgotten_at = None
    record(
        tx,
        "message.composed",
        delivery.id,
        document=delivery.document_id,
        sha256=sha256,
        size=size,
        message_id=message_id,
    )
    return True


def settle(tx: Transaction, claim: Claim, result: Result, settings: DeliverySettings) -> DeliveryState:
    """Write an attempt's result; the delivery's state after it."""
    now = database.now(tx)
    delivery = _held_by(tx, claim)
    if delivery is None:
        return _settle_late(tx, claim, result, now)
    _end_attempt(tx, claim.attempt_id, result, now, late=False)
    _move(delivery, result, settings, now)
    _stop_if_withdrawn(tx, delivery, now)
    facts = {
        "attempt": claim.attempt_id,
        "outcome": result.outcome,
        "reason": _reason(delivery, result),
        "phase": result.phase,
        "reply": without_addresses(result.reply),
        "relay": result.relay,
        "remote_queue_id": result.remote_queue_id,
        "tls": result.tls,
        "duration_ms": result.duration_ms,
        "next_attempt": delivery.due_at,
    }
    record(tx, f"delivery.{delivery.state}", delivery.id, document=delivery.document_id, **facts)
    return delivery.state


def _reason(delivery: Delivery, result: Result) -> str:
    """Why it stands where it does, where that is not the reply itself: given up, or withdrawn meanwhile."""
    return "" if result.reply.startswith(delivery.state_reason) else delivery.state_reason


def _move(delivery: Delivery, result: Result, settings: DeliverySettings, now: dt.datetime) -> None:
    delivery.maybe_sent = delivery.maybe_sent or result.outcome == "uncertain"
    delivery.last_reply, delivery.remote_queue_id = result.reply[:1000], result.remote_queue_id[:100]
    delivery.lease_owner = delivery.lease_until = delivery.due_at = None
    event = result.outcome
    if event in ("deferred", "uncertain"):
        delivery.due_at = next_attempt(settings, delivery.attempts, delivery.retry_since, now)
        if delivery.due_at is None:
            event = "failed"
            delivery.state_reason = f"given up after {settings.give_up_hours:g} h"
    elif event in ("failed", "held"):
        delivery.state_reason = result.reply[:500]
    delivery.state = advance_delivery(Channel.EMAIL, delivery.state, event)
    delivery.final_at = now if delivery.state in FINAL_MAIL else None
    _touch(delivery, now)


def _stop_if_withdrawn(tx: Transaction, delivery: Delivery, now: dt.datetime) -> None:
    """A document withdrawn while its mail was under way is not tried again."""
    state = tx.exec(select(Document.state).where(Document.id == delivery.document_id)).one()
    if state is DocumentState.WITHDRAWN and (delivery.state, "cancelled") in MAIL_MOVES:
        delivery.state = advance_delivery(Channel.EMAIL, delivery.state, "cancelled")
        delivery.state_reason = "the document was withdrawn"
        delivery.due_at, delivery.final_at = None, now


def _settle_late(tx: Transaction, claim: Claim, result: Result, now: dt.datetime) -> DeliveryState:
    """The lease had ended: a fact; but a relay that has accepted has accepted.

    Or the same result was written before: its commit was done although the answer to it was lost.
    """
    delivery = tx.exec(select(Delivery).where(Delivery.id == claim.delivery.id).with_for_update()).one()
    attempt = tx.get_one(Attempt, claim.attempt_id)
    if attempt.ended_at is not None and all(getattr(attempt, k) == value for k, value in _ending(result).items()):
        return delivery.state
    _end_attempt(tx, claim.attempt_id, result, now, late=True)
    reply = without_addresses(result.reply)
    facts: dict[str, Any] = {"attempt": claim.attempt_id, "outcome": result.outcome, "reply": reply}
    record(tx, "attempt.ended_late", delivery.id, document=delivery.document_id, **facts)
    if result.outcome == "accepted" and delivery.state is DeliveryState.UNCERTAIN:
        delivery.state = advance_delivery(Channel.EMAIL, delivery.state, "accepted")
        delivery.due_at, delivery.final_at = None, now
        delivery.last_reply, delivery.remote_queue_id = result.reply[:1000], result.remote_queue_id[:100]
        _touch(delivery, now)
        record(tx, "delivery.accepted", delivery.id, document=delivery.document_id, **facts)
    return delivery.state


def expire_leases(
    tx: Transaction, settings: DeliverySettings, *, all_of_them: bool = False, but: Collection[str] = ()
) -> int:
    """Move attempts whose lease has ended to uncertain; how many.

    `all_of_them`: at the start of the only daemon of a database every lease belongs to a process that is gone. `but`:
    ids of attempts that are known to be under way, whatever a clock that was set forward says.
    """
    now = database.now(tx)
    query = select(Delivery).where(Delivery.channel == Channel.EMAIL, Delivery.state == DeliveryState.ATTEMPTING)
    if not all_of_them:
        query = query.where(col(Delivery.lease_until) < now, col(Delivery.lease_owner).not_in(but))
    expired = tx.exec(query.limit(1000).with_for_update(skip_locked=True)).all()
    for delivery in expired:
        _expire(tx, delivery, settings, now)
    return len(expired)


def _expire(tx: Transaction, delivery: Delivery, settings: DeliverySettings, now: dt.datetime) -> None:
    attempt_id = delivery.lease_owner
    result = Result("uncertain", "unknown", "the sending process ended before it could say what became of it")
    if attempt_id is not None:
        _end_attempt(tx, attempt_id, result, now, late=False)
    delivery.state = advance_delivery(Channel.EMAIL, delivery.state, "lease_expired")
    delivery.maybe_sent = True
    delivery.last_reply = result.reply
    delivery.lease_owner = delivery.lease_until = None
    delivery.due_at = next_attempt(settings, delivery.attempts, delivery.retry_since, now)
    if delivery.due_at is None:
        delivery.state = advance_delivery(Channel.EMAIL, delivery.state, "failed")
        delivery.state_reason, delivery.final_at = f"given up after {settings.give_up_hours:g} h", now
    _stop_if_withdrawn(tx, delivery, now)
    _touch(delivery, now)
    record(
        tx,
        f"delivery.{delivery.state}",
        delivery.id,
        document=delivery.document_id,
        attempt=attempt_id,
        outcome=result.outcome,
        reason=_reason(delivery, result),
        reply=result.reply,
        next_attempt=delivery.due_at,
    )
    log.warning("delivery.lease_expired", delivery=delivery.id, state=delivery.state)


def _held_by(tx: Transaction, claim: Claim) -> Delivery | None:
    return tx.exec(
        select(Delivery)
        .where(
            Delivery.id == claim.delivery.id,
            Delivery.state == DeliveryState.ATTEMPTING,
            Delivery.lease_owner == claim.attempt_id,
        )
        .with_for_update()
    ).first()


def _end_attempt(tx: Transaction, attempt_id: str, result: Result, now: dt.datetime, late: bool) -> None:
    tx.execute(
        sa.update(Attempt).where(col(Attempt.id) == attempt_id).values(ended_at=now, late=late, **_ending(result))
    )


def _ending(result: Result) -> dict[str, Any]:
    """The columns of an attempt that its result fills."""
    return {
        "outcome": result.outcome,
        "phase": result.phase,
        "relay": result.relay[:260],
        "reply": result.reply[:1000],
        "tls": result.tls[:60],
        "duration_ms": result.duration_ms,
    }


def _touch(delivery: Delivery, now: dt.datetime) -> None:
    delivery.updated_at = now
    delivery.row_version += 1


def new_message_id(delivery_id: str, domain: str) -> str:
    """A stable Message-ID (RFC 5322 3.6.4) without its angle brackets: the same at every attempt."""
    return f"{delivery_id.partition('_')[2]}@{domain}"


def messages_to_forget(tx: Transaction, before: dt.datetime, limit: int) -> list[Delivery]:
    """Deliveries that came to their final state before that instant and whose message is still kept."""
    query = select(Delivery).where(
        col(Delivery.message_sha256).is_not(None),
        col(Delivery.message_forgotten_at).is_(None),
        col(Delivery.final_at) < before,
    )
    return list(tx.exec(query.limit(limit)).all())


def note_forgotten(tx: Transaction, delivery_ids: list[str]) -> None:
    """The messages of these deliveries are gone from the store."""
    now = database.now(tx)
    tx.execute(sa.update(Delivery).where(col(Delivery.id).in_(delivery_ids)).values(message_forgotten_at=now))
    record_all(tx, [Fact("message.forgotten", delivery_id) for delivery_id in delivery_ids])
