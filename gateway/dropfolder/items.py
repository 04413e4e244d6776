"""Entries as the index holds them, and how they are read: one compact row each, straight from the driver's.

An inbox may hold 50,000 of them, read in one go before the first answer: no object of the ORM is made, no column read
that no question needs.
"""

import datetime as dt
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..domain.tables import metadata
from ..store.database import Transaction
from . import history, paths

ENTRY = metadata.tables["folder_entry"]
FOLDER = metadata.tables["folder"]
EVENT = metadata.tables["folder_event"]
DIRECTORY = metadata.tables["folder_directory"]
BYTES = 640  # that an item costs an index, with its name and its places in it


class Item(NamedTuple):
    """An entry as clients see it."""

    id: str
    name: str
    elsewhere: str | None  # its path outside the archive; None: its own name in the inbox
    sha256: str
    size: int  # bytes
    mtime: int  # Unix seconds
    sequence: int
    changed: int
    listed: bool
    is_gone: bool  # removed or withdrawn
    is_moved: bool  # by a client
    received_at: dt.datetime | None

    @property
    def place(self) -> str:
        """Its path outside the archive."""
        return self.elsewhere or f"{paths.INBOX}/{self.name}"

    @property
    def is_history(self) -> bool:
        """Brought along from the server before: no entry, and none of the folder's numbers, which begin with 1."""
        return self.sequence == 0


_OWN_DIRECTORY = sa.case((ENTRY.c.directory == "", ""), else_="/" + ENTRY.c.directory)
_COLUMNS = (
    ENTRY.c.id,
    ENTRY.c.name,
    sa.case(
        (ENTRY.c.path.is_not(None), ENTRY.c.path),
        (sa.and_(ENTRY.c.area == "inbox", ENTRY.c.directory == ""), None),
        else_="/" + ENTRY.c.area + _OWN_DIRECTORY + "/" + ENTRY.c.name,
    ),
    ENTRY.c.sha256,
    ENTRY.c.size,
    ENTRY.c.mtime,
    ENTRY.c.sequence,
    ENTRY.c.changed,
    ENTRY.c.listed,
    sa.or_(ENTRY.c.removed_at.is_not(None), ENTRY.c.withdrawn_at.is_not(None)),
    ENTRY.c.path.is_not(None),
    ENTRY.c.received_at,
)


def own_place(row: Any) -> str:
    """Where an entry was published; a client may have moved it."""
    return paths.join(paths.join(f"/{row.area}", row.directory) if row.directory else f"/{row.area}", row.name)


def item_of(row: Any) -> Item:
    """From a whole row of the table."""
    place = row.path or own_place(row)
    return Item(
        id=row.id,
        name=row.name,
        elsewhere=None if place == f"{paths.INBOX}/{row.name}" else place,
        sha256=row.sha256,
        size=row.size,
        mtime=row.mtime,
        sequence=row.sequence,
        changed=row.changed,
        listed=row.listed,
        is_gone=row.removed_at is not None or row.withdrawn_at is not None,
        is_moved=row.path is not None,
        received_at=row.received_at,
    )


def items_where(tx: Transaction, folder_id: str, *conditions: Any) -> list[Item]:
    """Entries of a folder, in the order of their sequence."""
    query = sa.select(*_COLUMNS).where(ENTRY.c.folder_id == folder_id, *conditions).order_by(ENTRY.c.sequence)
    return list(map(Item._make, tx.execute(query)))


def listed_in(tx: Transaction, folder_id: str) -> list[Item]:
    """The same of what is listed and not received, which may be much: as the driver gives it, nothing to convert."""
    columns = (*_COLUMNS[:-4], sa.true(), sa.false(), _COLUMNS[-2], sa.null())
    listed = sa.select(*columns).where(ENTRY.c.folder_id == folder_id, ENTRY.c.listed, ENTRY.c.received_at.is_(None))
    cursor = tx.connection().execute(listed.order_by(ENTRY.c.sequence)).cursor
    return list(map(Item._make, cursor.fetchall()))


def history_in(tx: Transaction, folder_id: str, month: str, name: str) -> list[Item]:
    """What a month of the archive has of the server before, under that name; see history.in_month."""
    return [
        Item(row.id, row.name, "", row.sha256, row.size, row.mtime, 0, 0, False, False, False, None)
        for row in history.in_month(tx, folder_id, month, name)
    ]
