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
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog

from .. import clock
from ..config import FolderSettings
from ..domain import names
from ..errors import Conflict, Denied, NotFound, Refused, Unavailable
from ..store.blobs import Blobs
from ..store.database import Database, Transaction
from . import paths, ranges, sandbox_rows, sandbox_tests
from .areas import NOT_THERE, Area
from .nodes import File, Listing, Node
from .sandbox_rows import FILE, LEFTOVER
from .uploads import Quota, Upload

log = structlog.get_logger(__name__)
HEAD = 32  # random bytes in front of each file
_PIECE = 1 << 18
_DOUBTED_SECONDS = 60.0  # a COMMIT whose answer was lost has come by then, or never will


class Sandboxes:
    """The sandboxes of all folders, and what bounds them."""

    def __init__(self, db: Database, blobs: Blobs, settings: FolderSettings, require_space: Callable[[], None]) -> None:
        self.db = db
        self.blobs = blobs
        self.settings = settings
        self.quota = Quota(int(settings.sandbox_megabytes * 1_000_000), require_space)
        self._doubtful: dict[str, float] = {}  # blobs of which nobody knows whether a row names them; since when

    def expire(self, now: dt.datetime) -> int:
        """Files that are too old go, and the bytes of those that went before; how many files."""
        before = int((now - dt.timedelta(days=self.settings.sandbox_days)).timestamp())
        count = 0
        while gone := self.db.write(lambda tx: sandbox_rows.remove_old(tx, before)):
            count += gone
        kept_until = now - dt.timedelta(days=max(1.0, self.settings.sandbox_days))  # a day's are counted
        self.db.write(lambda tx: sandbox_tests.forget(tx, kept_until))
        self.forget()
        return count

    def forget(self) -> None:
        """Take the bytes of files that are gone out of the store; what cannot go now does so in a later sweep."""
        try:
            self._settle()
            for sha256 in self.db.read(lambda tx: list(tx.execute(sa.select(LEFTOVER.c.blob_sha256)).scalars())):
                self.blobs.remove(sha256)
                gone = sa.delete(LEFTOVER).where(LEFTOVER.c.blob_sha256 == sha256)
                self.db.write(lambda tx, gone=gone: tx.execute(gone))  # type: ignore[misc]
        except Unavailable as error:
            log.warning("sandbox.not_forgotten", cause=error.message)

    def doubt(self, sha256: str) -> None:
        """The database did not say whether it took the row that names these bytes: it may have, or still do."""
        self._doubtful[sha256] = clock.monotonic()

    def _settle(self) -> None:
        late = clock.monotonic() - _DOUBTED_SECONDS
        for sha256 in [one for one, since in self._doubtful.copy().items() if since < late]:
            if not self.db.read(lambda tx, sha256=sha256: sandbox_rows.is_named(tx, sha256)):  # type: ignore[misc]
                self.blobs.remove(sha256)
            self._doubtful.pop(sha256, None)


class _Behind(File):
    """A file that begins behind its head."""

    may_be_copied = True

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """See File.read."""
        try:
            return os.pread(self._fd, max(0, min(size, self.size - offset)), HEAD + min(offset, self.size))
        except OSError as error:
            raise Unavailable("these bytes cannot be read at the moment; try again") from error


class _Trial(_Behind):
    """A test document: it remembers what it gave out."""

    waits_to_finish = True
    may_be_copied = False

    def __init__(self, name: str, size: int, mtime: int, fd: int, said: Callable[[ranges.Ranges], None]) -> None:
        """`said` is told when the client closes it; a connection that was lost proves nothing."""
        super().__init__(name, size, mtime, fd)
        self._given: ranges.Ranges = []
        self._said = said

    def read(self, offset: int, size: int, before: int = 0) -> bytes:
        """See File.read."""
        data = super().read(offset, size, before)
        ranges.add(self._given, offset, offset + len(data))
        return data

    def finish(self) -> None:
        """See File.finish."""
        if self._given:
            self._said(self._given)
        self.release()


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
        found = self._db.read(lambda tx: sandbox_rows.find(tx, self._folder_id, path))
        if found is None:
            raise NotFound(NOT_THERE)
        return found

    def listing(self, path: str) -> Listing:
        """See Area.listing."""
        if not self.stat(path).is_directory:
            raise NotFound(NOT_THERE)
        found = {node.name: node for node in self._db.read(lambda tx: sandbox_rows.inside(tx, self._folder_id, path))}
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
        name = paths.split(path)[1]
        if row.is_made:
            return _Trial(name, row.size, row.mtime, fd, lambda given: self._was_read(row.id, given))
        return _Behind(name, row.size, row.mtime, fd)

    def _was_read(self, test_id: str, given: ranges.Ranges) -> None:
        self._db.write(lambda tx: sandbox_tests.read(tx, test_id, self.who, given))
        log.info("test_document.read", file=test_id, folder=self._folder_id)

    def digest(self, path: str) -> str:
        """See Area.digest."""
        return str(self._row(path).sha256)

    def _row(self, path: str) -> Any:
        row = self._db.read(lambda tx: sandbox_rows.file_at(tx, self._folder_id, path))
        if row is None:
            is_directory = self.stat(path).is_directory
            raise Conflict("this is a folder" if is_directory else "this file is still being written")
        return row

    def space(self, path: str) -> tuple[int, int]:
        """See Area.space."""
        self.stat(path)
        kept = self._db.read(lambda tx: sandbox_rows.kept(tx, self._client_id)[0])
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
        kept, count = sandbox_rows.kept(tx, self._client_id)
        there = sandbox_rows.require_place(tx, self._folder_id, path)
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
            self._db.write(lambda tx: sandbox_rows.keep(tx, self._client_id, row, self._whole.quota.limit))
        except Unavailable:
            self._whole.doubt(blob.sha256)
            raise
        except BaseException:
            self._whole.blobs.remove(blob.sha256)
            raise
        log.info("sandbox.written", folder=self._folder_id, path=upload.path, bytes=upload.size)
        self._whole.forget()

    def remove(self, path: str) -> None:
        """See Area.remove: the bytes go too."""
        if not self._db.write(lambda tx: self._remove(tx, path)):
            self.stat(path)
            raise Refused("this is a folder, or it is being written")
        log.info("sandbox.removed", folder=self._folder_id, path=path)
        self._whole.forget()

    def _remove(self, tx: Transaction, path: str) -> bool:
        gone = sandbox_rows.remove(tx, FILE.c.folder_id == self._folder_id, FILE.c.path == path)
        for row in gone:
            if row.is_made:
                sandbox_tests.removed(tx, row.id, self.who)
        return bool(gone)

    def rename(self, path: str, target: str) -> None:
        """See Area.rename; a folder too, and never to a name that is taken."""
        if path == paths.SANDBOX:
            raise Denied("this folder is the gateway's own")
        if path == target:
            return
        paths.check_form(target)
        self._db.write(lambda tx: sandbox_rows.rename(tx, self._folder_id, path, target))

    def make_directory(self, path: str) -> None:
        """See Area.make_directory. Refused: over the limit."""
        if path == paths.SANDBOX:
            raise Conflict("it exists already", code="exists")
        paths.check_form(path)
        self._db.write(
            lambda tx: sandbox_rows.make_directory(tx, self._folder_id, path, self._whole.settings.directories)
        )

    def remove_directory(self, path: str) -> None:
        """See Area.remove_directory. Conflict when something is in it."""
        if path == paths.SANDBOX:
            raise Denied("this folder is the gateway's own")
        if not self.stat(path).is_directory:
            raise Conflict("this is a file")
        self._db.write(lambda tx: sandbox_rows.remove_directory(tx, self._folder_id, path))


def _digest(upload: Upload) -> str:
    digest, offset = hashlib.sha256(), 0
    while piece := upload.read(offset, _PIECE):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()
