"""Put planned folder deliveries into their drop folders: one short transaction for up to 500 of them.

The folder row is updated before its entries are inserted (folders in id order), so commit order is sequence
order and a reader at N never skips one. mtime = max(now, last mtime), whole seconds. A name is decided here and
kept for ever: `k` counts up when a name, compared without case, was ever used in that folder. So is the folder
inside the inbox, where the layout has one for each contract.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlmodel import col

from .. import clock
from ..domain import names
from ..domain.deliveries import Delivery
from ..domain.documents import Document
from ..domain.folders import EventKind, Folder
from ..domain.parties import Contract
from ..domain.states import Channel, DeliveryState, Kind, states_before
from ..domain.tables import metadata
from ..evidence import Fact, record_all
from ..store import database
from ..store.blobs import Blobs, is_whole
from ..store.database import Database, Transaction
from .dry_run import may_leave
from .namer import Namer

log = structlog.get_logger(__name__)
_CODES = {
    Kind.CONTRACT: "CONTRAT",
    Kind.AMENDMENT: "AVENANT",
    Kind.CONTINUITY_REPORT: "BILAN",
    Kind.MANAGEMENT_SHEET: "FEUILLET",
}
# By Core: through the models they would cost twice as much.
_ENTER = sa.insert(metadata.tables["folder_entry"])
_COUNT = sa.insert(metadata.tables["folder_event"])
LONGEST_SECONDS = 0.2  # that a batch should take
LEAST = 50  # deliveries in a batch
BYTES_LOST = "its bytes are missing from the store, or damaged there"


class Publisher:
    """Publishes what is due, a batch a turn."""

    def __init__(self, db: Database, blobs: Blobs, zone: ZoneInfo, batch: int) -> None:
        self._db = db
        self._blobs = blobs
        self._zone = zone
        self._batch = batch
        self._at_once = batch

    def turn(self) -> int:
        """How many deliveries it dealt with; 0 when none is due."""
        due = self._db.read(self._due)
        if not due:
            return 0
        lost = frozenset(delivery for delivery, digests in due if not all(is_whole(self._blobs, d) for d in digests))
        if lost:
            log.error("delivery.bytes_lost", deliveries=sorted(lost))
        began = clock.monotonic()
        count = self._db.write(lambda tx: publish(tx, [d for d, _ in due], lost, self._zone))
        self._pace(clock.monotonic() - began)
        return count

    def _pace(self, seconds: float) -> None:
        """Fewer at once where a batch takes long: whoever looks at the folder waits for the one under way."""
        if seconds > LONGEST_SECONDS:
            self._at_once = max(self._at_once // 2, min(LEAST, self._batch))
        elif seconds < LONGEST_SECONDS / 2:
            self._at_once = min(self._at_once * 2, self._batch)

    def _due(self, tx: Transaction) -> list[tuple[str, tuple[str, ...]]]:
        rows = tx.execute(
            sa.select(
                col(Delivery.id), col(Document.sealed_sha256), col(Document.received_sha256), col(Document.xml_sha256)
            )
            .join(Document, col(Document.id) == col(Delivery.document_id))
            .where(
                col(Delivery.channel) == Channel.FOLDER,
                col(Delivery.state) == DeliveryState.PLANNED,
                col(Delivery.due_at) <= database.now(tx),
                may_leave(),
            )
            .order_by(col(Delivery.due_at), col(Delivery.id))
            .limit(self._at_once)
        ).all()
        return [(row[0], tuple(d for d in (row[1] or row[2], row[3]) if d)) for row in rows]


def publish(tx: Transaction, delivery_ids: Sequence[str], lost: frozenset[str], zone: ZoneInfo) -> int:
    """Publish those deliveries that are still planned; hold those whose bytes are `lost`. How many it dealt with."""
    now = database.now(tx)
    rows = tx.execute(
        sa.select(Delivery, Document, col(Contract.number))
        .join(Document, col(Document.id) == col(Delivery.document_id))
        .outerjoin(Contract, col(Contract.id) == col(Document.contract_id))
        .where(
            col(Delivery.id).in_(delivery_ids),
            col(Delivery.channel) == Channel.FOLDER,
            col(Delivery.state).in_(states_before(Channel.FOLDER, "published")),
            may_leave(),
        )
        .order_by(col(Delivery.due_at), col(Delivery.id))
        .with_for_update(skip_locked=True, of=Delivery)
    ).all()
    batches: dict[str, list[tuple[Delivery, Document, str]]] = {}
    held = [row[0] for row in rows if row[0].id in lost]
    for delivery, document, contract in rows:
        if delivery.id not in lost:
            batches.setdefault(delivery.destination, []).append((delivery, document, contract or ""))
    for folder_id in sorted(batches):
        _publish_folder(tx, folder_id, batches[folder_id], now, zone)
    _hold(tx, held, now)
    return len(rows)


def _publish_folder(
    tx: Transaction, folder_id: str, items: list[tuple[Delivery, Document, str]], now: dt.datetime, zone: ZoneInfo
) -> None:
    folder = tx.execute(
        sa.select(col(Folder.formats), col(Folder.layout), col(Folder.name_template)).where(col(Folder.id) == folder_id)
    ).one()
    parts = [(d, doc, contract, part) for d, doc, contract in items for part in _parts(doc, folder.formats)]
    last_sequence, last_mtime = tx.execute(
        sa.update(Folder)
        .where(col(Folder.id) == folder_id)
        .values(
            last_sequence=col(Folder.last_sequence) + len(parts),
            last_mtime=sa.case(
                (col(Folder.last_mtime) > int(now.timestamp()), col(Folder.last_mtime)), else_=int(now.timestamp())
            ),
            version=col(Folder.version) + 1,
        )
        .returning(col(Folder.last_sequence), col(Folder.last_mtime))
    ).one()
    month = f"{dt.datetime.fromtimestamp(last_mtime, zone):%Y-%m}"
    wanted = [(doc, contract, part.code, part.format) for _, doc, contract, part in parts]
    namer = Namer(tx, folder_id, folder.layout, folder.name_template, wanted)
    entries, events = [], []
    for sequence, (delivery, document, contract, part) in enumerate(parts, last_sequence - len(parts) + 1):
        directory, name = namer.place((document, contract, part.code, part.format), delivery.again)
        entry = {
            "id": clock.new_id("ent"),
            "folder_id": folder_id,
            "delivery_id": delivery.id,
            "document_id": document.id,
            "area": "inbox" if document.kind.is_invoice else "documents",
            "directory": directory,
            "name": name,
            "name_folded": names.fold(name),
            "format": part.format,
            "sha256": part.sha256,
            "size": part.size,
            "mtime": last_mtime,
            "month": month,
            "sequence": sequence,
            "listed": True,
            "read_ranges": [],
        }
        entries.append(entry)
        events.append(
            {
                "folder_id": folder_id,
                "sequence": sequence,
                "event": EventKind.PUBLISHED_AGAIN if delivery.again else EventKind.PUBLISHED,
                "entry_id": entry["id"],
                "at": now,
            }
        )
    tx.execute(_ENTER, entries)
    tx.execute(_COUNT, events)
    database.hint(tx, folder_id)
    tx.execute(
        sa.update(Delivery)
        .where(col(Delivery.id).in_([d.id for d, _, _ in items]))
        .values(
            state=DeliveryState.PUBLISHED,
            state_reason="",
            due_at=None,
            updated_at=now,
            attempts=col(Delivery.attempts) + 1,
            row_version=col(Delivery.row_version) + 1,
        ),
        execution_options={"synchronize_session": False},  # nobody looks at these objects again
    )
    record_all(tx, [_published(entry) for entry in entries])


def _published(entry: dict[str, Any]) -> Fact:
    facts = {key: entry[key] for key in ("folder_id", "directory", "name", "sequence", "mtime", "sha256", "size")}
    return Fact("delivery.published", entry["delivery_id"], entry["document_id"], {"entry": entry["id"], **facts})


@dataclass(frozen=True)
class _Part:
    """One file of a delivery."""

    format: str
    code: str
    sha256: str
    size: int


def _parts(document: Document, formats: list[str]) -> list[_Part]:
    """The files that a folder with these formats gets of a document; the PDF where there is no XML to give."""
    if document.nature is None:
        return [_Part("pdf", _CODES[document.kind], document.received_sha256, document.received_size)]
    assert document.sealed_sha256 is not None and document.sealed_size is not None
    code = names.nature_code(document.nature, "pdf")
    pdf = _Part("pdf", code, document.sealed_sha256, document.sealed_size)
    parts = [pdf] if "pdf" in formats else []
    if "xml" in formats and document.xml_sha256 is not None and document.xml_size is not None:
        parts.append(_Part("xml", names.nature_code(document.nature, "xml"), document.xml_sha256, document.xml_size))
    return parts or [pdf]


def _hold(tx: Transaction, deliveries: Sequence[Delivery], now: dt.datetime) -> None:
    for delivery in deliveries:
        tx.execute(
            sa.update(Delivery)
            .where(col(Delivery.id) == delivery.id)
            .values(
                state=DeliveryState.HELD,
                state_reason=BYTES_LOST,
                due_at=None,
                updated_at=now,
                row_version=col(Delivery.row_version) + 1,
            )
        )
    record_all(tx, [Fact("delivery.held", d.id, d.document_id, {"reason": BYTES_LOST}) for d in deliveries])
