"""Listeners run on SQLite alone: what differs between databases is tested below them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.blobs import LocalBlobs
from tests.dropfolder.world import World, on_sqlite


@pytest.fixture
def world(tmp_path: Path, blobs: LocalBlobs) -> Iterator[World]:
    """A client with a folder."""
    with on_sqlite(tmp_path, blobs) as made:
        yield made
