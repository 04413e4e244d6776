"""Explain one document: what happened and why, in order and in words, where it stands, what comes next.

The past is told from the ledger alone; the present and the future from the rows of the document, its seal, its
deliveries, their attempts and entries. Read-only; NotFound for an unknown document.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import and_, col, or_, select

from .. import clock
from ..delivery.plan import DRY_RUN
from ..domain.deliveries import Attempt, Delivery
from ..domain.documents import Document, Duplicate, Seal
from ..domain.folders import Entry, Folder, ReceiptMode
from ..domain.ledger import PersonalValue, Record
from ..domain.parties import ApiToken, Client, Contract, Mailbox
from ..domain.states import Channel, DeliveryState, DocumentState, Nature
from ..errors import NotFound
from ..store.database import Transaction
from .sentences import instant, sentence

_RECEIPTS = {
    ReceiptMode.DELETE: "the client deletes it after a full read",
    ReceiptMode.FULL_READ: "the client has read it in full",
    ReceiptMode.API: "the client confirms it by API",
    ReceiptMode.NONE: "its time in the inbox ends: this folder gives no receipts",
}


@dataclass(frozen=True)
class Moment:
    """One fact of the ledger. `day` is the issuer's calendar day of `at` (UTC)."""

    at: dt.datetime
    day: dt.date
    event: str
    subject: str
    text: str


@dataclass(frozen=True)
class Stand:
    """Where one delivery stands now."""

    delivery: str
    channel: str
    where: str
    state: str
    attempts: int
    text: str


@dataclass(frozen=True)
class Life:
    """A document's life: `about` says what it is, `moments` are chronological, `next` is what will happen by itself or
    what somebody has to do.
    """

    document: str
    number: str
    state: str
    about: tuple[str, ...]
    moments: tuple[Moment, ...]
    deliveries: tuple[Stand, ...]
    next: tuple[str, ...]


def explain(tx: Transaction, document_id: str, zone: ZoneInfo) -> Life:
    """The life of a document; `zone` is the issuer's."""
    document = tx.get(Document, document_id)
    if document is None:
        raise NotFound("no such document")
    deliveries = tx.exec(select(Delivery).where(Delivery.document_id == document_id).order_by(col(Delivery.id))).all()
    places = _Places(tx, deliveries)
    stands = tuple(_stand(tx, delivery, places) for delivery in deliveries)
    coming = [_next_of_document(tx, document), *(_next_of_delivery(d, places) for d in deliveries)]
    return Life(
        document=document.id,
        number=document.number,
        state=document.state.value,
        about=tuple(_about(tx, document)),
        moments=tuple(_moments(tx, document_id, [delivery.id for delivery in deliveries], places, zone)),
        deliveries=stands,
        next=tuple(filter(None, coming)) or ("Nothing: its way is complete.",),
    )


class _Places:
    """The names of the deliveries' destinations, looked up once."""

    def __init__(self, tx: Transaction, deliveries: Sequence[Delivery]) -> None:
        ids = [delivery.destination for delivery in deliveries]
        boxes = tx.exec(select(Mailbox).where(col(Mailbox.id).in_(ids))).all()
        self.folders = {f.id: f for f in tx.exec(select(Folder).where(col(Folder.id).in_(ids))).all()}
        names = {box.id: f"mailbox {box.address or '(erased)'}" for box in boxes}
        names |= {folder.id: f"folder {folder.user_name}" for folder in self.folders.values()}
        self._of = {delivery.id: names.get(delivery.destination, delivery.destination) for delivery in deliveries}
        entries = tx.exec(select(Entry.id, Entry.delivery_id).where(col(Entry.delivery_id).in_(list(self._of)))).all()
        self._of |= {entry_id: self._of[delivery_id] for entry_id, delivery_id in entries}

    def of(self, subject: str) -> str:
        """Where a delivery, or an entry of one, goes."""
        return self._of.get(subject, "")


def _about(tx: Transaction, document: Document) -> list[str]:
    contract = tx.get(Contract, document.contract_id) if document.contract_id else None
    client = tx.get(Client, document.client_id) if document.client_id else None
    kind = document.kind.value.replace("_", " ")
    lines = [f"{kind.capitalize()} {document.number} of {document.issue_date}, seller {document.seller}"]
    if contract is not None:
        lines.append(f"Contract {contract.number}{f', client {client.name}' if client else ''}")
    if document.nature is not None:
        lines.append(f"Nature: {document.nature.value.replace('_', ' ')} ({document.nature_reason.rstrip('.')})")
    if (seal := tx.get(Seal, document.id)) is not None:
        made = "by us" if seal.made_by == "gateway" else "before it came"
        lines.append(f"Seal: PAdES {seal.level} by {seal.signer}, made {made} at {instant(seal.sealed_at)}")
    if document.version > 1:
        lines.append(f"Version {document.version}; it replaces {document.replaces_id}")
    return lines


def _moments(
    tx: Transaction, document_id: str, delivery_ids: Sequence[str], places: _Places, zone: ZoneInfo
) -> list[Moment]:
    of_document = or_(
        col(Record.document_id) == document_id,
        and_(col(Record.document_id).is_(None), col(Record.subject).in_(delivery_ids)),
    )
    records = tx.exec(select(Record).where(of_document).order_by(col(Record.at), col(Record.id))).all()
    bodies = [json.loads(record.body) for record in records]
    known = _people(tx, bodies) | _actors(tx, bodies) | {one: places.of(one) for one in delivery_ids}
    return [
        Moment(
            record.at,
            clock.day_of(record.at, zone),
            record.event,
            record.subject,
            sentence(
                record.event,
                _facts(body["facts"], known)
                | {"where": places.of(record.subject), "credential": _credential(body["facts"])},
            ),
        )
        for record, body in zip(records, bodies, strict=True)
    ]


def _people(tx: Transaction, bodies: list[dict[str, Any]]) -> dict[str, str]:
    ids = {fact["id"] for body in bodies for fact in body["facts"].values() if _is_personal(fact)}
    values = tx.exec(select(PersonalValue).where(col(PersonalValue.id).in_(ids))).all() if ids else []
    return {value.id: value.value or "(erased)" for value in values}


def _actors(tx: Transaction, bodies: list[dict[str, Any]]) -> dict[str, str]:
    """Tokens by their names: an id says nothing to a reader."""
    ids = {str(body["facts"].get("actor")) for body in bodies}
    tokens = tx.exec(select(ApiToken).where(col(ApiToken.id).in_(ids))).all()
    return {token.id: f"token {token.name}" for token in tokens}


def _credential(facts: Mapping[str, Any]) -> str:
    """What opened the session that a record is of."""
    return next((f"{kind} {facts[kind]}" for kind in ("key", "password") if facts.get(kind)), "")


def _is_personal(fact: Any) -> bool:
    return isinstance(fact, dict) and set(fact) == {"id", "sha256"}


def _facts(facts: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """A record's facts with persons' values, tokens' names and deliveries' places instead of their ids."""
    shown = {name: _shown(fact, known) for name, fact in facts.items()}
    if "actor" in shown:
        shown["actor"] = known.get(str(shown["actor"]), shown["actor"])
    return shown


def _shown(fact: Any, known: Mapping[str, str]) -> Any:
    if isinstance(fact, list):
        return [known.get(str(item), item) for item in fact]
    return known.get(fact["id"], "") if _is_personal(fact) else fact


def _next_of_document(tx: Transaction, document: Document) -> str:
    match document.state, document.nature:
        case DocumentState.QUARANTINED, _:
            return "An operator accepts it, rejects it or replaces it: until then it goes nowhere."
        case DocumentState.WAITING, _:
            look = f"; looked at again at {instant(document.due_at)}" if document.due_at else ""
            why = f" ({document.state_reason.rstrip('.')})" if document.state_reason else ""
            return f"It waits to be sealed{why}{look}."
        case DocumentState.RECEIVED, Nature.DUPLICATE:
            made = tx.get(Duplicate, document.id)
            stamped = f"was made at {instant(made.made_at)}" if made else "is made at the first request"
            return f"Nothing: a duplicate is neither sealed nor delivered; the stamped duplicate {stamped}."
        case DocumentState.RECEIVED, Nature.ORIGINAL | Nature.PLATFORM_COPY:
            return "It is sealed next, and its deliveries are planned."
        case DocumentState.SEALED, _ if document.state_reason:
            return f"It is delivered once the settings give it a channel ({document.state_reason})."
    return ""


def _stand(tx: Transaction, delivery: Delivery, places: _Places) -> Stand:
    return Stand(
        delivery=delivery.id,
        channel=delivery.channel.value,
        where=places.of(delivery.id),
        state=delivery.state.value,
        attempts=delivery.attempts,
        text=_mail_stand(tx, delivery) if delivery.channel is Channel.EMAIL else _folder_stand(tx, delivery),
    )


def _mail_stand(tx: Transaction, delivery: Delivery) -> str:
    last = tx.exec(
        select(Attempt).where(Attempt.delivery_id == delivery.id).order_by(col(Attempt.number).desc())
    ).first()
    parts = [delivery.state_reason.rstrip(".")]
    if last is not None and last.ended_at is None:
        parts.append(f"attempt {last.number} has been under way since {instant(last.started_at)}")
    elif last is not None:
        parts.append(f"attempt {last.number} ended {last.outcome}{f' via {last.relay}' if last.relay else ''}")
        parts.append(f"answer: {last.reply}" if last.reply else "")
    return "; ".join(filter(None, parts))


def _folder_stand(tx: Transaction, delivery: Delivery) -> str:
    entries = tx.exec(select(Entry).where(Entry.delivery_id == delivery.id).order_by(col(Entry.sequence))).all()
    return "; ".join(filter(None, [delivery.state_reason.rstrip("."), *map(_entry, entries)]))


def _entry(entry: Entry) -> str:
    facts = (
        ("opened", entry.opened_at),
        ("fully read", entry.fully_read_at),
        ("renamed", entry.renamed_at),
        ("removed", entry.removed_at),
        ("received", entry.received_at),
        ("withdrawn", entry.withdrawn_at),
    )
    told = [f"{fact} at {instant(at)}" for fact, at in facts if at is not None]
    return f"{entry.name} (number {entry.sequence}): {', '.join(told) or 'not opened yet'}"


def _next_of_delivery(delivery: Delivery, places: _Places) -> str:
    where = places.of(delivery.id)
    when = f" at {instant(delivery.due_at)}" if delivery.due_at else ""
    match delivery.state:
        case DeliveryState.PLANNED:
            step = "published" if delivery.channel is Channel.FOLDER else "first attempt"
            return f"To {where}: {step} when due{when}."
        case DeliveryState.DEFERRED | DeliveryState.UNCERTAIN:
            return f"To {where}: attempt {delivery.attempts + 1}{when}."
        case DeliveryState.HELD if delivery.state_reason == DRY_RUN:
            return f"To {where}: it goes there once the client's dry run ends, unless that cancels it."
        case DeliveryState.HELD:
            return f"To {where}: held ({delivery.state_reason.rstrip('.')}); an operator releases or cancels it."
        case DeliveryState.ATTEMPTING:
            lease = f" or has failed to answer by {instant(delivery.lease_until)}" if delivery.lease_until else ""
            return f"To {where}: the attempt under way ends{lease}."
        case DeliveryState.ACCEPTED:
            return f"To {where}: the server that took it answers for it now; what comes back is not read yet."
        case DeliveryState.PUBLISHED:
            folder = places.folders.get(delivery.destination)
            return f"In {where}: received once {_RECEIPTS[folder.receipt_mode]}." if folder else ""
        case DeliveryState.EXPIRED_UNREAD:
            return f"In {where}: nothing by itself; it stays in the archive, where the client can still read it."
        case DeliveryState.FAILED | DeliveryState.BOUNCED:
            return f"To {where}: nothing by itself; an operator may retry it."
    return ""
