"""Which deliveries a document gets: one for each mailbox and each folder that the settings in force name.

Runs in the transaction that makes the document deliverable, with the settings of that moment. What cannot
leave yet is planned as held, with its reason, so that it is seen: nothing is dropped silently. An invoice to which
the settings give no channel at all says so in its row, and is planned once they do (`plan_late`).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col, select

from .. import clock
from ..domain.deliveries import Delivery
from ..domain.documents import UNDELIVERED, Document
from ..domain.parties import Client, DeliverySettings, Mailbox
from ..domain.states import Channel, DeliveryState
from ..evidence import Fact, record_all
from ..parties import settings as parties_settings
from ..store import database
from ..store.database import Database, Transaction

log = structlog.get_logger(__name__)
NO_SETTINGS = "the client has chosen no channel yet"
DRY_RUN = "the client is in dry run: nothing leaves until that ends"
NO_CHANNEL = "no channel is open: e-mail is off and no folder takes it"


@dataclass(frozen=True)
class _Target:
    channel: Channel
    destination: str
    held: str = ""  # why it cannot leave yet


def plan_late(db: Database, batch: int = 500) -> int:
    """Plan the invoices that had no channel and have one by now; how many deliveries."""
    count = 0
    for like in db.read(_late):
        while planned := db.write(lambda tx, like=like: _plan_late(tx, like, batch)):  # type: ignore[misc]
            count += planned
    return count


def _late(tx: Transaction) -> list[Document]:
    """One invoice without a delivery for each client, company and contract that has a channel now."""
    which = (col(Document.client_id), col(Document.company_id), col(Document.contract_id))
    ids = sa.select(sa.func.min(Document.id)).where(sa.text(UNDELIVERED)).group_by(*which)
    planner = _Planner(tx, database.now(tx))
    ones = tx.exec(select(Document).where(col(Document.id).in_(ids)).order_by(col(Document.id)))
    return [one for one in ones if any(planner.targets(one, planner.settings(one)))]


def _plan_late(tx: Transaction, like: Document, batch: int) -> int:
    query = select(Document).where(
        sa.text(UNDELIVERED),
        Document.client_id == like.client_id,
        Document.company_id == like.company_id,
        Document.contract_id == like.contract_id,
    )
    documents = tx.exec(query.order_by(col(Document.id)).limit(batch).with_for_update()).all()
    return len(plan(tx, documents, database.now(tx)))


def plan(tx: Transaction, documents: Sequence[Document], at: dt.datetime) -> list[str]:
    """Plan the first deliveries of documents, in their order; the ids of the deliveries."""
    rows: list[dict[str, Any]] = []
    planner = _Planner(tx, at)
    for document in documents:
        in_force = planner.settings(document)
        targets = list(planner.targets(document, in_force))
        rows += [_row(document, target, in_force, at) for target in targets]
        missing = "" if targets or not document.kind.is_invoice else NO_CHANNEL if in_force else NO_SETTINGS
        if missing != document.state_reason:
            _say_undelivered(tx, document, missing, at)
    return insert(tx, rows)


def _say_undelivered(tx: Transaction, document: Document, missing: str, at: dt.datetime) -> None:
    """Note in the document's row that it has no channel, and why; or, `missing` empty, that it has one now."""
    values = {"state_reason": missing, "updated_at": at, "row_version": col(Document.row_version) + 1}
    tx.execute(sa.update(Document).where(col(Document.id) == document.id).values(values))
    if missing:
        record_all(tx, [Fact("document.undelivered", document.id, document.id, {"reason": missing})])
        log.warning("document.undelivered", document=document.id, cause=missing)


def insert(tx: Transaction, rows: list[dict[str, Any]], **asked: Any) -> list[str]:
    """Insert planned deliveries with their evidence."""
    if rows:
        tx.execute(sa.insert(Delivery), rows)
        record_all(tx, [_fact(row, asked) for row in rows])
    return [row["id"] for row in rows]


class _Planner:
    """Looks each settings row, folder and mailbox up once for a whole batch."""

    def __init__(self, tx: Transaction, at: dt.datetime) -> None:
        self._tx = tx
        self._at = at
        self._settings: dict[tuple[str, str | None, str | None], DeliverySettings | None] = {}
        self._folders: dict[tuple[str, str | None], list[str]] = {}
        self._mailboxes: dict[str, list[Mailbox]] = {}
        self._dry_runs: dict[str, bool] = {}

    def settings(self, document: Document) -> DeliverySettings | None:
        assert document.client_id is not None
        key = (document.client_id, document.company_id, document.contract_id)
        if key not in self._settings:
            self._settings[key] = parties_settings.in_force(self._tx, *key, self._at)
        return self._settings[key]

    def targets(self, document: Document, in_force: DeliverySettings | None) -> Iterator[_Target]:
        assert document.client_id is not None
        for target in self._targets(document, in_force):
            yield replace(target, held=DRY_RUN) if self._is_in_dry_run(document.client_id) else target

    def _is_in_dry_run(self, client_id: str) -> bool:
        if client_id not in self._dry_runs:
            self._dry_runs[client_id] = is_in_dry_run(self._tx, client_id)
        return self._dry_runs[client_id]

    def _targets(self, document: Document, in_force: DeliverySettings | None) -> Iterator[_Target]:
        if not document.kind.is_invoice and (in_force is None or not in_force.other_kinds_in_folder):
            return  # these go to the portal; to a folder only when the settings say so
        if in_force is None:
            return
        if in_force.folder_enabled or not document.kind.is_invoice:
            yield from (_Target(Channel.FOLDER, folder) for folder in self._folder_ids(document))
        if in_force.email_enabled and document.kind.is_invoice:
            yield from (_Target(Channel.EMAIL, box.id, unusable(box)) for box in self._boxes(in_force))

    def _folder_ids(self, document: Document) -> list[str]:
        assert document.client_id is not None
        key = (document.client_id, document.contract_id)
        if key not in self._folders:
            self._folders[key] = [folder.id for folder in parties_settings.folders_for(self._tx, *key)]
        return self._folders[key]

    def _boxes(self, in_force: DeliverySettings) -> list[Mailbox]:
        if in_force.id not in self._mailboxes:
            self._mailboxes[in_force.id] = parties_settings.mailboxes_serving(self._tx, in_force)
        return self._mailboxes[in_force.id]


def is_in_dry_run(tx: Transaction, client_id: str) -> bool:
    """Whether nothing may leave to a client now."""
    return tx.exec(select(Client.dry_run).where(Client.id == client_id)).one()


def unusable(box: Mailbox) -> str:
    """Why a mailbox cannot be written to now; empty when it can."""
    if box.address is None:
        return "the address was erased"
    if box.suspended_at is not None:
        return f"the address is suspended: {box.suspended_reason}"
    if box.confirmed_at is None:
        return "the address is not confirmed yet"
    return ""


def _row(
    document: Document, target: _Target, in_force: DeliverySettings | None, at: dt.datetime, again: int = 0
) -> dict[str, Any]:
    return {
        "id": clock.new_id("dlv"),
        "document_id": document.id,
        "client_id": document.client_id,
        "channel": target.channel,
        "destination": target.destination,
        "again": again,
        "state": DeliveryState.HELD if target.held else DeliveryState.PLANNED,
        "state_reason": target.held,
        "settings_id": in_force.id if in_force else None,
        "due_at": None if target.held else at,
        "retry_since": at,
        "created_at": at,
        "updated_at": at,
    }


def again(
    tx: Transaction, documents: Sequence[Document], channel: Channel, destination: str, at: dt.datetime, **asked: Any
) -> list[str]:
    """Plan another delivery of a client's documents to a destination that they had before; the ids, in their order.

    `asked`: facts for each delivery's record.
    """
    query = sa.select(col(Delivery.document_id), sa.func.count()).where(
        col(Delivery.document_id).in_([one.id for one in documents]),
        col(Delivery.channel) == channel,
        col(Delivery.destination) == destination,
    )
    counts: dict[str, int] = dict(tx.execute(query.group_by(col(Delivery.document_id))).all())
    client_id = documents[0].client_id
    assert client_id is not None
    target = _Target(channel, destination, DRY_RUN if is_in_dry_run(tx, client_id) else "")
    return insert(tx, [_row(one, target, None, at, again=counts[one.id]) for one in documents], **asked)


def _fact(row: dict[str, Any], asked: dict[str, Any]) -> Fact:
    event = "delivery.held" if row["state_reason"] else "delivery.planned"
    facts = {key: row[key] for key in ("channel", "destination", "again", "settings_id")} | asked
    if row["state_reason"]:
        facts["reason"] = row["state_reason"]
    return Fact(event, row["id"], row["document_id"], facts)
