"""Listeners run on SQLite alone: what differs between databases is tested below them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store import migrations
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, sqlite_url
from tests.dropfolder.world import World


@pytest.fixture
def world(tmp_path: Path, blobs: LocalBlobs) -> Iterator[World]:
    """A client with a folder."""
    url = sqlite_url(tmp_path / "gateway.db")
    migrations.upgrade(url)
    opened = Database.open(url)
    made = World(opened, blobs)
    yield made
    made.close()
    opened.close()
