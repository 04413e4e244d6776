"""A database and a clock of its own for each example of a property test, copied and turned in no time."""

import shutil
import tempfile
from pathlib import Path

import pytest

from gateway import clock
from gateway.store import database
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, sqlite_url
from tests.dropfolder.conftest import Time


class Ground:
    """A copy of the template database, in time that stands still. `close` it."""

    def __init__(self, template: Path) -> None:
        self.at = Time()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(clock, "now", self.at.now)
        self._patch.setattr(clock, "monotonic", self.at.monotonic)
        self._patch.setattr(database, "now", lambda _tx: self.at.now())
        # Thousands of commits, none of which has to outlive the test.
        pragmas = [pragma for pragma in database._PRAGMAS if "sync" not in pragma]
        self._patch.setattr(database, "_PRAGMAS", (*pragmas, "synchronous=OFF"))
        self._directory = Path(tempfile.mkdtemp(dir=template.parent))
        shutil.copy(template, self._directory / "gateway.db")
        self.db = Database.open(sqlite_url(self._directory / "gateway.db"))
        self.blobs = LocalBlobs(template.parent / "blobs")

    def close(self) -> None:
        self.db.close()
        self._patch.undo()
        shutil.rmtree(self._directory)
