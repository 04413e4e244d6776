"""What one look at the database brings an index: everything at hand the first time, then only what is newer.

Published and withdrawn entries are found by the folder's sequence, what clients did by `Entry.changed`. Entries that
are in the archive alone are never brought.
"""

import datetime as dt
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..domain.folders import EventKind, ReceiptMode
from ..domain.path_map import PathMap
from ..store import database
from ..store.database import Transaction
from . import history
from .items import DIRECTORY, ENTRY, EVENT, FOLDER, Item, items_where, listed_in

_AT_A_TIME = 500  # ids in one query
_RULES = [
    FOLDER.c[name]
    for name in ("version", "last_mtime", "last_sequence", "receipt_mode", "linger_minutes", "path_map", "imports")
]


@dataclass(frozen=True)
class Known:
    """Up to where an index knows its folder."""

    version: int  # -1: nothing at all
    last_sequence: int
    months: Collection[str]
    imports: int
    pinned: Collection[str]  # ids that are at hand whatever became of them


@dataclass(frozen=True)
class News:
    """What one look brought."""

    version: int
    last_mtime: int
    last_sequence: int
    receipt_mode: ReceiptMode
    linger: dt.timedelta
    path_map: PathMap
    now: dt.datetime
    items: list[Item]
    directories: dict[str, int] | None  # path -> Unix seconds; None: as before
    months: dict[str, int] | None  # YYYY-MM -> least mtime in it; None: as before
    touched: frozenset[str]  # months in which something was published or withdrawn
    imports: int
    history: frozenset[str] | None  # months of which there is history; None: as before


def read(tx: Transaction, folder_id: str, known: Known, usual_linger: dt.timedelta) -> News:
    """Compare with the folder's row; read what is newer than what is known."""
    folder = tx.execute(sa.select(*_RULES).where(FOLDER.c.id == folder_id)).one()
    now = database.now(tx)
    linger = usual_linger if folder.linger_minutes is None else dt.timedelta(minutes=folder.linger_minutes)
    items: list[Item] = []
    directories = months = None
    touched: dict[str, bool] = {}
    if known.version < 0:
        others = [item for one in _received(now - linger) for item in items_where(tx, folder_id, *one)]
        items = [*_pinned(tx, folder_id, known.pinned), *others, *listed_in(tx, folder_id)]
    elif (folder.version, folder.last_sequence) != (known.version, known.last_sequence):
        items, touched = _newer(tx, folder_id, known), _touched(tx, folder_id, known)
    if folder.version != known.version:
        directories = _read_directories(tx, folder_id)
    if known.version < 0 or any(is_less or month not in known.months for month, is_less in touched.items()):
        months = _read_months(tx, folder_id)
    return News(
        version=folder.version,
        last_mtime=folder.last_mtime,
        last_sequence=folder.last_sequence,
        receipt_mode=folder.receipt_mode,
        linger=linger,
        path_map=PathMap(folder.path_map or ()),
        now=now,
        items=items,
        directories=directories,
        months=months,
        touched=frozenset(touched),
        imports=folder.imports,
        history=history.months(tx, folder_id) if folder.imports != known.imports else None,
    )


def _received(after: dt.datetime) -> tuple[tuple[Any, ...], ...]:
    """Received, and listed all the same, or still to be found. One query each: of both no index knows.

    Else every entry of an archive would be looked at.
    """
    is_there = (ENTRY.c.removed_at.is_(None), ENTRY.c.withdrawn_at.is_(None))
    return (ENTRY.c.listed, ENTRY.c.received_at.is_not(None)), (~ENTRY.c.listed, ENTRY.c.received_at > after, *is_there)


def _pinned(tx: Transaction, folder_id: str, pinned: Collection[str]) -> Iterator[Item]:
    ids = iter(pinned)
    while some := list(itertools.islice(ids, _AT_A_TIME)):
        yield from items_where(tx, folder_id, ENTRY.c.id.in_(some))


def _newer(tx: Transaction, folder_id: str, known: Known) -> list[Item]:
    items = items_where(tx, folder_id, ENTRY.c.changed > known.version)
    is_shown = sa.or_(ENTRY.c.listed, ENTRY.c.withdrawn_at.is_not(None))  # what went to the archive alone is not
    return items + items_where(
        tx, folder_id, is_shown, ENTRY.c.id.in_(_events(folder_id, known).with_only_columns(EVENT.c.entry_id))
    )


def _events(folder_id: str, known: Known) -> Any:
    newer = sa.select(EVENT.c.entry_id, EVENT.c.event)
    return newer.where(EVENT.c.folder_id == folder_id, EVENT.c.sequence > known.last_sequence)


def _touched(tx: Transaction, folder_id: str, known: Known) -> dict[str, bool]:
    """The months of newer events, and whether something was withdrawn there."""
    events = _events(folder_id, known).subquery()
    months = sa.select(ENTRY.c.month, events.c.event).join(events, events.c.entry_id == ENTRY.c.id).distinct()
    touched: dict[str, bool] = {}
    for month, event in tx.execute(months):
        touched[month] = touched.get(month, False) or event == EventKind.WITHDRAWN
    return touched


def _read_directories(tx: Transaction, folder_id: str) -> dict[str, int]:
    query = sa.select(DIRECTORY.c.path, DIRECTORY.c.created_at).where(DIRECTORY.c.folder_id == folder_id)
    return {row.path: int(row.created_at.timestamp()) for row in tx.execute(query)}


def _read_months(tx: Transaction, folder_id: str) -> dict[str, int]:
    # One step along the index for each month: DISTINCT would walk over every entry of six years.
    months: dict[str, int] = {}
    query = (
        sa.select(ENTRY.c.month, ENTRY.c.mtime)
        .where(ENTRY.c.folder_id == folder_id, ENTRY.c.month > sa.bindparam("after"), ENTRY.c.withdrawn_at.is_(None))
        .order_by(ENTRY.c.month, ENTRY.c.sequence)
        .limit(1)
    )
    while row := tx.execute(query, {"after": max(months, default="")}).first():
        months[row.month] = row.mtime
    return months


def settle(tx: Transaction, folder_id: str, newest: int) -> None:
    """The second of `last_mtime` is over: nothing more is published in it. No effect if another was faster."""
    now = int(database.now(tx).timestamp())
    tx.execute(
        sa.update(FOLDER)
        .where(FOLDER.c.id == folder_id, FOLDER.c.last_mtime == newest, FOLDER.c.last_mtime < now)
        .values(last_mtime=FOLDER.c.last_mtime + 1)
    )
