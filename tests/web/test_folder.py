"""The drop folder by API: numbers without a gap."""

from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlmodel import col, select

from gateway import clock
from gateway.delivery import orders
from gateway.delivery.publish import Publisher, publish
from gateway.domain.deliveries import Delivery
from gateway.domain.folders import Folder, ReceiptMode
from gateway.domain.states import Channel, DeliveryState
from gateway.store.database import Transaction

from .world import ADMIN, World, document

PARIS = ZoneInfo("Europe/Paris")


def published(world: World, count: int, owner: int = 0) -> list[str]:
    """New documents in a party's folder; the ids of their deliveries."""
    party, now = world.parties[owner], clock.now()
    blobs = [world.parts.blobs.put(b"%d" % number) for number in range(count)]

    def step(tx: Transaction) -> list[str]:
        ids = []
        for number, blob in enumerate(blobs):
            row = document(party, f"P{owner}-{clock.new_id('n')[-6:]}-{number}", blob.sha256, blob.size)
            delivery = Delivery(
                document_id=row.id, client_id=party.client, channel=Channel.FOLDER, destination=party.folder,
                state=DeliveryState.PLANNED, due_at=now, retry_since=now, created_at=now, updated_at=now,
            )  # fmt: skip
            tx.add(row)
            tx.flush()
            tx.add(delivery)
            tx.flush()
            ids.append(delivery.id)
        publish(tx, ids, frozenset(), PARIS)
        return ids

    made: list[str] = world.write(step)
    return made


def set_mode(world: World, mode: ReceiptMode, owner: int = 0) -> None:
    def step(tx: Transaction) -> None:
        folder = tx.get_one(Folder, world.parties[owner].folder)
        folder.receipt_mode = mode
        tx.add(folder)

    world.write(step)


def states(world: World, ids: list[str]) -> set[DeliveryState]:
    query = select(Delivery).where(col(Delivery.id).in_(ids))
    return {row.state for row in world.parts.db.read(lambda tx: tx.exec(query).all())}


def test_a_client_reads_everything_after_the_number_it_has(anywhere: World) -> None:
    """Page by page, without a gap, until its number is the folder's last."""
    published(anywhere, 3)
    published(anywhere, 2, owner=1)
    found, after = [], 0
    while True:
        answer = anywhere.ask("GET", "/folder/entries", "own", params={"after": after, "limit": 2}).json()
        found += answer["items"]
        if not answer["items"]:
            break
        after = answer["items"][-1]["sequence"]
    assert [one["sequence"] for one in found] == [1, 2, 3]
    assert (answer["last_sequence"], answer["folder"]) == (3, anywhere.parties[0].folder)
    assert {one["event"] for one in found} == {"published"}
    assert all(one["listed"] and one["received_at"] is None and one["name"].endswith("_ORIG.pdf") for one in found)


def test_a_withdrawal_is_an_event_of_its_own(anywhere: World) -> None:
    """Whoever has read up to 1 learns that 1 is gone."""
    published(anywhere, 1)
    first = anywhere.ask("GET", "/folder/entries", "own").json()["items"][0]
    anywhere.write(lambda tx: orders.withdraw(tx, first["document"], ADMIN.id, "wrong recipient"))
    (news,) = anywhere.ask("GET", "/folder/entries", "own", params={"after": 1}).json()["items"]
    assert (news["sequence"], news["event"], news["entry"]) == (2, "withdrawn", first["entry"])
    assert news["withdrawn_at"] is not None


def test_an_entry_names_the_delivery_that_its_client_acknowledges(anywhere: World) -> None:
    """From the number to the receipt without another question."""
    set_mode(anywhere, ReceiptMode.API)
    ids = published(anywhere, 2)
    for one in anywhere.ask("GET", "/folder/entries", "own").json()["items"]:
        assert anywhere.ask("POST", f"/deliveries/{one['delivery']}/acknowledge", "own").status_code == 200
    assert states(anywhere, ids) == {DeliveryState.RECEIVED}
    items = anywhere.ask("GET", "/folder/entries", "own").json()["items"]
    assert all(one["received_at"] is not None and not one["listed"] for one in items)


def test_an_operator_names_the_folder_that_it_looks_at(gateway: World) -> None:
    """There is no first one of everybody's."""
    published(gateway, 1)
    assert gateway.ask("GET", "/folder/entries", "admin").json()["code"] == "folder_needed"
    folder = gateway.parties[0].folder
    found = gateway.ask("GET", "/folder/entries", "viewer", params={"folder": folder}).json()
    assert [one["sequence"] for one in found["items"]] == [1]


def test_another_client_s_folder_does_not_exist(gateway: World) -> None:
    """In the same words as a folder that nobody has."""
    for other in (gateway.parties[0].folder, "fol_unknown"):
        answer = gateway.ask("GET", "/folder/entries", "foreign", params={"folder": other})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_folder")


def ask(world: World, token: str = "own", key: str = "", **body: Any) -> httpx.Response:
    """Ask for a range again."""
    headers = {"Idempotency-Key": key} if key else {}
    return world.ask("POST", "/folder/again", token, json={"reason": "lost"} | body, headers=headers)


def publish_all(world: World) -> None:
    publisher = Publisher(world.parts.db, world.parts.blobs, PARIS, 500)
    while publisher.turn():
        pass


def test_a_client_asks_for_a_range_again_and_finds_it_after_the_number_it_was_told(anywhere: World) -> None:
    """By its own token, from its own folder: the same bytes, new numbers."""
    published(anywhere, 4)
    answer = ask(anywhere, first=2, last=3)
    assert answer.status_code == 201, answer.text
    folder = anywhere.parties[0].folder
    assert answer.json() == {"folder": folder, "documents": 2, "withdrawn": 0, "on_their_way": 0, "after": 4}
    publish_all(anywhere)
    items = anywhere.ask("GET", "/folder/entries", "own").json()["items"]
    assert [one["sequence"] for one in items] == [1, 2, 3, 4, 5, 6]
    assert [one["event"] for one in items[4:]] == ["published_again"] * 2
    assert [one["sha256"] for one in items[4:]] == [one["sha256"] for one in items[1:3]]


def test_the_same_request_under_the_same_key_publishes_once(anywhere: World) -> None:
    """An answer that got lost is asked for again; nothing happens a second time, not even after publication."""
    published(anywhere, 2)
    first = ask(anywhere, key="k-1", first=1)
    publish_all(anywhere)
    again = ask(anywhere, key="k-1", first=1)
    publish_all(anywhere)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert anywhere.ask("GET", "/folder/entries", "own").json()["last_sequence"] == 4
    assert ask(anywhere, key="k-1", first=2).json()["code"] == "idempotency_mismatch"


def test_days_are_asked_for_too_and_an_operator_names_the_folder(gateway: World) -> None:
    """Today's, by whoever may."""
    published(gateway, 3)
    today = clock.now().astimezone(PARIS).date().isoformat()
    assert ask(gateway, "admin", **{"from": today}).json()["code"] == "folder_needed"
    folder = gateway.parties[0].folder
    assert ask(gateway, "operator", folder=folder, **{"from": today, "to": today}).json()["documents"] == 3
    assert ask(gateway, "own", **{"from": "2001-01-01", "to": "2001-12-31"}).json()["code"] == "nothing_published"


def test_another_client_s_range_does_not_exist(gateway: World) -> None:
    """In the same words as a folder that nobody has; and its own folder stays its own."""
    published(gateway, 1)
    for other in (gateway.parties[0].folder, "fol_unknown"):
        answer = ask(gateway, "foreign", folder=other, first=1)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_folder")
    assert ask(gateway, "foreign", first=1).json()["code"] == "nothing_published"


@pytest.mark.parametrize(
    "body",
    [{"first": 0}, {"first": 1 << 70}, {"from": "0001-01-01"}, {"to": "9999-12-31"}, {"first": 1, "reason": " "}, {}],
)
def test_a_range_that_is_none_is_refused(gateway: World, body: dict[str, Any]) -> None:
    """Said of the field, not by a failure."""
    published(gateway, 1)
    assert ask(gateway, **body).status_code == 422
