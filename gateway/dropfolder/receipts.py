"""What was read, and which facts make an entry, then its delivery, received.

Each function runs inside a write transaction and returns the entries as they are afterwards, for the index. Locks
are taken in one order: folder, entry, delivery. A fact that is already there is never written again.
"""

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain.folders import ReceiptMode
from ..domain.states import Channel, DeliveryState, advance_delivery, states_before
from ..domain.tables import metadata
from ..errors import Conflict
from ..store import database
from ..store.database import Transaction
from . import ranges
from .index import ENTRY, FOLDER, Item, items_where

DELIVERY = metadata.tables["delivery"]
RANGES_IN_A_RECORD = 50  # the longest; the entry keeps more


@dataclass(frozen=True)
class Read:
    """What one handle gave out."""

    item: Item
    ranges: ranges.Ranges
    is_clean: bool  # closed by the client, not by the loss of its connection
    duration_ms: int


def is_receipt(mode: ReceiptMode, *, area: str, fully_read: bool, out_of_place: bool) -> bool:
    """Whether these facts make an entry received; `out_of_place`: removed, renamed, or expired from the inbox."""
    if area != "inbox" or not fully_read:
        return False
    return mode is ReceiptMode.FULL_READ or (mode is ReceiptMode.DELETE and out_of_place)


def record_reads(tx: Transaction, folder_id: str, who: dict[str, Any], reads: Iterable[Read]) -> list[Item]:
    """Record closed and abandoned handles; the entries that became received by it."""
    received = []
    for read in sorted(reads, key=lambda read: read.item.id):
        row = _facts_of(tx, read.item.id)
        if row.receipt_mode is ReceiptMode.FULL_READ or _is_out_of_place(row):
            lock(tx, folder_id)
        row = _facts_of(tx, read.item.id, for_update=True)
        now = database.now(tx)
        is_full = _merge(tx, row, read, now)
        _record(tx, row, who, read, is_full)
        if is_full and _is_received_now(row):
            received.append(receive(tx, folder_id, read.item.id, "fully read", who))
    return received


def _facts_of(tx: Transaction, entry_id: str, *, for_update: bool = False) -> Any:
    query = sa.select(ENTRY, FOLDER.c.receipt_mode).join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id)
    if for_update:
        query = query.with_for_update(of=ENTRY)
    return tx.execute(query.where(ENTRY.c.id == entry_id)).one()


def _is_out_of_place(row: Any) -> bool:
    return row.removed_at is not None or row.path is not None or not row.listed


def _merge(tx: Transaction, row: Any, read: Read, now: dt.datetime) -> bool:
    """Add the ranges to the entry's; whether it is fully read now, or was before."""
    merged = ranges.union(row.read_ranges, read.ranges)
    values: dict[str, Any] = {}
    if row.opened_at is None:
        values["opened_at"] = now
    if merged != row.read_ranges:
        values["read_ranges"] = merged
    is_full = row.fully_read_at is not None
    if not is_full and read.is_clean and ranges.covers(merged, row.size):
        values["fully_read_at"], is_full = now, True
    if values:
        tx.execute(sa.update(ENTRY).where(ENTRY.c.id == row.id).values(**values))
    return is_full


def _record(tx: Transaction, row: Any, who: dict[str, Any], read: Read, is_full: bool) -> None:
    longest = sorted(read.ranges, key=lambda pair: pair[0] - pair[1])[:RANGES_IN_A_RECORD]
    evidence.record(
        tx,
        "entry.read",
        row.id,
        document=row.document_id,
        **who,
        name=row.name,
        sequence=row.sequence,
        sha256=row.sha256,
        bytes=ranges.total(read.ranges),
        ranges=sorted(longest),
        size=row.size,
        closed_cleanly=read.is_clean,
        fully_read=is_full,
        duration_ms=read.duration_ms,
    )


def _is_received_now(row: Any) -> bool:
    if row.received_at is not None or row.withdrawn_at is not None:
        return False
    return is_receipt(row.receipt_mode, area=row.area, fully_read=True, out_of_place=_is_out_of_place(row))


def lock(tx: Transaction, folder_id: str) -> None:
    """Hold the folder's row: whatever changes its listing comes after this transaction."""
    tx.execute(sa.select(FOLDER.c.id).where(FOLDER.c.id == folder_id).with_for_update())


def bump(tx: Transaction, folder_id: str) -> tuple[int, ReceiptMode]:
    """Count a change of the listing, and hold the folder's row; its new version and its receipt mode."""
    statement = sa.update(FOLDER).where(FOLDER.c.id == folder_id).values(version=FOLDER.c.version + 1)
    version, mode = tx.execute(statement.returning(FOLDER.c.version, FOLDER.c.receipt_mode)).one()
    return version, mode


def receive(tx: Transaction, folder_id: str, entry_id: str, how: str, who: dict[str, Any]) -> Item:
    """The entry's receipt; its delivery's too, when no other entry of it is missing."""
    version, _ = bump(tx, folder_id)
    now = database.now(tx)
    tx.execute(sa.update(ENTRY).where(ENTRY.c.id == entry_id).values(received_at=now, listed=False, changed=version))
    row = _facts_of(tx, entry_id)
    evidence.record(tx, "entry.received", row.id, document=row.document_id, **who, name=row.name, how=how)
    _receive_delivery(tx, row.delivery_id, how, now)
    return items_where(tx, folder_id, ENTRY.c.id == entry_id)[0]


def _receive_delivery(tx: Transaction, delivery_id: str, how: str, now: dt.datetime) -> None:
    missing = sa.select(ENTRY.c.id).where(
        ENTRY.c.delivery_id == delivery_id, ENTRY.c.received_at.is_(None), ENTRY.c.withdrawn_at.is_(None)
    )
    if tx.execute(missing.limit(1)).first() is not None:
        return
    delivery = tx.execute(sa.select(DELIVERY).where(DELIVERY.c.id == delivery_id).with_for_update()).one()
    if delivery.state not in states_before(Channel.FOLDER, "received"):
        return  # withdrawn meanwhile: the entry's own fact stands, the delivery's word does not change
    state = advance_delivery(Channel.FOLDER, DeliveryState(delivery.state), "received")
    tx.execute(
        sa.update(DELIVERY)
        .where(DELIVERY.c.id == delivery_id)
        .values(state=state, final_at=now, updated_at=now, due_at=None, row_version=DELIVERY.c.row_version + 1)
    )
    evidence.record(
        tx, "delivery.received", delivery_id, document=delivery.document_id, folder=delivery.destination, how=how
    )


def acknowledge(tx: Transaction, folder_id: str, entry_ids: Collection[str], by: str) -> list[Item]:
    """Receipts by API, for folders in mode `api`; what is received already stays as it is.

    `by` is the actor's id. Conflict in another mode. Ids of other folders are passed over like unknown ones.
    """
    _, mode = bump(tx, folder_id)
    if mode is not ReceiptMode.API:
        raise Conflict(f"this folder's receipts are given by {mode.value}, not by API", code="receipt_mode")
    rows = tx.execute(
        sa.select(ENTRY.c.id)
        .where(
            ENTRY.c.folder_id == folder_id,
            ENTRY.c.id.in_(entry_ids),
            ENTRY.c.area == "inbox",
            ENTRY.c.received_at.is_(None),
            ENTRY.c.withdrawn_at.is_(None),
        )
        .order_by(ENTRY.c.id)
        .with_for_update()
    ).all()
    return [receive(tx, folder_id, row.id, "acknowledged", {"actor": by}) for row in rows]
