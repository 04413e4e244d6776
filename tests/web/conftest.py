"""One API on a fresh SQLite database for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.database import Database, sqlite_url

from .world import World, world


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path) -> Iterator[Database]:
    """An open, fresh SQLite database."""
    path = tmp_path / "gateway.db"
    shutil.copy(_sqlite_template, path)
    opened = Database.open(sqlite_url(path))
    yield opened
    opened.close()


@pytest.fixture
def gateway(tmp_path: Path, sqlite: Database) -> Iterator[World]:
    """An API with two parties in it."""
    with world(tmp_path, sqlite) as made:
        yield made


@pytest.fixture
def anywhere(tmp_path: Path, database: Database) -> Iterator[World]:
    """The same once on SQLite and once on PostgreSQL, for what asks more than rows by their ids."""
    with world(tmp_path, database) as made:
        yield made
