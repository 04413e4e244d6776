"""`manifest/` in every folder's home: the signed manifests, for reading only. To read one is no receipt, no entry."""

import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ..errors import Conflict, NotFound, Unavailable
from ..store.blobs import Blobs
from ..store.database import Database
from .areas import NOT_THERE, Area
from .manifests import MANIFEST
from .nodes import File, Listing, Node

_NAME = re.compile(r"manifest-([0-9]{4}-[0-9]{2}-[0-9]{2})\.json(\.p7s)?")


class ManifestArea(Area):
    """The manifests of one folder."""

    name = "manifest"

    def __init__(self, db: Database, blobs: Blobs, folder_id: str, saw: Callable[[int], None]) -> None:
        self._db = db
        self._blobs = blobs
        self._folder_id = folder_id
        self._saw = saw

    def stat(self, path: str) -> Node:
        """See Area."""
        if path == self.path:
            return Node(self.name, True, 0, max((row.mtime for row in self._rows()), default=0))
        row, is_signature = self._find(path)
        return _node(row, is_signature=is_signature)

    def listing(self, path: str) -> Listing:
        """See Area."""
        if path != self.path:
            self._find(path)
            raise NotFound(NOT_THERE)
        nodes = [_node(row, is_signature=which) for row in self._rows() for which in (False, True)]
        return Listing(nodes, [], self._saw)

    def open(self, path: str) -> File:
        """See Area."""
        node, sha256 = self.stat(path), self.digest(path)
        try:
            return File(node.name, node.size, node.mtime, self._blobs.open(sha256))
        except NotFound:
            raise Unavailable("these bytes cannot be read at the moment; try again") from None

    def digest(self, path: str) -> str:
        """See Area."""
        if path == self.path:
            raise Conflict("this is a folder")
        row, is_signature = self._find(path)
        sha256: str = row.signature_sha256 if is_signature else row.json_sha256
        return sha256

    def _rows(self, *conditions: Any) -> list[Any]:
        query = sa.select(MANIFEST).where(MANIFEST.c.folder_id == self._folder_id, *conditions).order_by(MANIFEST.c.day)
        return list(self._db.read(lambda tx: tx.execute(query).all()))

    def _find(self, path: str) -> tuple[Any, bool]:
        match = _NAME.fullmatch(path.removeprefix(self.path + "/"))
        rows = self._rows(MANIFEST.c.day == match[1]) if match else []
        if match is None or not rows:
            raise NotFound(NOT_THERE)
        return rows[0], match[2] is not None


def _node(row: Any, *, is_signature: bool) -> Node:
    name = f"manifest-{row.day}.json"
    if is_signature:
        return Node(f"{name}.p7s", False, row.signature_size, row.mtime)
    return Node(name, False, row.json_size, row.mtime)
