"""What was read, and which facts make an entry, then its delivery, received.

Each function runs inside a write transaction and returns the entries as they are afterwards, for the index. These
are the hottest writes of a folder: few statements, built once. Where two sessions lock folder and entry in opposite
orders on PostgreSQL, one of them is run again by the database's own rule.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain.folders import ReceiptMode
from ..domain.states import Channel, DeliveryState, advance_delivery, states_before
from ..domain.tables import metadata
from ..errors import Conflict
from ..evidence import Fact
from ..store import database
from ..store.database import Transaction
from . import ranges
from .items import ENTRY, FOLDER, Item, item_of
from .ranges import Ranges

DELIVERY = metadata.tables["delivery"]
RANGES_IN_A_RECORD = 50  # the longest; the entry keeps more

_BUMP = (
    sa.update(FOLDER)
    .where(FOLDER.c.id == sa.bindparam("folder"))
    .values(version=FOLDER.c.version + 1)
    .returning(FOLDER.c.version)
)
_ENTRIES = (
    sa.select(ENTRY, FOLDER.c.receipt_mode).join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id).with_for_update(of=ENTRY)
)
_ENTRY_ROW = _ENTRIES.where(ENTRY.c.id == sa.bindparam("entry"))
_ENTRY_ROWS = _ENTRIES.where(ENTRY.c.id.in_(sa.bindparam("entries", expanding=True))).order_by(ENTRY.c.id)
_SET_ENTRY = sa.update(ENTRY).where(ENTRY.c.id == sa.bindparam("entry"))
_READ_COLUMNS = ("opened_at", "read_ranges", "fully_read_at")
_SET_READ = _SET_ENTRY.values({name: sa.bindparam(f"new_{name}") for name in _READ_COLUMNS})
_MISSING = (
    sa.select(ENTRY.c.id)
    .where(
        ENTRY.c.delivery_id == sa.bindparam("delivery"), ENTRY.c.received_at.is_(None), ENTRY.c.withdrawn_at.is_(None)
    )
    .limit(1)
)
_RECEIVE_DELIVERY = (
    sa.update(DELIVERY)
    .where(DELIVERY.c.id == sa.bindparam("delivery"), DELIVERY.c.state.in_(states_before(Channel.FOLDER, "received")))
    .values(
        state=advance_delivery(Channel.FOLDER, DeliveryState.PUBLISHED, "received"),
        final_at=sa.bindparam("now"),
        updated_at=sa.bindparam("now"),
        due_at=None,
        row_version=DELIVERY.c.row_version + 1,
    )
    .returning(DELIVERY.c.document_id, DELIVERY.c.destination)
)


@dataclass(frozen=True)
class Read:
    """What one handle gave out."""

    item: Item
    ranges: Ranges  # that arrived
    doubtful: list[tuple[int, int]]  # that were given out besides, and may have: a pair for each answer
    is_clean: bool  # closed by the client, not by the loss of its connection
    duration_ms: int
    sent: int = 0  # bytes given out; more than `ranges` hold where it is not known what arrived
    who: dict[str, Any] = field(default_factory=dict)  # the session, as records name it
    record_id: str = field(default_factory=evidence.new_record_id)


def is_receipt(mode: ReceiptMode, *, area: str, fully_read: bool, out_of_place: bool) -> bool:
    """Whether these facts make an entry received; `out_of_place`: removed, renamed, or expired from the inbox."""
    if area != "inbox" or not fully_read:
        return False
    return mode is ReceiptMode.FULL_READ or (mode is ReceiptMode.DELETE and out_of_place)


def entry_row(tx: Transaction, entry_id: str) -> Any:
    """The entry, locked, with its folder's receipt mode."""
    return tx.execute(_ENTRY_ROW, {"entry": entry_id}).one()


def bump(tx: Transaction, folder_id: str) -> int:
    """Count a change of the folder's listing, and hold its row: changes of one folder come one after the other."""
    version: int = tx.execute(_BUMP, {"folder": folder_id}).scalar_one()
    return version


def change(tx: Transaction, row: Any, values: dict[str, Any]) -> Any:
    """Set these columns of the entry; the row as it is now."""
    tx.execute(_SET_ENTRY, {"entry": row.id, **values})
    return _with(row, values)


def _with(row: Any, values: dict[str, Any]) -> Any:
    return SimpleNamespace(**{**(vars(row) if isinstance(row, SimpleNamespace) else row._mapping), **values})


def record_reads(tx: Transaction, folder_id: str, reads: Iterable[Read]) -> list[Item]:
    """Record closed and abandoned handles, in this order; the entries that became received by it."""
    reads = list(reads)
    found: Any = tx.execute(_ENTRY_ROWS, {"entries": sorted({read.item.id for read in reads})})
    rows = {row.id: row for row in found}
    now, facts, changed = database.now(tx), [], {}
    for read in reads:
        row = rows[read.item.id]
        if values := _merged(row, read, now):
            row = rows[row.id] = changed[row.id] = _with(row, values)
        facts.append(_read_fact(row, read))
    if changed:
        tx.execute(_SET_READ, [_read_values(row) for row in changed.values()])
    received = []
    for row in rows.values():
        if is_received_now(row):
            after, more = receive(tx, row, bump(tx, folder_id), now, "fully read", _reader(reads, row.id))
            facts += more
            received.append(item_of(after))
    evidence.record_all(tx, facts)
    return received


def _reader(reads: Iterable[Read], entry_id: str) -> dict[str, Any]:
    """The session that read it last."""
    return [read.who for read in reads if read.item.id == entry_id][-1]


def _read_values(row: Any) -> dict[str, Any]:
    return {"entry": row.id, **{f"new_{name}": getattr(row, name) for name in _READ_COLUMNS}}


def _merged(row: Any, read: Read, now: dt.datetime) -> dict[str, Any]:
    """What the ranges change in the entry."""
    merged = ranges.union(row.read_ranges, read.ranges)
    values: dict[str, Any] = {}
    if row.opened_at is None:
        values["opened_at"] = now
    if merged != row.read_ranges:
        values["read_ranges"] = merged
    if row.fully_read_at is None and read.is_clean and ranges.covers(merged, row.size):
        values["fully_read_at"] = now
    return values


def _read_fact(row: Any, read: Read) -> Fact:
    longest = sorted(read.ranges, key=lambda pair: pair[0] - pair[1])[:RANGES_IN_A_RECORD]
    facts = {
        "name": row.name,
        "sequence": row.sequence,
        "sha256": row.sha256,
        "bytes": ranges.total(read.ranges),
        "sent": read.sent,
        "ranges": sorted(longest),
        "size": row.size,
        "closed_cleanly": read.is_clean,
        "fully_read": row.fully_read_at is not None,
        "duration_ms": read.duration_ms,
    }
    return Fact("entry.read", row.id, row.document_id, {**read.who, **facts}, read.record_id)


def is_received_now(row: Any) -> bool:
    """Whether an entry that is not received has all that its receipt needs."""
    if row.received_at is not None or row.withdrawn_at is not None:
        return False
    out_of_place = row.removed_at is not None or row.path is not None or not row.listed
    fully_read = row.fully_read_at is not None
    return is_receipt(row.receipt_mode, area=row.area, fully_read=fully_read, out_of_place=out_of_place)


def receive(
    tx: Transaction, row: Any, version: int, now: dt.datetime, how: str, who: dict[str, Any]
) -> tuple[Any, list[Fact]]:
    """The entry's receipt; its delivery's too, when no other entry of it is missing. The row now, facts to record."""
    row = change(tx, row, {"received_at": now, "listed": False, "changed": version})
    facts = [Fact("entry.received", row.id, row.document_id, {**who, "name": row.name, "how": how})]
    if tx.execute(_MISSING, {"delivery": row.delivery_id}).first() is None:
        # None: withdrawn meanwhile; the entry's own fact stands, the delivery's word does not change.
        delivery = tx.execute(_RECEIVE_DELIVERY, {"delivery": row.delivery_id, "now": now}).first()
        if delivery is not None:
            said = {"folder": delivery.destination, "how": how}
            facts.append(Fact("delivery.received", row.delivery_id, delivery.document_id, said))
    return row, facts


def acknowledge(tx: Transaction, delivery_id: str, by: str) -> None:
    """A delivery's receipt by API, for folders in mode `api`; one that is received already stays as it is.

    `by` is the actor's id. Conflict in another mode or channel, before it is published, and when it was withdrawn.
    """
    delivery = tx.execute(sa.select(DELIVERY).where(DELIVERY.c.id == delivery_id)).one()
    if delivery.channel is not Channel.FOLDER:
        raise Conflict("only what lies in a drop folder is acknowledged", code="receipt_mode")
    version = bump(tx, delivery.destination)
    mode = tx.execute(sa.select(FOLDER.c.receipt_mode).where(FOLDER.c.id == delivery.destination)).scalar_one()
    if mode is not ReceiptMode.API:
        raise Conflict(f"this folder's receipts are given by {mode.value}, not by API", code="receipt_mode")
    query = sa.select(ENTRY).where(ENTRY.c.delivery_id == delivery_id, ENTRY.c.area == "inbox")
    rows = tx.execute(query.where(ENTRY.c.withdrawn_at.is_(None)).order_by(ENTRY.c.id).with_for_update()).all()
    if not rows:
        raise Conflict("there is nothing of this delivery in its folder that takes a receipt", code="not_published")
    now = database.now(tx)
    done = [receive(tx, row, version, now, "acknowledged", {"actor": by}) for row in rows if row.received_at is None]
    evidence.record_all(tx, [fact for _, facts in done for fact in facts])
