"""What a client does to names: remove, rename, mkdir, rmdir; and what returns by itself.

Each function runs inside a write transaction that first takes the folder's row, so that of two clients (or two
gateways) at one name the second sees what the first did. The database is asked, not the index: the index may
be a second old. Nothing here can touch the archive.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import evidence
from ..domain import names
from ..errors import Conflict, NotFound, Refused
from ..evidence import Fact
from ..store import database
from ..store.database import Transaction
from . import paths, ranges, receipts
from .areas import NOT_THERE
from .items import DIRECTORY, ENTRY, FOLDER, Item, item_of, own_place
from .ranges import Ranges


@dataclass(frozen=True)
class Removal:
    """An entry after its removal."""

    item: Item
    is_unread: bool  # removed before it was fully read, and never received
    unconfirmed: int = 0  # if so, after a resumed read: bytes sent before, of which nobody knows whether they arrived


def remove(tx: Transaction, folder_id: str, who: dict[str, Any], item: Item, lost: Ranges) -> Removal:
    """Take the name out of its place; NotFound when another session was faster.

    `lost`: what was given out over connections that were lost.
    """
    version = receipts.bump(tx, folder_id)
    row = _still_there(tx, item)
    now = database.now(tx)
    is_unread = row.fully_read_at is None and row.received_at is None
    row = receipts.change(tx, row, {"removed_at": now, "listed": False, "changed": version})
    event = "entry.removed_unread" if is_unread else "entry.removed"
    unconfirmed = _unconfirmed(row, lost) if is_unread else 0
    said = {**who, "name": row.name, "place": item.place, **({"unconfirmed": unconfirmed} if unconfirmed else {})}
    facts = [Fact(event, row.id, row.document_id, said)]
    return Removal(_after(tx, row, version, now, facts, "fully read and removed", who), is_unread, unconfirmed)


def _unconfirmed(row: Any, lost: Ranges) -> int:
    """Of an entry that was read to its end and given out as a whole: bytes that only lost connections carried."""
    is_resumed = bool(row.read_ranges) and row.read_ranges[-1][1] >= row.size
    if not is_resumed or not ranges.covers(ranges.union(row.read_ranges, lost), row.size):
        return 0
    size: int = row.size
    return size - ranges.total(row.read_ranges)


def rename(tx: Transaction, folder_id: str, who: dict[str, Any], item: Item, target: str) -> Item:
    """Move the entry's name to `target`, or back to its own. Conflict: something is there; Denied: not the client's.

    NotFound when another session was faster, or when the target lies under a file.
    """
    version = receipts.bump(tx, folder_id)
    row = _still_there(tx, item)
    now = database.now(tx)
    values: dict[str, Any] = {"path": None, "path_folded": None, "renamed_at": None}
    if target != own_place(row):
        paths.check_new_file(target)
        _check_free(tx, folder_id, target, moving=row.id)
        values = {"path": target, "path_folded": names.fold(target), "renamed_at": now}
    row = receipts.change(tx, row, {**values, "changed": version})
    facts = [
        Fact("entry.renamed", row.id, row.document_id, {**who, "name": row.name, "place": item.place, "target": target})
    ]
    return _after(tx, row, version, now, facts, "fully read and renamed", who)


def _still_there(tx: Transaction, item: Item) -> Any:
    row = receipts.entry_row(tx, item.id)
    place = row.path or own_place(row)
    if row.removed_at is not None or row.withdrawn_at is not None or place != item.place:
        raise NotFound(NOT_THERE)
    return row


def _after(
    tx: Transaction, row: Any, version: int, now: dt.datetime, facts: list[Fact], how: str, who: dict[str, Any]
) -> Item:
    """Record what was done, and the receipt if that was what it lacked; the entry now."""
    if receipts.is_received_now(row):
        row, more = receipts.receive(tx, row, version, now, how, who)
        facts += more
    evidence.record_all(tx, facts)
    return item_of(row)


def _check_free(tx: Transaction, folder_id: str, target: str, moving: str) -> None:
    folded = names.fold(target)
    listed = _listed(folder_id)
    taken = sa.select(ENTRY.c.id).where(*listed, ENTRY.c.id != moving)
    if tx.execute(taken.where(ENTRY.c.path_folded == folded).limit(1)).first() is not None:
        raise Conflict("there is a file of that name already", code="exists")
    if _directory_exists(tx, folder_id, folded):
        raise Conflict("there is a folder of that name already", code="exists")
    _check_parents(tx, folder_id, target)


def _check_parents(tx: Transaction, folder_id: str, path: str) -> None:
    above = [a for a in paths.ancestors(path) if a != paths.INBOX]
    if any(paths.split(a)[0] == paths.INBOX and names.is_published_form(paths.split(a)[1]) for a in above):
        raise NotFound(NOT_THERE)
    under_a_file = sa.select(ENTRY.c.id).where(
        *_listed(folder_id), ENTRY.c.path_folded.in_([names.fold(a) for a in above])
    )
    if tx.execute(under_a_file.limit(1)).first() is not None:
        raise NotFound(NOT_THERE)


def _listed(folder_id: str) -> tuple[Any, ...]:
    return (ENTRY.c.folder_id == folder_id, ENTRY.c.listed)


def _directory_exists(tx: Transaction, folder_id: str, folded: str) -> bool:
    made = sa.select(DIRECTORY.c.path).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path_folded == folded)
    return tx.execute(made).first() is not None or _holds_something(tx, folder_id, folded)


def _holds_something(tx: Transaction, folder_id: str, folded: str) -> bool:
    below = folded + "/"
    entries = sa.select(ENTRY.c.id).where(*_listed(folder_id), ENTRY.c.path_folded.startswith(below, autoescape=True))
    folders = sa.select(DIRECTORY.c.path).where(
        DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path_folded.startswith(below, autoescape=True)
    )
    return any(tx.execute(query.limit(1)).first() is not None for query in (entries, folders))


def make_directory(tx: Transaction, folder_id: str, path: str, limit: int) -> None:
    """A folder under the inbox, in this client's view only. Conflict: it exists; Refused: over the limit."""
    paths.check_new_directory(path)
    receipts.bump(tx, folder_id)
    folded = names.fold(path)
    parent = paths.split(path)[0]
    _check_free(tx, folder_id, path, moving="")
    if parent != paths.INBOX and not _directory_exists(tx, folder_id, names.fold(parent)):
        raise NotFound(NOT_THERE)
    made = sa.select(sa.func.count()).select_from(DIRECTORY)
    made = made.where(DIRECTORY.c.folder_id == folder_id, ~DIRECTORY.c.by_layout)
    if tx.execute(made).scalar_one() >= limit:
        raise Refused(f"at most {limit} folders can be made", code="too_many_directories")
    row = {"folder_id": folder_id, "path": path, "path_folded": folded}
    tx.execute(sa.insert(DIRECTORY), [{**row, "by_layout": False, "created_at": database.now(tx)}])


def remove_directory(tx: Transaction, folder_id: str, path: str) -> None:
    """Forget a folder that the client made. Conflict: something is in it."""
    receipts.bump(tx, folder_id)
    folded = names.fold(path)
    if _holds_something(tx, folder_id, folded):
        raise Conflict("the folder is not empty", code="not_empty")
    tx.execute(sa.delete(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path_folded == folded))


def folders_with_overdue_renames(tx: Transaction, before: dt.datetime) -> list[str]:
    """Folders holding entries that were renamed before that instant and are not fully read."""
    # By folder, so that the index on what is listed is used: the archive may hold millions.
    folders = sa.select(FOLDER.c.id).where(sa.exists(sa.select(ENTRY.c.id).where(*_overdue(FOLDER.c.id, before))))
    return [row.id for row in tx.execute(folders.order_by(FOLDER.c.id))]


def return_renamed(tx: Transaction, folder_id: str, before: dt.datetime) -> list[Item]:
    """Give those entries their own names back: whoever renamed them has not read them."""
    version = receipts.bump(tx, folder_id)
    rows = tx.execute(sa.select(ENTRY).where(*_overdue(folder_id, before)).with_for_update()).all()
    values = {"path": None, "path_folded": None, "renamed_at": None, "changed": version}
    returned = [receipts.change(tx, row, values) for row in rows]
    evidence.record_all(
        tx, [Fact("entry.returned", row.id, row.document_id, {"name": row.name, "place": row.path}) for row in rows]
    )
    return [item_of(row) for row in returned]


def _overdue(folder_id: Any, before: dt.datetime) -> tuple[Any, ...]:
    renamed = (ENTRY.c.path.is_not(None), ENTRY.c.renamed_at < before, ENTRY.c.fully_read_at.is_(None))
    return (*_listed(folder_id), *renamed)
