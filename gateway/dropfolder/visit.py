"""One session's view of its folder: every call that a protocol makes for a client.

Paths are what `paths.normalise` returns. Questions (`stat`, `listing`, `open`) are answered from memory when
`is_at_hand` says so; otherwise `ask` them, which may wait for the database, as everything that changes something
does. What a call changes has been committed when it returns, and so has a receipt; what else it records is a
moment later (gathering.py).

Errors: NotFound, Denied, Conflict, Refused, and Unavailable ("try again").
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from ..errors import Conflict, Denied, NotFound, Refused
from ..store.database import Transaction
from . import entries, paths, ranges
from .areas import NOT_THERE, PRETENDED, Area
from .content import Content
from .gathering import Gathering
from .items import Item
from .nodes import File, Listing, Node, Reading
from .receipts import Read
from .sessions import Session
from .stay import Stay
from .uploads import Upload

log = structlog.get_logger(__name__)
T = TypeVar("T")
_FIXED = frozenset({"/", paths.INBOX, paths.ARCHIVE})


class Visit(Stay):
    """One session in one folder. Its files may be used by several threads, each file by one at a time."""

    def __init__(
        self,
        gathering: Gathering,
        session: Session,
        content: Content,
        directories: int,
        areas: Sequence[Area] = (),
        path_bytes: int = paths.MAX_BYTES,
    ) -> None:
        """At most `directories` can be made; `areas`: the top-level folders whose files are no entries."""
        super().__init__(gathering, session)
        self.path_bytes = path_bytes  # of what a client may ask for
        self.last_act = ("", "")  # what it asked for last, for operators: a verb and a path
        self._content = content
        self._max_directories = directories
        self._areas = {area.name: area for area in areas}
        for area in areas:
            area.who = self._who

    # -- questions

    def place(self, raw: bytes) -> str:
        """What a client wrote as a path; see paths.normalise."""
        return paths.normalise(raw, self.path_bytes)

    def is_at_hand(self, path: str) -> bool:
        """Whether a question about this path is answered from memory, at once."""
        if (area := self._area(path)) is not None:
            return self._index.is_fresh and area.is_at_hand(path)
        return self._index.is_fresh and not (paths.is_archive(path) and path.count("/") >= 3)

    def is_open_at_hand(self, path: str) -> bool:
        """The same for opening the file there: it may have to be read once as a whole."""
        if not self.is_at_hand(path):
            return False
        if self._area(path) is not None:
            return True
        item = self._find(path)
        return item is None or self._content.is_at_hand(item)

    def ask(self, question: Callable[[str], T], path: str) -> T:
        """`question(path)` after a look at the database if the last one was a second ago."""
        self._index.refresh()
        return question(path)

    def stat(self, path: str) -> Node:
        """What is there; NotFound."""
        if (area := self._area(path)) is not None:
            return area.stat(path)
        if (item := self._find(path)) is not None:
            return Node(paths.split(path)[1], False, item.size, item.mtime, item.sequence)
        return self._directory(path)

    def listing(self, path: str) -> Listing:
        """The content of a folder as it is now; NotFound when it is none."""
        self.last_act = ("list", path)
        if (area := self._area(path)) is not None:
            return area.listing(path)
        self._directory(path)
        parts = path.strip("/").split("/")
        if parts[0] == "archive":
            return self._list_archive(parts[1:])
        return Listing(self._subdirectories(path), self._index.entries_in(path), self.saw)

    def open(self, path: str) -> File:
        """The file's bytes; NotFound, Conflict for a folder, Unavailable when the store does not give them."""
        self.last_act = ("read", path)
        if (area := self._area(path)) is not None:
            return area.open(path)
        item = self._find(path)
        if item is None:
            self._directory(path)
            raise Conflict("this is a folder")
        fd = self._content.open(item)
        if item.is_history:  # the gateway delivered nothing of it: to read it is no receipt, and the log keeps who did
            log.info("history.opened", file=item.id, folder=self._folder_id, session=self.session.id)
            return File(item.name, item.size, item.mtime, fd)
        reading = Reading(item, fd)
        if item.id not in self._opened:
            self._opened.add(item.id)
            self._index.pin(item)
        return reading

    def digest(self, path: str) -> str:
        """The SHA-256 under which a file was published; NotFound, Conflict for a folder."""
        if (area := self._area(path)) is not None:
            return area.digest(path)
        item = self._find(path)
        if item is None:
            self._directory(path)
            raise Conflict("this is a folder")
        return item.sha256

    def is_writable(self, path: str) -> bool:
        """Whether a client may remove, rename or make names there."""
        area = self._area(path)
        return not paths.is_archive(path) if area is None else area.is_writable

    def _area(self, path: str) -> Area | None:
        return self._areas.get(path.split("/", 2)[1])

    def _area_to_change(self, path: str) -> Area | None:
        """The same, once it is recorded who changes something there."""
        area = self._area(path)
        if area is not None:
            self._know_who()
        return area

    def _find(self, path: str) -> Item | None:
        if paths.is_archive(path):
            parts = path.split("/")
            return self._find_archived(f"{parts[2]}-{parts[3]}", parts[4]) if len(parts) == 5 else None
        return self._index.find(path, self._opened)

    def _find_archived(self, month: str, name: str) -> Item | None:
        return next((item for item in self._index.in_month(month, name) if item.name == name), None)

    def _directory(self, path: str) -> Node:
        name = paths.split(path)[1]
        if path in _FIXED or (paths.is_archive(path) and self._is_archive_directory(path)):
            return self._node(name)
        mtime = self._index.directories().get(path)
        if mtime is None or paths.is_archive(path):
            raise NotFound(NOT_THERE)
        return Node(name, True, 0, mtime)

    def _is_archive_directory(self, path: str) -> bool:
        parts = path.split("/")[2:]
        months = {tuple(month.split("-")) for month in self._index.months()}
        return tuple(parts) in months | {(year,) for year, _ in months}

    def _subdirectories(self, path: str) -> list[Node]:
        found = {}
        if path == "/":
            own = ("inbox", "archive", *(area.name for area in self._areas.values() if area.is_listed))
            found = {name: self._node(name) for name in own}
        for directory, mtime in sorted(self._index.directories().items()):
            parent, name = paths.split(directory)
            if parent == path:
                found[name] = Node(name, True, 0, mtime)
        return list(found.values())

    def _list_archive(self, parts: list[str]) -> Listing:
        months = self._index.months()
        if len(parts) == 2:
            return Listing([], self._index.archived("-".join(parts)), self.saw)
        inside = {m[5:] for m in months if m[:4] == parts[0]} if parts else {m[:4] for m in months}
        return Listing([self._node(name) for name in sorted(inside)])

    def _node(self, name: str) -> Node:
        return Node(name, True, 0, max(self._index.last_mtime - 1, 0))

    def space(self, path: str) -> tuple[int, int]:
        """See Area.space; nothing can be written elsewhere."""
        if (area := self._area(path)) is not None:
            return area.space(path)
        self.stat(path)
        return PRETENDED, 0

    # -- what a client does

    def create(self, path: str, *, is_new: bool = False, truncates: bool = True) -> Upload:
        """A file to be written: see Area.create. Denied where clients only read."""
        self.last_act = ("write", path)
        area = self._area_to_change(path)
        if area is None:
            raise Denied("this folder is for reading: what you send goes to another one")
        return area.create(path, is_new=is_new, truncates=truncates)

    def close(self, file: File) -> None:
        """The client closed the file. An entry's ranges count, and may be the receipt; Unavailable leaves it open."""
        if not isinstance(file, Reading):
            self._know_who()
            file.finish()
            return
        if not self.close_at_once(file):
            self._write(_nothing, [self._outcome(file)])
            file.release()

    def close_at_once(self, file: File) -> bool:
        """The same without waiting; False when something has to be durable first: then `close` it."""
        if file.waits_to_finish or (isinstance(file, Reading) and not self._gathering.gather(self._outcome(file))):
            return False
        file.release()
        return True

    def _outcome(self, reading: Reading) -> Read:
        read = reading.outcome(self._who, is_clean=True)
        if reading.first is not None:  # going on where a lost connection ended shows that everything before had arrived
            proven = ranges.resumed(self._index.doubtful(read.item.id), reading.first)
            read = replace(read, ranges=ranges.union(read.ranges, proven)) if proven else read
        return read

    def abandon(self, files: Sequence[File]) -> None:
        """The connection went with these files open: reads of entries are recorded, what was written is no file.

        Unavailable: they are recorded once the database is back.
        """
        for file in files:
            file.release()
        reads = [file.outcome(self._who, is_clean=False) for file in files if isinstance(file, Reading)]
        for read in reads:
            self._index.doubt(read.item.id, read.doubtful)
        if reads:
            self._write_or_put_off(_nothing, reads)

    def remove(self, path: str) -> None:
        """Take a file out of the inbox, for good. It stays in the archive."""
        self.last_act = ("remove", path)
        if (area := self._area_to_change(path)) is not None:
            area.remove(path)
            return
        item = self._movable(path)
        lost = self._index.unconfirmed(item.id)
        removal = self._write(lambda tx: entries.remove(tx, self._folder_id, self._who, item, lost))
        self._index.apply([removal.item])
        facts = {"entry": item.id, "folder": self._folder_id, "sequence": item.sequence, "session": self.session.id}
        if removal.unconfirmed:
            log.info("entry.removed_unread", **facts, unconfirmed_bytes=removal.unconfirmed)
        elif removal.is_unread:
            log.warning("entry.removed_unread", **facts)
        else:
            log.info("entry.removed", **facts)

    def rename(self, path: str, target: str) -> None:
        """Move a file's name inside the home; onto itself it stays."""
        self.last_act = ("rename", path)
        if (area := self._area_to_change(path)) is not None:
            if self._area(target) is not area:
                area.stat(path)
                raise Denied(f"what lies in {area.name}/ stays there")
            area.rename(path, target)
            return
        item = self._movable(path)
        if path == target:
            return
        if target in _FIXED:
            raise Conflict("there is a folder of that name already", code="exists")
        after = self._write(lambda tx: entries.rename(tx, self._folder_id, self._who, item, target))
        self._index.apply([after])
        log.info("entry.renamed", entry=item.id, folder=self._folder_id, session=self.session.id)

    def make_directory(self, path: str) -> None:
        """A folder under the inbox, in this client's view only."""
        if (area := self._area_to_change(path)) is not None:
            area.make_directory(path)
            return
        self._index.refresh()
        if self._exists(path):
            raise Conflict("it exists already", code="exists")
        self._write(lambda tx: entries.make_directory(tx, self._folder_id, path, self._max_directories))
        self._index.expire()

    def remove_directory(self, path: str) -> None:
        """Remove a folder that the client made; Conflict when something is in it."""
        if (area := self._area_to_change(path)) is not None:
            area.remove_directory(path)
            return
        self._index.refresh()
        if self._find(path) is not None:
            raise Conflict("this is a file")
        self._directory(path)
        if path in _FIXED or paths.is_archive(path):
            raise Denied("this folder is the gateway's own")
        self._write(lambda tx: entries.remove_directory(tx, self._folder_id, path))
        self._index.expire()

    def _movable(self, path: str) -> Item:
        self._index.refresh()
        item = self._find(path)
        if item is None:
            self._directory(path)
            raise Refused("folders stay where they are")
        if paths.is_archive(path):
            raise Denied("the archive cannot be changed")
        return item

    def _exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except NotFound:
            return False
        return True


def _nothing(_: Transaction) -> None:
    """The step of a write that only records reads."""
