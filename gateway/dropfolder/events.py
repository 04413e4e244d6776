"""The events of a folder by their numbers: what a client reads to know that it misses nothing.

A number names one event (published, published again, withdrawn), numbers have no gap, and whoever has read up to N
finds everything that came later after N. Pure reads; each function runs inside a transaction.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..domain.folders import EventKind
from ..domain.states import Kind
from ..domain.tables import metadata
from ..store.database import Transaction
from .items import ENTRY, EVENT, FOLDER

DOCUMENT = metadata.tables["document"]


@dataclass(frozen=True)
class Event:
    """One number of a folder. What is withdrawn has its name and number still, and no bytes any more."""

    sequence: int
    event: EventKind
    at: dt.datetime
    entry: str
    delivery: str
    document: str
    kind: Kind
    number: str
    name: str
    month: str  # YYYY-MM, of its place in the archive
    format: str
    sha256: str
    size: int  # bytes
    mtime: int  # of the entry, Unix seconds
    newest: int  # number of the entry's newest publication
    listed: bool
    received_at: dt.datetime | None
    withdrawn_at: dt.datetime | None

    def is_listed_before(self, last_mtime: int) -> bool:
        """Whether a listing may show it at that `last_mtime` of the folder (index.py); later ones then do too."""
        return self.event is EventKind.WITHDRAWN or self.newest > self.sequence or self.mtime < last_mtime


_QUERY = (
    sa.select(
        EVENT.c.sequence,
        EVENT.c.event,
        EVENT.c.at,
        EVENT.c.entry_id.label("entry"),
        ENTRY.c.delivery_id.label("delivery"),
        ENTRY.c.document_id.label("document"),
        DOCUMENT.c.kind,
        DOCUMENT.c.number,
        ENTRY.c.name,
        ENTRY.c.month,
        ENTRY.c.format,
        ENTRY.c.sha256,
        ENTRY.c.size,
        ENTRY.c.mtime,
        ENTRY.c.sequence.label("newest"),
        ENTRY.c.listed,
        ENTRY.c.received_at,
        ENTRY.c.withdrawn_at,
    )
    .join(ENTRY, ENTRY.c.id == EVENT.c.entry_id)
    .join(DOCUMENT, DOCUMENT.c.id == ENTRY.c.document_id)
    .where(EVENT.c.folder_id == sa.bindparam("folder"), EVENT.c.sequence > sa.bindparam("after"))
    .order_by(EVENT.c.sequence)
)


def after(tx: Transaction, folder_id: str, sequence: int, limit: int) -> list[Event]:
    """The events after that number, in their order, at most `limit`."""
    rows: Any = tx.execute(_QUERY.limit(limit), {"folder": folder_id, "after": sequence})
    return [Event(*row) for row in rows]  # the columns stand in the order of its members


def last(tx: Transaction, folder_id: str) -> int:
    """The newest number of the folder; 0 before the first."""
    number: int = tx.execute(sa.select(FOLDER.c.last_sequence).where(FOLDER.c.id == folder_id)).scalar_one()
    return number
