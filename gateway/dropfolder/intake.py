"""`intake/`: where the issuer's billing system hands documents in over SFTP and FTPS, by an account of its own.

The spool's rules hold: a name that ends .tmp .part .partial .filepart is unfinished, and complete once it is renamed;
any other is complete when it is closed; a sidecar `X.pdf.json` must be there before `X.pdf`. What is complete lies in
the account's spool (intake/accounts.py) before the client is answered, and leaves from there by itself. What was
refused or quarantined is in a folder of that name with the reason beside it, for the account to read and to remove.

Clients look at what they uploaded: a name that was taken over can be looked at, unlisted, for an hour.
Failures: as of areas.py.
"""

import contextlib
import datetime as dt
import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from .. import clock
from ..config import IntakeSettings
from ..errors import Conflict, Denied, NotFound, Refused, Unavailable
from ..intake import accounts
from ..intake.spool import NEW, QUARANTINED, REFUSED, TMP, UNFINISHED, rename_new
from . import paths
from .areas import NOT_THERE, Area
from .nodes import File, Listing, Node
from .uploads import Quota, Upload
from .visit import Visit

log = structlog.get_logger(__name__)
ANSWERED = (REFUSED, QUARANTINED)
LONGEST_NAME = 200  # bytes; the reason and the sidecar beside it have longer ones
_REMEMBERED, _REMEMBERED_SECONDS = 10_000, 3600.0
_COUNTED_SECONDS = 5.0  # what an account keeps is counted as often as that


class Accounts:
    """The intake of all accounts of the billing system, with this process."""

    def __init__(
        self, directory: Path, settings: IntakeSettings, require_space: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        """`directory` holds a folder for each account; `wake`: something is complete."""
        self.directory = directory
        self.settings = settings
        self.wake = wake
        self.quota = Quota(int(settings.account_megabytes * 1_000_000), require_space)
        self._taken: OrderedDict[tuple[str, str], tuple[Node, float]] = OrderedDict()
        self._counted: dict[str, tuple[int, int, float]] = {}
        self._lock = threading.Lock()
        accounts.clear(directory)

    def remember(self, account: str, path: str, node: Node) -> None:
        """A file is complete: it may be gone when its client looks at it."""
        with self._lock:
            self._taken[account, path] = node, clock.monotonic()
            while len(self._taken) > _REMEMBERED:
                self._taken.popitem(last=False)

    def remembered(self, account: str, path: str) -> Node | None:
        """That file, for an hour."""
        with self._lock:
            node, since = self._taken.get((account, path), (None, 0.0))
        return node if clock.monotonic() - since <= _REMEMBERED_SECONDS else None

    def kept(self, account: str) -> tuple[int, int]:
        """Bytes and files that lie in an account's intake, as of some seconds ago."""
        size, count, at = self._counted.get(account, (0, 0, float("-inf")))
        if clock.monotonic() - at > _COUNTED_SECONDS:
            sizes = [status.st_size for _, status in _files(self.directory / account)]
            size, count = sum(sizes), len(sizes)
            self._counted[account] = size, count, clock.monotonic()
        return size, count

    def expire(self, now: dt.datetime) -> int:
        """Unfinished and answered files, and sidecars of nothing, that are too old go; how many."""
        before = (now - dt.timedelta(days=self.settings.account_days)).timestamp()
        found = self.directory.iterdir() if self.directory.is_dir() else iter(())
        old = [
            path
            for root in found
            for path, status in _files(root)
            if status.st_mtime < before and (path.parent.name != NEW or path.suffix == ".json")
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


class IntakeArea(Area):
    """One session's view of its account's intake."""

    name = "intake"
    is_writable = True

    def __init__(self, whole: Accounts, account: str) -> None:
        self._whole = whole
        self._account = account
        self._root = whole.directory / account
        self._uploads: dict[str, Upload] = {}

    # -- questions

    def stat(self, path: str) -> Node:
        """See Area.stat."""
        if path == paths.INTAKE or self._answered(path) == "":
            return Node(paths.split(path)[1], True, 0, 0)
        if (upload := self._uploads.get(path)) is not None:
            return upload.node
        for place in self._places(path):
            try:
                return _node(place.name, place.lstat())
            except OSError:
                continue
        if (node := self._whole.remembered(self._account, path)) is not None:
            return node
        raise NotFound(NOT_THERE)

    def listing(self, path: str) -> Listing:
        """See Area.listing."""
        if not self.stat(path).is_directory:
            raise NotFound(NOT_THERE)
        folders = [self._root / paths.split(path)[1]] if self._answered(path) == "" else []
        files = [file for folder in folders or (self._root / TMP, self._root / NEW) for file in _inside(folder)]
        found = {file.name: _node(file.name, status) for file, status in files}
        if path == paths.INTAKE:
            found |= {upload.name: upload.node for upload in [*self._uploads.values()]}
        above = [Node(name, True, 0, 0) for name in sorted(ANSWERED)] if path == paths.INTAKE else []
        return Listing([*above, *(found[name] for name in sorted(found))])

    def open(self, path: str) -> File:
        """See Area.open."""
        for place in self._places(path):
            try:
                fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            status = os.fstat(fd)
            return File(place.name, status.st_size, int(status.st_mtime), fd)
        if self.stat(path).is_directory:
            raise Conflict("this is a folder")
        raise NotFound(NOT_THERE)

    def digest(self, path: str) -> str:
        """See Area.digest."""
        file = self.open(path)
        try:
            with os.fdopen(os.dup(file._fd), "rb") as content:
                return hashlib.file_digest(content, "sha256").hexdigest()
        finally:
            file.release()

    def space(self, path: str) -> tuple[int, int]:
        """See Area.space."""
        self.stat(path)
        quota = self._whole.quota
        return quota.limit, quota.left(self._account, self._whole.kept(self._account)[0])

    def _answered(self, path: str) -> str | None:
        """The name below refused/ or quarantined/, empty for the folder itself; None elsewhere."""
        parts = path.split("/")[2:]
        if not parts or parts[0] not in ANSWERED or len(parts) > 2:
            return None
        return parts[1] if len(parts) == 2 else ""

    def _places(self, path: str) -> list[Path]:
        """Where a file of that name can lie."""
        parent, name = paths.split(path)
        if self._answered(path):
            return [self._root / paths.split(parent)[1] / name]
        if parent != paths.INTAKE or name in ANSWERED:
            return []
        return [self._root / TMP / name, self._root / NEW / name]

    def _place(self, path: str) -> Path:
        """Where a new file of that name goes. NotFound, Conflict, Denied, Refused: nothing can be written there."""
        parent, name = paths.split(path)
        if self._answered(path) is not None or path == paths.INTAKE:
            raise Denied("documents go into intake/ itself")
        if parent != paths.INTAKE:
            raise NotFound(NOT_THERE)
        paths.check_form(path)
        if name.startswith(".") or len(name.encode()) > LONGEST_NAME:
            raise Refused(f"a name here begins with no dot and has at most {LONGEST_NAME} bytes", code="name_format")
        return self._root / (TMP if name.endswith(UNFINISHED) else NEW) / name

    # -- what the account does

    def create(self, path: str, *, is_new: bool = False, truncates: bool = True) -> Upload:
        """See Area.create. What is complete and not taken over yet is replaced."""
        accounts.prepare(self._root)
        place = self._place(path)
        is_there = place.exists()
        if path in self._uploads or (is_there and is_new):
            raise Conflict("there is a file of that name already", code="exists")
        size, count = self._whole.kept(self._account)
        if count + len(self._uploads) >= self._whole.settings.account_files:
            raise Refused("too many files lie here: remove what was refused", code="too_many_files")
        upload = Upload(
            path, self._root / accounts.WRITING / clock.new_id("tmp"), self._whole.quota, self._account, size,
            lambda upload: self._keep(upload, place), most=int(self._whole.settings.max_megabytes * 1_000_000),
            replaces=is_there and not truncates, left=self._left,
        )  # fmt: skip
        self._uploads[path] = upload
        return upload

    def _left(self, upload: Upload) -> None:
        self._uploads.pop(upload.path, None)

    def _keep(self, upload: Upload, place: Path) -> None:
        """Durable under its name, then the answer."""
        try:
            upload.sync()
            os.replace(upload.scratch, place)
            _sync(place.parent)
        except OSError as error:
            raise Unavailable(f"the gateway could not keep the bytes ({error.strerror}); try again later") from error
        log.info("intake.written", account=self._account, name=upload.name, bytes=upload.size)
        self._complete(upload.path, upload.node)

    def _complete(self, path: str, node: Node) -> None:
        if not node.name.endswith(UNFINISHED):
            self._whole.remember(self._account, path, node)
            self._whole.wake()

    def rename(self, path: str, target: str) -> None:
        """See Area.rename: an unfinished file's name may change; another ending completes it."""
        place, wanted = self._root / TMP / paths.split(path)[1], self._place(target)
        node = self.stat(path)
        if place not in self._places(path) or path in self._uploads or not place.exists():
            raise Denied("what is complete is being taken over")
        if path == target:
            return
        try:
            rename_new(place, wanted)
            _sync(wanted.parent)
            _sync(place.parent)
        except FileExistsError:
            raise Conflict("there is a file of that name already", code="exists") from None
        except OSError as error:
            raise Unavailable(f"it could not be renamed ({error.strerror}); try again later") from error
        self._complete(target, Node(paths.split(target)[1], False, node.size, node.mtime))

    def remove(self, path: str) -> None:
        """See Area.remove: what is unfinished or was answered."""
        for place in self._places(path):
            if place.parent.name != NEW and os.path.lexists(place):
                place.unlink(missing_ok=True)
                self._whole._counted.pop(self._account, None)
                return
        if self.stat(path).is_directory:
            raise Refused("folders stay where they are")
        raise Denied("what is complete is being taken over")


class AccountVisit(Visit):
    """A session of an account: `intake/`, and nothing else is there."""

    def _find(self, path: str) -> None:
        return None

    def _directory(self, path: str) -> Node:
        if path != "/":
            raise NotFound(NOT_THERE)
        return Node("", True, 0, 0)

    def _subdirectories(self, path: str) -> list[Node]:
        return [area.stat(area.path) for area in self._areas.values()]

    def make_directory(self, path: str) -> None:
        """Nowhere."""
        raise Denied("folders cannot be made here")


def _node(name: str, status: os.stat_result) -> Node:
    return Node(name, False, status.st_size, int(status.st_mtime))


def _inside(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files, with what is known of them; none that is gone meanwhile, or of a folder that is not made yet."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield Path(entry.path), status


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files of an account, but those that are being written."""
    for name in (TMP, NEW, *ANSWERED):
        yield from _inside(root / name)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
