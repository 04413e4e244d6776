"""`gateway document` and `gateway folder`: once more, and back, by number and by name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import config
from gateway.daemon import open_blobs
from gateway.delivery.publish import Publisher
from gateway.domain.documents import Document
from gateway.store import migrations, state
from gateway.store.database import Database
from tests import journey
from tests.journey import CARD_S
from tests.test_cli import Gateway, gateway, settings_file

__all__ = ["gateway", "settings_file"]
NAME = "FONDERIE DES SABLES DÉMO"


@contextmanager
def opened(settings_file: Path) -> Iterator[tuple[Database, Publisher]]:
    """The database while no command runs, and what publishes from it."""
    settings = config.load(settings_file)
    state.prepare(settings.store)
    url = state.database_url(settings.store)
    migrations.upgrade(url)
    db = Database.open(url)
    try:
        yield db, Publisher(db, open_blobs(settings), settings.issuer.zone, 500)
    finally:
        db.close()


@pytest.fixture
def documents(settings_file: Path) -> list[Document]:
    """Three documents that were published in the foundry's folder, and mailed or not."""
    with opened(settings_file) as (db, publisher):
        parties = journey.declare(db)
        ids = journey.sealed(db, publisher._blobs, parties.foundry, CARD_S, 3)
        assert publisher.turn() == 3
        return [db.read(lambda tx, one=one: tx.get_one(Document, one)) for one in ids]  # type: ignore[misc]


def test_a_document_is_delivered_once_more_and_withdrawn_by_its_number_or_id(
    gateway: Gateway, documents: list[Document]
) -> None:
    """The same code as the API's; without a reason nothing happens, and an unknown number is one line."""
    first, second, _ = documents
    code, out, err = gateway("document", "again", first.number, "--reason", "lost", "--channel", "folder", "--json")
    assert (code, len(json.loads(out)["deliveries"])) == (0, 1), err
    code, out, err = gateway("document", "again", second.id, "--reason", "lost")
    assert (code, out.count("dlv_")) == (0, 2), err
    code, out, err = gateway("document", "withdraw", first.number, "--reason", "wrong recipient")
    assert (code, "is withdrawn" in out) == (0, True), err
    code, _, err = gateway("document", "again", first.number, "--reason", "lost")
    assert (code, "was withdrawn" in err) == (1, True)
    for word in ("again", "withdraw"):
        code, _, err = gateway("document", word, "NONE", "--reason", "x")
        assert (code, "no document has the number NONE" in err) == (1, True)
        assert gateway("document", word, second.number)[0] == 2


def test_a_range_of_a_client_s_folder_is_asked_for_again(
    gateway: Gateway, settings_file: Path, documents: list[Document]
) -> None:
    """By numbers and by days; what is on its way is not asked for twice."""
    code, out, err = gateway("folder", "again", NAME, "--from-number", "2", "--to-number", "2", "--reason", "lost")
    assert (code, out) == (0, "documents published again: 1, under numbers after 3\n"), err
    code, out, err = gateway("folder", "again", NAME, "--from-day", "2026-01-01", "--reason", "lost", "--json")
    assert (code, json.loads(out)["documents"], json.loads(out)["on_their_way"]) == (0, 2, 1), err
    code, _, err = gateway("folder", "again", NAME, "--reason", "lost")
    assert (code, "say which: numbers, or days" in err) == (1, True)
    assert gateway("folder", "again", NAME, "--from-day", "yesterday", "--reason", "lost")[0] == 2
    with opened(settings_file) as (_, publisher):
        assert publisher.turn() == 3
    code, out, _ = gateway("explain", documents[1].number)
    assert "repeat number 1, which cli:" in out and "asked for: lost" in out
