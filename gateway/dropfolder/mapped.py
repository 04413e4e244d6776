"""A visit under the paths of the server before (domain/path_map.py), for every operation of every protocol.

A client sees itself where it went: only what a path means is mapped, never what is said back. The folders on the way to
a mapped one (`/out` of `/out/factures`) exist for who asks for them; the home does not list them, so that a mirror of
the home takes nothing twice.
"""

from ..errors import Conflict, Denied
from . import paths
from .nodes import File, Listing, Node
from .uploads import Upload
from .visit import Visit


class MappedVisit(Visit):
    """A Visit whose callers may use both kinds of path."""

    def is_at_hand(self, path: str) -> bool:
        """See Visit."""
        return super().is_at_hand(self._inside(path))

    def is_open_at_hand(self, path: str) -> bool:
        """See Visit."""
        return super().is_open_at_hand(self._inside(path))

    def stat(self, path: str) -> Node:
        """See Visit; of a folder on the way, that it is one."""
        place = self._inside(path)
        return self._node(paths.split(path)[1]) if self._is_on_the_way(place) else super().stat(place)

    def listing(self, path: str) -> Listing:
        """See Visit; of a folder on the way, what leads on and what the client made there itself."""
        place = self._inside(path)
        if not self._is_on_the_way(place):
            return super().listing(place)
        made = [node for node in self._subdirectories(place) if node.name not in self._index.path_map.below(place)]
        on = [self._node(name) for name in self._index.path_map.below(place)]
        return Listing(on + made, self._index.entries_in(place), self.saw)

    def open(self, path: str) -> File:
        """See Visit."""
        self._require_no_way(path, "this is a folder")
        return super().open(self._inside(path))

    def digest(self, path: str) -> str:
        """See Visit."""
        self._require_no_way(path, "this is a folder")
        return super().digest(self._inside(path))

    def space(self, path: str) -> tuple[int, int]:
        """See Visit."""
        place = self._inside(path)
        return super().space("/" if self._is_on_the_way(place) else place)

    def is_writable(self, path: str) -> bool:
        """See Visit."""
        return super().is_writable(self._inside(path))

    def create(self, path: str, *, is_new: bool = False, truncates: bool = True) -> Upload:
        """See Visit."""
        place = self._now(path)
        self._require_no_way(path)
        return super().create(place, is_new=is_new, truncates=truncates)

    def remove(self, path: str) -> None:
        """See Visit."""
        super().remove(self._now(path))

    def rename(self, path: str, target: str) -> None:
        """See Visit."""
        place, there = self._now(path), self._now(target)
        self._require_no_way(target)
        super().rename(place, there)

    def make_directory(self, path: str) -> None:
        """See Visit."""
        super().make_directory(self._now(path))

    def remove_directory(self, path: str) -> None:
        """See Visit."""
        place = self._now(path)
        if self._is_on_the_way(place):
            raise Denied("this folder leads to another, and stays")
        super().remove_directory(place)

    def _inside(self, path: str) -> str:
        return self._index.path_map.inside(path)

    def _now(self, path: str) -> str:
        """The place that a path means after a look at the database: for what changes something."""
        self._index.refresh()
        return self._inside(path)

    def _is_on_the_way(self, place: str) -> bool:
        return bool(self._index.path_map.below(place))

    def _require_no_way(self, path: str, what: str = "there is a folder of that name already") -> None:
        if self._is_on_the_way(self._inside(path)):
            raise Conflict(what, code="exists")
