"""The seam for top-level folders of the home whose files are no entries: `manifest/`, `sandbox/`.

A Visit hands every call whose path begins with an area's name to that area. What an area does not override is
refused: a file there cannot be removed, renamed or written, and nothing can be made there. Reading there is no
receipt. Calls may wait for the database: no protocol makes them on the event loop, but where `is_at_hand` says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import Conflict, Denied, NotFound
from .nodes import File, Listing, Node
from .uploads import Upload

# The words of OpenSSH's server, which scripts and programs look for.
NOT_THERE = "No such file"
PRETENDED = 1 << 42  # bytes of a file system that is full


class Area(ABC):
    """One top-level folder in one session. Paths are absolute from the home, such as `/manifest/index-2026-11.csv`."""

    name: str  # of the folder
    is_listed = True  # in the home
    is_writable = False  # what protocols say of the rights in it
    who: Mapping[str, Any] = MappingProxyType({})  # the facts by which records name the session, once it began

    @property
    def path(self) -> str:
        """Of the folder itself."""
        return f"/{self.name}"

    def is_at_hand(self, path: str) -> bool:
        """Whether `stat`, `listing` and `open` of this path are answered at once, from memory."""
        return False

    @abstractmethod
    def stat(self, path: str) -> Node:
        """What is there, the area itself too; NotFound."""

    @abstractmethod
    def listing(self, path: str) -> Listing:
        """The content of a folder, the area itself too; NotFound when it is none."""

    @abstractmethod
    def open(self, path: str) -> File:
        """A file to be read; NotFound, Conflict for a folder, Unavailable when the store does not give its bytes."""

    @abstractmethod
    def digest(self, path: str) -> str:
        """The SHA-256 of a file that never changes; Refused for others, NotFound, Conflict for a folder."""

    def space(self, path: str) -> tuple[int, int]:
        """Bytes in all, and bytes that can still be written; it tells nothing of the host's disk."""
        self.stat(path)
        return PRETENDED, 0

    def create(self, path: str, *, is_new: bool = False, truncates: bool = True) -> Upload:
        """A file to be written, which replaces the one of that name, if the area lets it, once it is whole and closed.

        `is_new`: Conflict if there is one. Not `truncates`: the client may mean to change the one that is there.
        """
        raise Denied(f"{self.name}/ is for reading")

    def remove(self, path: str) -> None:
        """Remove a file."""
        raise self._refusal(path)

    def rename(self, path: str, target: str) -> None:
        """Rename a file to `target`, which lies in this area too."""
        raise self._refusal(path)

    def make_directory(self, path: str) -> None:
        """Make a folder; Conflict when it exists."""
        if path == self.path:
            raise Conflict("it exists already", code="exists")
        raise Denied(f"{self.name}/ is the gateway's own")

    def remove_directory(self, path: str) -> None:
        """Remove a folder."""
        if not self.stat(path).is_directory:
            raise Conflict("this is a file")
        raise Denied("this folder is the gateway's own")

    def _refusal(self, path: str) -> Denied | NotFound:
        self.stat(path)  # what is not there is not there, whoever may not remove it
        return Denied(f"{self.name}/ cannot be changed")
