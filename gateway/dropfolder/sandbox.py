"""`sandbox/`: a client's own test area, where it writes, and where test documents wait for it.

Files are rows, their bytes blobs, so that every gateway of the database shows the same. A blob begins with random bytes
of its own: no other file or document is ever kept under its digest, and removing it removes nothing else. What is
here is no receipt and no document, is never run and never read as settings. A file goes when the client removes it or
after some days.

Failures: NotFound, Conflict, Refused (a name, a limit), Unavailable.
"""

import datetime as dt
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from .. import clock
from ..config import FolderSettings
from ..domain import names
from ..domain.sandbox import SandboxDirectory, SandboxFile, SandboxLeftover
from ..domain.tables import metadata
from ..errors import Conflict, Denied, NotFound, Refused, Unavailable
from ..store import database
from ..store.blobs import Blobs
from ..store.database import Database, Transaction
from . import paths
from .areas import Area
from .nodes import File, Listing, Node
from .uploads import Quota, Upload

log = structlog.get_logger(__name__)
FILE = metadata.tables[str(SandboxFile.__tablename__)]
DIRECTORY = metadata.tables[str(SandboxDirectory.__tablename__)]
LEFTOVER = metadata.tables[str(SandboxLeftover.__tablename__)]
FOLDER = metadata.tables["folder"]
HEAD = 32  # random bytes in front of each file
NOT_THERE = "no such file or folder"
_BATCH = 100  # files that go in one transaction
_PIECE = 1 << 18


class Sandboxes:
    """The sandboxes of all folders, and what bounds them."""

    def __init__(self, db: Database, blobs: Blobs, settings: FolderSettings, require_space: Callable[[], None]) -> None:
        self.db = db
        self.blobs = blobs
        self.settings = settings
        self.quota = Quota(int(settings.sandbox_megabytes * 1_000_000), require_space)

    def expire(self, now: dt.datetime) -> int:
        """Files that are too old go, and the bytes of those that went before; how many files."""
        before = int((now - dt.timedelta(days=self.settings.sandbox_days)).timestamp())
        count = 0
        while gone := self.db.write(lambda tx: _remove_old(tx, before)):
            count += gone
        self.forget()
        return count

    def forget(self) -> None:
        """Take the bytes of files that are gone out of the store; what cannot go now does so in a later sweep."""
        try:
            for sha256 in self.db.read(lambda tx: list(tx.execute(sa.select(LEFTOVER.c.blob_sha256)).scalars())):
                self.blobs.remove(sha256)
                gone = sa.delete(LEFTOVER).where(LEFTOVER.c.blob_sha256 == sha256)
                self.db.write(lambda tx, gone=gone: tx.execute(gone))  # type: ignore[misc]
        except Unavailable as error:
            log.warning("sandbox.not_forgotten", cause=error.message)


class _Behind(File):
    """A file that begins behind its head."""

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """See File.read."""
        try:
            return os.pread(self._fd, max(0, min(size, self.size - offset)), HEAD + offset)
        except OSError as error:
            raise Unavailable("these bytes cannot be read at the moment; try again") from error


class Sandbox(Area):
    """One session's view of its folder's sandbox."""

    name = "sandbox"
    is_writable = True

    def __init__(self, whole: Sandboxes, folder_id: str, client_id: str) -> None:
        self._whole = whole
        self._db = whole.db
        self._folder_id = folder_id
        self._client_id = client_id
        self._uploads: dict[str, Upload] = {}  # what this session is writing is there for it

    # -- questions

    def stat(self, path: str) -> Node:
        """See Area.stat."""
        if path == paths.SANDBOX:
            return Node(self.name, True, 0, 0)
        if (upload := self._uploads.get(path)) is not None:
            return upload.node
        found = self._db.read(lambda tx: _find(tx, self._folder_id, path))
        if found is None:
            raise NotFound(NOT_THERE)
        return found

    def listing(self, path: str) -> Listing:
        """See Area.listing."""
        if not self.stat(path).is_directory:
            raise NotFound(NOT_THERE)
        found = {node.name: node for node in self._db.read(lambda tx: _inside(tx, self._folder_id, path))}
        for upload in [*self._uploads.values()]:
            if paths.split(upload.path)[0] == path:
                found[upload.name] = upload.node
        nodes = sorted(found.values(), key=lambda node: (not node.is_directory, node.name))
        return Listing(nodes)

    def open(self, path: str) -> File:
        """See Area.open."""
        row = self._row(path)
        try:
            fd = self._whole.blobs.open(row.blob_sha256)
        except NotFound:  # removed a moment ago
            raise NotFound(NOT_THERE) from None
        return _Behind(paths.split(path)[1], row.size, row.mtime, fd)

    def digest(self, path: str) -> str:
        """See Area.digest."""
        return str(self._row(path).sha256)

    def _row(self, path: str) -> Any:
        row = self._db.read(lambda tx: _file(tx, self._folder_id, path))
        if row is None:
            self.stat(path)
            raise Conflict("this is a folder")
        return row

    def space(self, path: str) -> tuple[int, int]:
        """See Area.space."""
        self.stat(path)
        kept = self._db.read(lambda tx: _kept(tx, self._client_id)[0])
        return self._whole.quota.limit, self._whole.quota.left(self._client_id, kept)

    # -- what a client does

    def create(self, path: str, *, is_new: bool = False, truncates: bool = True) -> Upload:
        """See Area.create."""
        paths.check_form(path)
        kept, is_there = self._db.read(lambda tx: self._look(tx, path))
        if path in self._uploads or (is_there and is_new):
            raise Conflict("there is a file of that name already", code="exists")
        upload = Upload(
            path, self._whole.blobs.scratch(), self._whole.quota, self._client_id, kept, self._keep,
            head=secrets.token_bytes(HEAD), replaces=is_there and not truncates, left=self._left,
        )  # fmt: skip
        self._uploads[path] = upload
        return upload

    def _look(self, tx: Transaction, path: str) -> tuple[int, bool]:
        """Bytes that the client keeps, and whether the file is there; errors as of `create`."""
        kept, count = _kept(tx, self._client_id)
        there = _require_place(tx, self._folder_id, path)
        most = self._whole.settings.sandbox_files
        if not there and count + len(self._uploads) >= most:
            raise Refused(f"at most {most} files can be kept here: remove some", code="too_many_files")
        return kept - (there.size if there else 0), bool(there)

    def _left(self, upload: Upload) -> None:
        self._uploads.pop(upload.path, None)

    def _keep(self, upload: Upload) -> None:
        """The bytes first, then the row."""
        sha256 = _digest(upload)
        blob = self._whole.blobs.adopt(upload.scratch)
        row = {
            "id": clock.new_id("sbx"), "folder_id": self._folder_id, "path": upload.path,
            "path_folded": names.fold(upload.path), "blob_sha256": blob.sha256, "sha256": sha256, "size": upload.size,
            "mtime": int(clock.now().timestamp()), "is_made": False,
        }  # fmt: skip
        try:
            self._db.write(lambda tx: keep(tx, self._client_id, row, self._whole.quota.limit))
        except BaseException:
            self._whole.blobs.remove(blob.sha256)
            raise
        log.info("sandbox.written", folder=self._folder_id, path=upload.path, bytes=upload.size)
        self._whole.forget()

    def remove(self, path: str) -> None:
        """See Area.remove: the bytes go too."""
        if not self._db.write(lambda tx: _remove(tx, FILE.c.folder_id == self._folder_id, FILE.c.path == path)):
            self.stat(path)
            raise Refused("this is a folder, or it is being written")
        log.info("sandbox.removed", folder=self._folder_id, path=path)
        self._whole.forget()

    def rename(self, path: str, target: str) -> None:
        """See Area.rename; a folder too, and never to a name that is taken."""
        if path == paths.SANDBOX:
            raise Denied("this folder is the gateway's own")
        if path == target:
            return
        paths.check_form(target)
        self._db.write(lambda tx: _rename(tx, self._folder_id, path, target))

    def make_directory(self, path: str) -> None:
        """See Area.make_directory. Refused: over the limit."""
        if path == paths.SANDBOX:
            raise Conflict("it exists already", code="exists")
        paths.check_form(path)
        self._db.write(lambda tx: _make_directory(tx, self._folder_id, path, self._whole.settings.directories))

    def remove_directory(self, path: str) -> None:
        """See Area.remove_directory. Conflict when something is in it."""
        if path == paths.SANDBOX:
            raise Denied("this folder is the gateway's own")
        if not self.stat(path).is_directory:
            raise Conflict("this is a file")
        self._db.write(lambda tx: _remove_directory(tx, self._folder_id, path))


def _node(row: Any) -> Node:
    return Node(paths.split(row.path)[1], False, row.size, row.mtime)


def _directory_node(row: Any) -> Node:
    return Node(paths.split(row.path)[1], True, 0, row.mtime)


def _digest(upload: Upload) -> str:
    digest, offset = hashlib.sha256(), 0
    while piece := upload.read(offset, _PIECE):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


# -- rows


def _file(tx: Transaction, folder_id: str, path: str) -> Any:
    return tx.execute(sa.select(FILE).where(FILE.c.folder_id == folder_id, FILE.c.path == path)).first()


def _find(tx: Transaction, folder_id: str, path: str) -> Node | None:
    if (row := _file(tx, folder_id, path)) is not None:
        return _node(row)
    made = sa.select(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path == path)
    row = tx.execute(made).first()
    return _directory_node(row) if row is not None else None


def _inside(tx: Transaction, folder_id: str, path: str) -> list[Node]:
    found = []
    for table, node in ((DIRECTORY, _directory_node), (FILE, _node)):
        below = table.c.path.startswith(path + "/", autoescape=True)
        rows = tx.execute(sa.select(table).where(table.c.folder_id == folder_id, below)).all()
        found += [node(row) for row in rows if paths.split(row.path)[0] == path]
    return found


def _kept(tx: Transaction, client_id: str) -> tuple[int, int]:
    """Bytes and files that a client keeps, over all its folders."""
    kept = sa.select(sa.func.coalesce(sa.func.sum(FILE.c.size), 0), sa.func.count())
    row = tx.execute(kept.join(FOLDER, FOLDER.c.id == FILE.c.folder_id).where(FOLDER.c.client_id == client_id)).one()
    return int(row[0]), int(row[1])


def _require_place(tx: Transaction, folder_id: str, path: str) -> Any:
    """The file that is there; None when the place is free.

    NotFound: its folder is not there. Conflict: a folder has the name, or a file in other letters of it.
    """
    if path == paths.SANDBOX:
        raise Conflict("this is a folder")
    parent = paths.split(path)[0]
    if parent != paths.SANDBOX:
        above = _find(tx, folder_id, parent)
        if above is None or not above.is_directory:
            raise NotFound("no such folder")
    folded = names.fold(path)
    made = sa.select(DIRECTORY.c.path).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path_folded == folded)
    if tx.execute(made).first() is not None:
        raise Conflict("there is a folder of that name already", code="exists")
    row = tx.execute(sa.select(FILE).where(FILE.c.folder_id == folder_id, FILE.c.path_folded == folded)).first()
    if row is not None and row.path != path:
        raise Conflict(f"there is a file {paths.split(row.path)[1]!r} already", code="exists")
    return row


def _lock(tx: Transaction, *where: Any) -> None:
    """Whoever counts what a client keeps, or takes a name, is alone with it."""
    tx.execute(sa.select(FOLDER.c.id).where(*where).order_by(FOLDER.c.id).with_for_update()).all()


def keep(tx: Transaction, client_id: str, row: dict[str, Any], limit: int) -> None:
    """A file is there, whole, in place of the one of that name; Refused (`quota`) if `limit` bytes would be passed."""
    _lock(tx, FOLDER.c.client_id == client_id)
    there = _require_place(tx, row["folder_id"], row["path"])
    if _kept(tx, client_id)[0] - (there.size if there else 0) + row["size"] > limit:
        raise Refused(f"this area holds {limit / 1_000_000:g} MB at most: remove files", code="quota")
    if there is not None:
        _remove(tx, FILE.c.id == there.id)
    tx.execute(sa.insert(FILE), [row])


def _remove(tx: Transaction, *where: Any) -> int:
    """Take files out, and note their bytes for the store to forget; how many."""
    gone: Sequence[str] = tx.execute(sa.delete(FILE).where(*where).returning(FILE.c.blob_sha256)).scalars().all()
    if gone:
        tx.execute(sa.insert(LEFTOVER), [{"blob_sha256": one, "at": database.now(tx)} for one in gone])
    return len(gone)


def _remove_old(tx: Transaction, before: int) -> int:
    old = sa.select(FILE.c.id).where(FILE.c.mtime < before).order_by(FILE.c.mtime).limit(_BATCH)
    return _remove(tx, FILE.c.id.in_(old))


def _rename(tx: Transaction, folder_id: str, path: str, target: str) -> None:
    _lock(tx, FOLDER.c.id == folder_id)
    found = _find(tx, folder_id, path)
    if found is None:
        raise NotFound(NOT_THERE)
    taken = names.fold(target) != names.fold(path) and _require_place(tx, folder_id, target)
    if taken:
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


def _make_directory(tx: Transaction, folder_id: str, path: str, limit: int) -> None:
    _lock(tx, FOLDER.c.id == folder_id)
    if _require_place(tx, folder_id, path) is not None:
        raise Conflict("there is a file of that name already", code="exists")
    made = sa.select(sa.func.count()).select_from(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id)
    if tx.execute(made).scalar_one() >= limit:
        raise Refused(f"at most {limit} folders can be made", code="too_many_directories")
    row = {"folder_id": folder_id, "path": path, "path_folded": names.fold(path), "mtime": int(clock.now().timestamp())}
    tx.execute(sa.insert(DIRECTORY), [row])


def _remove_directory(tx: Transaction, folder_id: str, path: str) -> None:
    _lock(tx, FOLDER.c.id == folder_id)
    if _inside(tx, folder_id, path):
        raise Conflict("the folder is not empty", code="not_empty")
    tx.execute(sa.delete(DIRECTORY).where(DIRECTORY.c.folder_id == folder_id, DIRECTORY.c.path == path))
