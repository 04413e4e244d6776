"""The files of `gateway import history`: found below a directory or named by a list, read without following a link.

A directory of which there are too many files, and a list that is none, are Refused; everything else that is wrong is
said of the file that has it.
"""

import contextlib
import datetime as dt
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from ..errors import Refused
from . import lists
from .files import open_below

COLUMNS = ("user_name", "file", "name", "date", "sha256")
REQUIRED = ("user_name", "file")
MAX_FILES = 200_000
_MAX_LIST_BYTES = 50_000_000
_MAX_DEPTH = 32


@dataclass
class File:
    """A file to import: what is known of it, and what came of it."""

    user_name: str
    path: tuple[str, ...]  # below the root
    name: str = ""  # in the archive
    line: int | None = None  # of the list
    mtime: int | None = None  # as the list says; else the file's
    sha256: str = ""  # as the list says; then as it is
    size: int = 0
    report: dict[str, Any] | None = None

    def tell(self, outcome: str, column: str, reason: str) -> None:
        """What came of it."""
        self.report = {"outcome": outcome, "place": "", "column": column, "reason": reason}

    def refuse(self, column: str, reason: str) -> None:
        """Say what is wrong with it."""
        self.tell("refused", column, reason)

    @property
    def sent(self) -> dict[str, Any]:
        """The line of the call."""
        wanted = ("user_name", "name", "mtime", "sha256", "size")
        return {name: getattr(self, name) for name in wanted}


def gathered(root: int) -> list[File]:
    """The files of a directory that has one for each user name. Refused: there are too many."""
    files: list[File] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        place = waiting.pop()
        try:
            files += _inside(root, place, waiting)
        except OSError as error:
            files.append(_not_taken(place, error.strerror or str(error)))
        if len(files) > MAX_FILES:
            raise Refused(f"more than {MAX_FILES} files: import them in parts, by lists or a directory for each client")
    return files


def _inside(root: int, place: tuple[str, ...], waiting: list[tuple[str, ...]]) -> list[File]:
    files, directories = [], []
    with _scanned(root, place) as found:
        for one in found:
            path = (*place, one.name)
            if one.name.startswith("."):
                files.append(_not_taken(path, "hidden: left out", "skipped"))
            elif one.is_symlink():
                files.append(_not_taken(path, "a link: links are not followed"))
            elif one.is_dir(follow_symlinks=False):
                directories.append(path)
            elif not place:
                files.append(_not_taken(path, "it lies in no client's directory: DIR/USER_NAME/FILE is"))
            else:
                files.append(File(place[0], path, one.name))
    if directories and len(place) >= _MAX_DEPTH:
        files += [_not_taken(path, f"a directory deeper than {_MAX_DEPTH}: left out") for path in directories]
    else:
        waiting += reversed(directories)
    return files


@contextlib.contextmanager
def _scanned(root: int, place: tuple[str, ...]) -> Iterator[Iterator[os.DirEntry[str]]]:
    fd = open_below(root, place or (".",))
    try:
        with os.scandir(fd) as found:
            yield iter(sorted(found, key=lambda one: one.name))
    finally:
        os.close(fd)


def _not_taken(path: tuple[str, ...], reason: str, outcome: str = "refused") -> File:
    file = File(path[0] if len(path) > 1 else "", path)
    file.tell(outcome, "file", reason)
    return file


def listed(source: Path, zone: ZoneInfo) -> list[File]:
    """The files of a list; see lists.read. A day is the issuer's."""
    rows = lists.read(source, COLUMNS, REQUIRED, max_lines=MAX_FILES, max_bytes=_MAX_LIST_BYTES)
    return [_of_row(row, zone) for row in rows]


def _of_row(row: lists.Row, zone: ZoneInfo) -> File:
    cells = row.cells
    path = PurePosixPath(cells.get("file", ""))
    file = File(cells.get("user_name", ""), path.parts, cells.get("name") or path.name, row.number)
    file.sha256 = cells.get("sha256", "").lower()
    file.report = row.report and row.report | {"place": ""}
    if file.report is None and (not path.parts or path.is_absolute() or ".." in path.parts or "\0" in str(path)):
        file.refuse("file", "a file is named from the list's directory on, without ..")
    if file.report is None and cells.get("date"):
        try:
            file.mtime = _instant(cells["date"], zone)
        except (ValueError, OverflowError):
            file.refuse("date", f"a date is YYYY-MM-DD, or with THH:MM:SS; this one reads {cells['date'][:20]!r}")
    return file


def _instant(text: str, zone: ZoneInfo) -> int:
    read = dt.datetime.fromisoformat(text)
    return int((read if read.tzinfo else read.replace(tzinfo=zone)).timestamp())


def measure(root: int, file: File) -> None:
    """Take its digest, size and date; or what is wrong with it, before anything of it is sent."""
    from ..domain import identifiers
    from ..dropfolder import moving_in

    wanted = file.sha256
    try:
        moving_in.check_name(file.name)
        if not identifiers.USER_NAME.fullmatch(file.user_name):
            raise Refused("no client can have this log-in name", column="user_name")
        with reading(root, file) as content:
            facts = os.fstat(content.fileno())
            file.sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            file.size = content.tell()
    except Refused as error:
        file.refuse(str(error.facts.get("column", "name")), error.message)
        return
    except OSError as error:
        file.refuse("file", why(error))
        return
    file.mtime = int(facts.st_mtime) if file.mtime is None else file.mtime
    if wanted and wanted != file.sha256:
        file.refuse("sha256", "its bytes are others than the list says")


@contextlib.contextmanager
def reading(root: int, file: File) -> Iterator[BufferedReader]:
    """The file, opened; OSError for what is no regular file or lies behind a link."""
    with os.fdopen(open_below(root, file.path), "rb") as content:
        if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
            raise OSError(None, "not a regular file")
        yield content


def why(error: OSError) -> str:
    """What kept it from being read."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it is a link, or lies behind one: links are not followed"
    return error.strerror or str(error)
