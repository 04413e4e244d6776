"""The folders that a layout has inside an inbox: one for each contract.

They are made when the layout is chosen, and for later contracts when the first document of one is published, and stay
when nothing is in them: an ERP that looks into one that is not there yet fails its night.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ..domain import names
from ..domain.tables import metadata
from ..store import database
from ..store.database import Transaction

ENTRY = metadata.tables["folder_entry"]
DIRECTORY = metadata.tables["folder_directory"]
FOLDER = metadata.tables["folder"]


def place_of(directory: str) -> str:
    """The path of a folder of the layout; the inbox itself for none."""
    return f"/inbox/{directory}" if directory else "/inbox"


def make_directories(tx: Transaction, folder_id: str, contracts: Iterable[str]) -> dict[str, str]:
    """The folders of these contracts, by number, made where they are missing: their paths by their folded paths.

    One that differs in case only is the same folder, as for an ERP's disk. One is left out where a client has moved a
    file to its place: that contract's entries are published flat.
    """
    by_place = {
        names.fold(place_of(name)): place_of(name) for name in sorted(map(names.directory_name, contracts)) if name
    }
    for place in files_at(tx, folder_id, by_place):
        del by_place[place]
    there = folders_at(tx, folder_id, by_place)
    rows: list[dict[str, Any]] = [
        {"folder_id": folder_id, "path_folded": place, "path": by_place[place], "by_layout": True}
        for place in sorted(by_place.keys() - there.keys())
    ]
    if rows:
        now = database.now(tx)
        tx.execute(sa.insert(DIRECTORY), [row | {"created_at": now} for row in rows])
    return by_place | there


def files_at(tx: Transaction, folder_id: str, places: Iterable[str]) -> set[str]:
    """Of these folded paths, those that hold a file which the client moved there."""
    moved = sa.select(ENTRY.c.path_folded).where(ENTRY.c.folder_id == folder_id, ENTRY.c.listed)
    return set(tx.execute(moved.where(ENTRY.c.path_folded.in_(places))).scalars())


def folders_at(tx: Transaction, folder_id: str, places: Iterable[str]) -> dict[str, str]:
    """Of these folded paths, those of folders that the client or the layout made, with the paths as they were made."""
    made = sa.select(DIRECTORY.c.path_folded, DIRECTORY.c.path).where(DIRECTORY.c.folder_id == folder_id)
    return {row.path_folded: row.path for row in tx.execute(made.where(DIRECTORY.c.path_folded.in_(places)))}
