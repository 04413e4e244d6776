"""A database with the parties of the journey in it, and a clock that the tests turn."""

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from gateway import clock
from gateway.delivery.publish import Publisher
from gateway.domain.deliveries import Delivery
from gateway.domain.states import Channel
from gateway.store import database as database_module
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database, Transaction
from tests import journey
from tests.journey import CARD_S, Look

T = TypeVar("T")
PARIS = ZoneInfo("Europe/Paris")


class Office(Look):
    """The foundry and the solar plant, and documents that were sealed for them."""

    def __init__(self, db: Database, blobs: LocalBlobs) -> None:
        super().__init__(db)
        self.blobs = blobs
        self.parties = journey.declare(db)

    def do(self, step: Callable[[Transaction], T]) -> T:
        return self.db.write(step)

    def publisher(self, batch: int = 500) -> Publisher:
        return Publisher(self.db, self.blobs, PARIS, batch)

    def sealed(self, count: int = 1, contract: str = CARD_S, **values: Any) -> list[str]:
        """Documents with their deliveries planned, by folder and by mail."""
        return journey.sealed(self.db, self.blobs, self.parties.holder(contract), contract, count, **values)

    def mail(self, document: str = "") -> Delivery:
        """The mail delivery of a document, or of a new one."""
        of = document or self.sealed()[0]
        (found,) = self.deliveries(document_id=of, channel=Channel.EMAIL)
        return found

    def entry_of(self, document: str) -> Delivery:
        """Its folder delivery."""
        (found,) = self.deliveries(document_id=document, channel=Channel.FOLDER)
        return found


@pytest.fixture
def office(database: Database, blobs: LocalBlobs) -> Office:
    return Office(database, blobs)


class Time:
    """What the clocks say: `pass_` goes on, `pass_` of a negative time is a clock that was set back."""

    def __init__(self) -> None:
        self.now = clock.now() + dt.timedelta(hours=1)

    def pass_(self, **duration: float) -> None:
        self.now += dt.timedelta(**duration)


@pytest.fixture
def at(office: Office, monkeypatch: pytest.MonkeyPatch) -> Time:
    """From now on time stands still, an hour after the parties were declared, until the test lets it pass."""
    time = Time()
    monkeypatch.setattr(clock, "now", lambda: time.now)
    monkeypatch.setattr(database_module, "now", lambda _tx: time.now)  # PostgreSQL's own clock cannot be turned
    return time
