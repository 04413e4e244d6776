"""The queue by the API, and what operators order of it."""

import functools
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import col, select

from gateway import clock
from gateway.delivery.publish import publish
from gateway.domain.deliveries import Delivery
from gateway.domain.ledger import Record
from gateway.domain.states import Channel, DeliveryState
from gateway.store.database import Transaction

from .world import Party, World


def test_a_delivery_is_shown_with_its_destination_in_words(anywhere: World) -> None:
    """The members that others build on."""
    own = anywhere.parties[0]
    shown = anywhere.ask("GET", "/deliveries", "own").json()["items"]
    assert len(shown) == 1
    expected = {"id": own.delivery, "document": own.document, "number": f"F-{own.siren}", "client": own.client,
                "channel": "email", "destination": f"compta@{own.siren}.example", "state": "failed", "attempts": 1,
                "message_id": "m1@gateway.example", "last_reply": "550 5.1.1 no such user",
                "maybe_sent": False}  # fmt: skip
    assert expected.items() <= shown[0].items()
    whole = anywhere.ask("GET", f"/deliveries/{own.delivery}", "own").json()
    assert [(one["number"], one["outcome"], one["phase"]) for one in whole["attempt_list"]] == [(1, "failed", "rcpt")]


def test_a_delivery_that_may_have_arrived_says_so(gateway: World) -> None:
    """The next attempt may be a second copy: whoever asks for it must know."""
    own = gateway.parties[0]

    def mark(tx: Transaction) -> None:
        tx.execute(sa.update(Delivery).where(col(Delivery.id) == own.delivery).values(maybe_sent=True))

    gateway.parts.db.write(mark)
    assert gateway.ask("GET", f"/deliveries/{own.delivery}", "operator").json()["maybe_sent"] is True


def test_filters_narrow_the_list(anywhere: World) -> None:
    """Each alone, and one that fits nothing."""
    own, _ = anywhere.parties
    for query, count in (
        ({}, 2),
        ({"client": own.client}, 1),
        ({"document": own.document}, 1),
        ({"number": f"F-{own.siren}"}, 1),
        ({"state": "failed"}, 2),
        ({"state": "planned"}, 0),
        ({"channel": "email"}, 2),
        ({"channel": "folder"}, 0),
    ):
        assert len(anywhere.ask("GET", "/deliveries", "admin", params=query).json()["items"]) == count, query


def test_retry_makes_a_failed_mail_due_and_names_who_asked(gateway: World) -> None:
    """A5, with an entry in the evidence."""
    own = gateway.parties[0]
    answer = gateway.ask("POST", f"/deliveries/{own.delivery}/retry", "operator")
    assert (answer.status_code, answer.json()["state"]) == (200, "planned")
    assert answer.json()["due_at"] is not None
    record = gateway.parts.db.read(lambda tx: tx.exec(select(Record).where(Record.event == "delivery.retried")).one())
    assert gateway.token_ids["operator"] in record.body


def test_an_order_that_the_state_does_not_allow_is_409_and_changes_nothing(gateway: World) -> None:
    """What has left cannot be cancelled."""
    own = gateway.parties[0]
    for order in ("cancel", "release"):
        answer = gateway.ask("POST", f"/deliveries/{own.delivery}/{order}", "admin", json={"reason": "x"})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), answer.text
    assert gateway.ask("GET", f"/deliveries/{own.delivery}", "admin").json()["state"] == DeliveryState.FAILED


def test_send_again_is_a_new_delivery_marked_so(anywhere: World) -> None:
    """Never automatic, never the same row: the first one's facts stay."""
    own = anywhere.parties[0]
    answer = anywhere.ask("POST", f"/documents/{own.document}/send-again", "operator", json={"reason": "lost"})
    assert answer.status_code == 201
    (new,) = answer.json()["deliveries"]
    shown = anywhere.ask("GET", f"/deliveries/{new}", "admin").json()
    assert (shown["again"], shown["state"], shown["destination"]) == (1, "planned", f"compta@{own.siren}.example")
    none = anywhere.ask(
        "POST", f"/documents/{own.document}/send-again", "operator", json={"reason": "lost", "channel": "folder"}
    )
    assert (none.status_code, none.json()["code"]) == (409, "no_delivery")


def test_a_quarantined_document_leaves_by_one_of_three_exits_once(gateway: World) -> None:
    """A second decision finds another state."""
    own, other = gateway.parties
    accepted = gateway.ask("POST", f"/documents/{own.quarantined}/accept", "operator", json={"reason": "seen"})
    assert (accepted.status_code, accepted.json()["state"], accepted.json()["nature"]) == (200, "received", "original")
    assert (
        gateway.ask("POST", f"/documents/{own.quarantined}/reject", "operator", json={"reason": "x"}).status_code == 409
    )
    rejected = gateway.ask("POST", f"/documents/{other.quarantined}/reject", "operator", json={"reason": "wrong"})
    assert (rejected.status_code, rejected.json()["state"]) == (200, "withdrawn")
    for reason in ({}, {"reason": ""}, {"reason": "  "}):
        assert gateway.ask("POST", f"/documents/{own.document}/withdraw", "admin", json=reason).status_code == 422


def test_a_client_acknowledges_what_lies_in_its_folder_and_nobody_does_it_for_it(anywhere: World) -> None:
    """The receipt of folders in mode `api`; in any other mode it is given by what the client does there."""
    own = anywhere.parties[0]
    delivery = anywhere.write(functools.partial(_published, party=own))
    path = f"/deliveries/{delivery}/acknowledge"
    refused = anywhere.ask("POST", path, "own")
    assert (refused.status_code, refused.json()["code"]) == (409, "receipt_mode")
    by_api = {"folder": {"enabled": True, "receipt": "api"}}
    assert anywhere.ask("PUT", f"/clients/{own.client}/delivery-settings", "own", json=by_api).status_code == 200
    assert anywhere.ask("POST", path, "admin").status_code == 403
    for _ in range(2):
        answer = anywhere.ask("POST", path, "own")
        assert (answer.status_code, answer.json()["state"]) == (200, "received"), answer.text
    mail = anywhere.ask("POST", f"/deliveries/{own.delivery}/acknowledge", "own")
    assert (mail.status_code, mail.json()["code"]) == (409, "receipt_mode")


def _published(tx: Transaction, party: Party) -> str:
    now = clock.now()
    delivery = Delivery(
        document_id=party.document,
        client_id=party.client,
        channel=Channel.FOLDER,
        destination=party.folder,
        state=DeliveryState.PLANNED,
        due_at=now,
        retry_since=now,
        created_at=now,
        updated_at=now,
    )
    tx.add(delivery)
    tx.flush()
    publish(tx, [delivery.id], frozenset(), ZoneInfo("Europe/Paris"))
    return delivery.id
