"""`manifest/` in every folder's home, for reading only: the signed manifests of days, the lists of months.

To read one is no receipt, no entry. What is over never changes and is opened when it has its digest; the list of a
month that goes on is as long, for whoever opens it, as its session was told last.
"""

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import clock
from ..errors import Conflict, NotFound, Refused
from ..store.database import Database, Transaction
from . import monthly
from .areas import NOT_THERE, Area
from .content import Content
from .manifests import MANIFEST
from .monthly import OpenMonths
from .nodes import File, Listing, Node

_MANIFEST = re.compile(r"manifest-([0-9]{4}-[0-9]{2}-[0-9]{2})\.json(\.p7s)?")
_INDEX = re.compile(r"index-([0-9]{4}-[0-9]{2})\.csv")
_TABLES = (MANIFEST, monthly.MONTH)
_TOLD_SECONDS = 600.0  # a length that was told so long ago is no promise any more


@dataclass(frozen=True)
class _Kept:
    """A file that never changes."""

    node: Node
    sha256: str


class ManifestArea(Area):
    """The manifests and the lists of one folder, in one session."""

    name = "manifest"

    def __init__(self, db: Database, content: Content, open_months: OpenMonths, folder_id: str) -> None:
        self._db = db
        self._content = content
        self._open_months = open_months
        self._folder_id = folder_id
        self._told: dict[str, tuple[Node, float]] = {}  # of months, with the time when it was told

    def stat(self, path: str) -> Node:
        """See Area."""
        if path == self.path:
            return Node(self.name, True, 0, max(self._db.read(self._newest), *self._open_times()))
        kept = self._find(path)
        return self._tell(_open_node(self._growing(path)) if kept is None else kept.node)

    def listing(self, path: str) -> Listing:
        """See Area."""
        if path != self.path:
            self.stat(path)
            raise NotFound(NOT_THERE)
        return Listing(self._nodes())

    def open(self, path: str) -> File:
        """See Area."""
        if path == self.path:
            raise Conflict("this is a folder")
        if (kept := self._find(path)) is not None:
            fd = self._content.open_blob(kept.sha256, "manifest", folder=self._folder_id, file=kept.node.name)
            node = self._as_told(kept.node)
        else:
            growing = self._growing(path)
            fd, node = growing.sheet.open(), self._as_told(_open_node(growing))
        return File(node.name, node.size, node.mtime, fd)

    def digest(self, path: str) -> str:
        """See Area."""
        if path == self.path:
            raise Conflict("this is a folder")
        if (kept := self._find(path)) is not None:
            return kept.sha256
        self._growing(path)
        raise Refused("this month goes on: its list has no digest yet")

    def _newest(self, tx: Transaction) -> int:
        """The newest mtime of what never changes."""
        of = [sa.select(sa.func.max(table.c.mtime)).where(table.c.folder_id == self._folder_id) for table in _TABLES]
        return max(tx.execute(query).scalar_one() or 0 for query in of)

    def _open_times(self) -> list[int]:
        return [0, *(one.mtime for one in self._open_months.look(self._folder_id).values())]

    def _nodes(self) -> list[Node]:
        open_ = self._open_months.look(self._folder_id)  # first: what is closed meanwhile is not there twice
        kept = [one.node for one in self._db.read(self._all)]
        names = {node.name for node in kept}
        growing = [node for node in map(_open_node, open_.values()) if node.name not in names]
        return sorted(map(self._tell, kept + growing), key=lambda node: node.name)

    def _all(self, tx: Transaction) -> list[_Kept]:
        manifests = tx.execute(sa.select(MANIFEST).where(MANIFEST.c.folder_id == self._folder_id)).all()
        signed = [_of_manifest(row, is_signature=which) for row in manifests for which in (False, True)]
        return signed + [_of_month(row) for row in monthly.all_closed(tx, self._folder_id)]

    def _find(self, path: str) -> _Kept | None:
        """The file that never changes; None for the path of a month, which may go on."""
        name = path.removeprefix(self.path + "/")
        if (match := _INDEX.fullmatch(name)) is not None:
            month = match[1]
            row = self._db.read(lambda tx: monthly.closed(tx, self._folder_id, month))
            return None if row is None else _of_month(row)
        if (match := _MANIFEST.fullmatch(name)) is None:
            raise NotFound(NOT_THERE)
        query = sa.select(MANIFEST).where(MANIFEST.c.folder_id == self._folder_id, MANIFEST.c.day == match[1])
        row = self._db.read(lambda tx: tx.execute(query).first())
        if row is None:
            raise NotFound(NOT_THERE)
        return _of_manifest(row, is_signature=match[2] is not None)

    def _growing(self, path: str) -> monthly.Open:
        match = _INDEX.fullmatch(path.removeprefix(self.path + "/"))
        found = self._open_months.look(self._folder_id).get(match[1]) if match is not None else None
        if found is None:
            raise NotFound(NOT_THERE)
        return found

    def _tell(self, node: Node) -> Node:
        """Remembered of months, which may have grown when they are opened, or been closed."""
        if _INDEX.fullmatch(node.name):
            self._told[node.name] = node, clock.monotonic()
        return node

    def _as_told(self, node: Node) -> Node:
        """As the session was told last, lately: a client compares the length of what it got with that."""
        told, at = self._told.get(node.name, (node, 0.0))
        return told if told.size <= node.size and clock.monotonic() - at <= _TOLD_SECONDS else node


def _of_manifest(row: Any, *, is_signature: bool) -> _Kept:
    name = f"manifest-{row.day}.json"
    if is_signature:
        return _Kept(Node(f"{name}.p7s", False, row.signature_size, row.mtime), row.signature_sha256)
    return _Kept(Node(name, False, row.json_size, row.mtime), row.json_sha256)


def _of_month(row: Any) -> _Kept:
    return _Kept(Node(f"index-{row.month}.csv", False, row.size, row.mtime), row.sha256)


def _open_node(growing: monthly.Open) -> Node:
    return Node(f"index-{growing.month}.csv", False, growing.size, growing.mtime)
