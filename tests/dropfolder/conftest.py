"""A clock that the tests turn."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import clock
from gateway.store import database as module
from gateway.store import migrations
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, sqlite_url
from tests.dropfolder.world import World


class Time:
    """Stops `clock.now` and `clock.monotonic`; `pass_` moves both, `step` only the clock on the wall."""

    def __init__(self) -> None:
        self.wall = float(int(time.time())) + 0.25
        self.running = 1000.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds

    def step(self, seconds: float) -> None:
        self.wall += seconds

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.wall, dt.UTC)

    def monotonic(self) -> float:
        return self.running


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time stands still until the test lets it pass."""
    time_ = Time()
    now: Callable[[], dt.datetime] = time_.now
    monkeypatch.setattr(clock, "now", now)
    monkeypatch.setattr(clock, "monotonic", time_.monotonic)
    monkeypatch.setattr(module, "now", lambda _tx: time_.now())  # PostgreSQL's own clock cannot be turned
    return time_


@pytest.fixture
def database(database: Database) -> Iterator[Database]:
    """What the test's gateways gathered is recorded while it is open."""
    yield database
    while World.open:
        World.open.pop().close()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """An empty database with the newest schema, to be copied."""
    path = tmp_path / "template.db"
    migrations.upgrade(sqlite_url(path))
    return path


@pytest.fixture
def world(database: Database, blobs: LocalBlobs, at: Time) -> World:
    """A client with a folder in receipt mode `delete`, in time that stands still."""
    return World(database, blobs)
