"""The history of a folder: files of the server before, found in its archive beside what was published.

They are no entries (domain/history.py); moving_in.py brings them. Each function runs inside a transaction.
"""

from typing import Any

import sqlalchemy as sa

from ..domain import names
from ..domain.tables import metadata
from ..store.database import Transaction

HISTORY = metadata.tables["history_file"]


def place_of(month: str, name: str) -> str:
    """The path in the client's home, `archive/YYYY/MM/name`."""
    return f"archive/{month[:4]}/{month[5:]}/{name}"


def months(tx: Transaction, folder_id: str) -> frozenset[str]:
    """The months, YYYY-MM, of which a folder has history."""
    found: set[str] = set()
    query = sa.select(sa.func.min(HISTORY.c.month)).where(
        HISTORY.c.folder_id == folder_id, HISTORY.c.month > sa.bindparam("after")
    )
    while month := tx.execute(query, {"after": max(found, default="")}).scalar_one():
        found.add(month)  # one step along the index for each
    return frozenset(found)


def in_month(tx: Transaction, folder_id: str, month: str, name: str | None = None) -> list[Any]:
    """The files of a month in the order of their dates; of that name alone, if one is given."""
    query = sa.select(HISTORY).where(HISTORY.c.folder_id == folder_id, HISTORY.c.month == month)
    if name is not None:
        query = query.where(HISTORY.c.name_folded == names.fold(name))
    return list(tx.execute(query.order_by(HISTORY.c.mtime, HISTORY.c.name)))
