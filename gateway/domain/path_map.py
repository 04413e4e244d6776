"""A folder's path map: what clients called their places on the server before, and what those are here. Pure functions.

`/out/factures` -> `/inbox`: whatever lies below the one is what lies below the other, for every operation. A name from
before begins with no word of ours, lies under no other such name, and none of two names means the same place: so a path
is mapped at most once, and no two names of a place can disagree. What may be done there is decided by the place, not by
the name: nothing is written in the archive under any.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Sequence

from ..errors import Refused
from . import names

OURS = frozenset({"inbox", "archive", "manifest", "sandbox", "documents", "intake"})
MAX_PATHS = 20
MAX_LENGTH = 200  # characters of one path


class PathMap:
    """Pairs (from, to) as `checked` gives them."""

    def __init__(self, pairs: Iterable[Sequence[str]]) -> None:
        self._pairs = [(before, place) for before, place in pairs]
        self._inner: dict[str, set[str]] = {}
        for before, _ in self._pairs:
            above, _, name = before.rpartition("/")
            while above:
                self._inner.setdefault(above, set()).add(name)
                above, _, name = above.rpartition("/")

    def inside(self, path: str) -> str:
        """The place that a client's path (normal form) means."""
        for before, place in self._pairs:
            if path == before or path.startswith(before + "/"):
                return place + path[len(before) :]
        return path

    def below(self, path: str) -> list[str]:
        """The names in a folder that exists only on the way to a mapped one; none where there is no such folder."""
        return sorted(self._inner.get(path, ()))

    def is_mapped(self, path: str) -> bool:
        """Whether it is a name from before itself."""
        return any(path == before for before, _ in self._pairs)


def checked(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """A path map as it is stored, sorted. Refused (`path_map`) says which pair cannot be, and why."""
    found = sorted([before.rstrip("/"), place.rstrip("/")] for before, place in pairs)
    if len(found) > MAX_PATHS:
        raise _refused(f"at most {MAX_PATHS} paths")
    for before, place in found:
        _check_form(before)
        _check_form(place)
        if names.fold(before.split("/")[1]) in OURS:
            raise _refused(f"{before} begins with a word of the gateway's own")
        parts = place.split("/")[1:]
        if parts[0] not in OURS or (len(parts) > 1 and parts[0] != "inbox"):
            raise _refused(f"{place} is no place here: /inbox or below, or one of /{', /'.join(sorted(OURS))}")
    for (first, _), (second, _) in itertools.permutations(found, 2):
        if names.fold(second + "/").startswith(names.fold(first + "/")):
            raise _refused(f"{second} is, or lies under, {first}")
    if len({names.fold(place) for _, place in found}) < len(found):
        raise _refused("two names of one place: a file would have two paths")
    return found


def _check_form(path: str) -> None:
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise _refused(f"a path is absolute, without . and .., as /out/factures; this one reads {path[:80]!r}")
    if len(path) > MAX_LENGTH or any(unicodedata.category(character).startswith(("C", "Z")) for character in path):
        raise _refused(f"a path has at most {MAX_LENGTH} characters, none of them a blank or a control character")


def _refused(message: str) -> Refused:
    return Refused(message, code="path_map")
