"""The rows of sandboxes: which files and folders are there, what a client keeps over all its folders.

Each function runs inside a transaction; those that change something hold the folder's row, so that whoever counts or
takes a name is alone with it. Failures: NotFound, Conflict (a name that is taken), Refused (a limit).
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from .. import clock
from ..domain import names
from ..domain.sandbox import SandboxDirectory, SandboxFile, SandboxLeftover
from ..domain.tables import metadata
from ..errors import Conflict, NotFound, Refused
from ..store import database
from ..store.database import Transaction
from . import paths
from .areas import NOT_THERE
from .nodes import Node

FILE = metadata.tables[str(SandboxFile.__tablename__)]
DIRECTORY = metadata.tables[str(SandboxDirectory.__tablename__)]
LEFTOVER = metadata.tables[str(SandboxLeftover.__tablename__)]
FOLDER = metadata.tables["folder"]
_BATCH = 100  # files that go in one transaction


def _node(row: Any) -> Node:
    return Node(paths.split(row.path)[1], False, row.size, row.mtime)


def _directory_node(row: Any) -> Node:
    return Node(paths.split(row.path)[1], True, 0, row.mtime)


def file_at(tx: Transaction, folder_id: str, path: str) -> Any:
    """The row of the file there; None."""
    return tx.execute(sa.select(FILE).where(FILE.c.folder_id == folder_id, FILE.c.path == path)).first()


def is_named(tx: Transaction, blob_sha256: str) -> bool:
    """Whether a file of any sandbox has these bytes."""
    return tx.execute(sa.select(FILE.c.id).where(FILE.c.blob_sha256 == blob_sha256)).first() is not None


def find(tx: Transaction, folder_id: str, path: str) -> Node | None:
    """The file or folder there."""
    if (row := file_at(tx, folder_id, path)) is not None:
        return _node(row)
    made = sa.select(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path == path)
    row = tx.execute(made).first()
    return _directory_node(row) if row is not None else None


def inside(tx: Transaction, folder_id: str, path: str) -> list[Node]:
    """What lies in a folder, in no order."""
    found = []
    for table, node in ((DIRECTORY, _directory_node), (FILE, _node)):
        below = table.c.path.startswith(path + "/", autoescape=True)
        rows = tx.execute(sa.select(table).where(table.c.folder_id == folder_id, below)).all()
        found += [node(row) for row in rows if paths.split(row.path)[0] == path]
    return found


def kept(tx: Transaction, client_id: str) -> tuple[int, int]:
    """Bytes and files that a client keeps, over all its folders."""
    kept = sa.select(sa.func.coalesce(sa.func.sum(FILE.c.size), 0), sa.func.count())
    row = tx.execute(kept.join(FOLDER, FOLDER.c.id == FILE.c.folder_id).where(FOLDER.c.client_id == client_id)).one()
    return int(row[0]), int(row[1])


def require_place(tx: Transaction, folder_id: str, path: str) -> Any:
    """The file that is there; None when the place is free.

    NotFound: its folder is not there. Conflict: a folder has the name, or a file in other letters of it.
    """
    if path == paths.SANDBOX:
        raise Conflict("this is a folder")
    _require_parent(tx, folder_id, path)
    folded = names.fold(path)
    made = sa.select(DIRECTORY.c.path).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path_folded == folded)
    if tx.execute(made).first() is not None:
        raise Conflict("there is a folder of that name already", code="exists")
    row = tx.execute(sa.select(FILE).where(FILE.c.folder_id == folder_id, FILE.c.path_folded == folded)).first()
    if row is not None and row.path != path:
        raise Conflict(f"there is a file {paths.split(row.path)[1]!r} already", code="exists")
    return row


def _require_parent(tx: Transaction, folder_id: str, path: str) -> None:
    parent = paths.split(path)[0]
    if parent != paths.SANDBOX:
        above = find(tx, folder_id, parent)
        if above is None or not above.is_directory:
            raise NotFound(NOT_THERE)


def hold(tx: Transaction, *where: Any) -> None:
    """Whoever counts what a client keeps, or takes a name, is alone with it."""
    tx.execute(sa.select(FOLDER.c.id).where(*where).order_by(FOLDER.c.id).with_for_update()).all()


def keep(tx: Transaction, client_id: str, row: dict[str, Any], limit: int) -> None:
    """A file is there, whole, in place of the one of that name; Refused (`quota`) if `limit` bytes would be passed."""
    hold(tx, FOLDER.c.client_id == client_id)
    there = require_place(tx, row["folder_id"], row["path"])
    if kept(tx, client_id)[0] - (there.size if there else 0) + row["size"] > limit:
        raise Refused(f"this area holds {limit / 1_000_000:g} MB at most: remove files", code="quota")
    if there is not None:
        remove(tx, FILE.c.id == there.id)
    tx.execute(sa.insert(FILE), [row])


def remove(tx: Transaction, *where: Any) -> Sequence[Any]:
    """Take files out, and note their bytes for the store to forget; `id` and `is_made` of each."""
    gone = tx.execute(sa.delete(FILE).where(*where).returning(FILE.c.id, FILE.c.is_made, FILE.c.blob_sha256)).all()
    if gone:
        tx.execute(sa.insert(LEFTOVER), [{"blob_sha256": one.blob_sha256, "at": database.now(tx)} for one in gone])
    return gone


def remove_old(tx: Transaction, before: int) -> int:
    """Take out some of the files that are older (Unix seconds); how many."""
    old = sa.select(FILE.c.id).where(FILE.c.mtime < before).order_by(FILE.c.mtime).limit(_BATCH)
    return len(remove(tx, FILE.c.id.in_(old)))


def rename(tx: Transaction, folder_id: str, path: str, target: str) -> None:
    """Move a file, or a folder with what is in it, to a name that is free."""
    hold(tx, FOLDER.c.id == folder_id)
    found = find(tx, folder_id, path)
    if found is None:
        raise NotFound(NOT_THERE)
    _require_parent(tx, folder_id, target)
    if names.fold(target) != names.fold(path) and require_place(tx, folder_id, target):
        raise Conflict("there is a file of that name already", code="exists")
    if not found.is_directory:
        _move(tx, FILE, folder_id, path, target)
        return
    if target.startswith(path + "/"):
        raise Refused("a folder cannot be moved into itself")
    _move(tx, DIRECTORY, folder_id, path, target)
    for table in (DIRECTORY, FILE):
        below = table.c.path.startswith(path + "/", autoescape=True)
        inside = tx.execute(sa.select(table.c.path).where(table.c.folder_id == folder_id, below)).scalars().all()
        for one in inside:
            paths.check_form(target + one[len(path) :])
            _move(tx, table, folder_id, one, target + one[len(path) :])


def _move(tx: Transaction, table: sa.Table, folder_id: str, path: str, target: str) -> None:
    values = {"path": target, "path_folded": names.fold(target)}
    tx.execute(sa.update(table).where(table.c.folder_id == folder_id, table.c.path == path).values(values))


def make_directory(tx: Transaction, folder_id: str, path: str, limit: int) -> None:
    """Make a folder, of `limit` at most."""
    hold(tx, FOLDER.c.id == folder_id)
    if require_place(tx, folder_id, path) is not None:
        raise Conflict("there is a file of that name already", code="exists")
    made = sa.select(sa.func.count()).select_from(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id)
    if tx.execute(made).scalar_one() >= limit:
        raise Refused(f"at most {limit} folders can be made", code="too_many_directories")
    row = {"folder_id": folder_id, "path": path, "path_folded": names.fold(path), "mtime": int(clock.now().timestamp())}
    tx.execute(sa.insert(DIRECTORY), [row])


def remove_directory(tx: Transaction, folder_id: str, path: str) -> None:
    """Remove a folder; Conflict when something is in it."""
    hold(tx, FOLDER.c.id == folder_id)
    if inside(tx, folder_id, path):
        raise Conflict("the folder is not empty", code="not_empty")
    tx.execute(sa.delete(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path == path))
