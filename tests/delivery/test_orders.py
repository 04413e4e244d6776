"""What operators order of deliveries, and what it can no longer change."""

import pytest

from gateway import clock
from gateway.delivery import orders
from gateway.domain.parties import Mailbox
from gateway.domain.states import Channel, DeliveryState, DocumentState
from gateway.errors import Conflict, NotFound
from tests.delivery.conftest import Office

WHO, WHY = "tok_operator", "the client asked"


@pytest.mark.parametrize("state", ["failed", "bounced", "deferred", "uncertain"])
def test_a_retry_makes_mail_due_at_once(office: Office, state: str) -> None:
    """Giving up counts from now on; who ordered it stands in the record."""
    mail = office.mail()
    office.set(mail, state=DeliveryState(state), due_at=None, final_at=clock.now(), state_reason="550 no", attempts=7)
    office.do(lambda tx: orders.retry(tx, mail.id, WHO))
    row = office.delivery(mail.id)
    assert (row.state, row.state_reason, row.final_at) == (DeliveryState.PLANNED, "", None)
    assert row.due_at == row.retry_since and row.retry_since >= mail.retry_since
    assert row.row_version == mail.row_version + 1
    (said,) = office.facts("delivery.retried")
    assert (said["actor"], said["before"]) == (WHO, state)


def test_a_folder_delivery_is_not_retried(office: Office) -> None:
    """There is nothing to repeat: it is in the folder, or held."""
    delivery = office.entry_of(office.sealed()[0])
    with pytest.raises(Conflict):
        office.do(lambda tx: orders.retry(tx, delivery.id, WHO))


@pytest.mark.parametrize("state", ["failed", "bounced"])
def test_mail_of_a_withdrawn_document_is_neither_retried_nor_sent_again(office: Office, state: str) -> None:
    """It went to the wrong recipient once."""
    mail = office.mail()
    office.set(mail, state=DeliveryState(state), due_at=None)
    office.do(lambda tx: orders.withdraw(tx, mail.document_id, WHO, WHY))
    with pytest.raises(Conflict):
        office.do(lambda tx: orders.retry(tx, mail.id, WHO))
    with pytest.raises(Conflict):
        office.do(lambda tx: orders.send_again(tx, mail.id, WHO, WHY))
    assert office.delivery(mail.id).state == state
    assert len(office.deliveries()) == 2


@pytest.mark.parametrize("channel", Channel)
def test_what_has_not_left_can_be_cancelled(office: Office, channel: Channel) -> None:
    (document,) = office.sealed()
    (delivery,) = office.deliveries(document_id=document, channel=channel)
    office.do(lambda tx: orders.cancel(tx, delivery.id, WHO, WHY))
    row = office.delivery(delivery.id)
    assert (row.state, row.state_reason, row.due_at) == (DeliveryState.CANCELLED, WHY, None)
    assert row.final_at is not None
    assert office.publisher().turn() == (0 if channel is Channel.FOLDER else 1)


def test_what_was_published_cannot_be_cancelled(office: Office) -> None:
    (document,) = office.sealed()
    office.publisher().turn()
    delivery = office.entry_of(document)
    with pytest.raises(Conflict):
        office.do(lambda tx: orders.cancel(tx, delivery.id, WHO, WHY))
    assert office.delivery(delivery.id).state is DeliveryState.PUBLISHED


def test_a_held_mail_is_released_once_its_address_can_be_written_to(office: Office) -> None:
    """Until then the order says what is to be mended."""
    box = office.db.read(lambda tx: tx.get_one(Mailbox, office.parties.foundry.mailbox))
    office.set(box, suspended_at=clock.now(), suspended_reason="three bounces")
    mail = office.mail()
    with pytest.raises(Conflict) as caught:
        office.do(lambda tx: orders.release(tx, mail.id, WHO, WHY))
    assert caught.value.code == "still_held" and "three bounces" in caught.value.message
    office.set(box, suspended_at=None, suspended_reason=None)
    office.do(lambda tx: orders.release(tx, mail.id, WHO, WHY))
    row = office.delivery(mail.id)
    assert (row.state, row.state_reason, row.due_at is not None) == (DeliveryState.PLANNED, "", True)


@pytest.mark.parametrize("channel", Channel)
def test_sending_again_is_a_new_delivery_of_the_same_document(office: Office, channel: Channel) -> None:
    """The old one stays as it was."""
    (document,) = office.sealed()
    (before,) = office.deliveries(document_id=document, channel=channel)
    again = office.do(lambda tx: orders.send_again(tx, before.id, WHO, WHY))
    row = office.delivery(again)
    assert (row.document_id, row.channel, row.destination, row.again) == (document, channel, before.destination, 1)
    assert (row.state, row.attempts, row.message_sha256) == (DeliveryState.PLANNED, 0, None)
    assert office.delivery(before.id) == before
    (said,) = office.facts("delivery.ordered_again")
    assert (said["actor"], said["reason"], said["of"]) == (WHO, WHY, before.id)


def test_withdrawing_takes_it_from_the_folder_and_stops_what_has_not_left(office: Office) -> None:
    """Bytes and facts stay; the folder's sequence says that it went."""
    (document,) = office.sealed()
    office.publisher().turn()
    office.do(lambda tx: orders.withdraw(tx, document, WHO, WHY))
    row = office.document(document)
    assert (row.state, row.state_reason, row.due_at) == (DocumentState.WITHDRAWN, WHY, None)
    assert row.sealed_sha256 is not None and office.blobs.path(row.sealed_sha256).exists()
    assert office.entry_of(document).state is DeliveryState.WITHDRAWN
    assert office.mail(document).state is DeliveryState.CANCELLED
    (entry,) = office.entries()
    assert not entry.listed and entry.withdrawn_at is not None
    folder = office.folder(office.parties.foundry.folder)
    assert (folder.last_sequence, folder.version) == (2, 2)
    assert office.facts("document.withdrawn")[0]["mail_that_left"] == []
    assert office.publisher().turn() == 0


@pytest.mark.parametrize(
    ("state", "left"),
    [("accepted", True), ("delivered", True), ("attempting", True), ("failed", False), ("bounced", False)],
)
def test_mail_that_has_left_is_not_recalled_and_the_record_says_so(office: Office, state: str, left: bool) -> None:
    mail = office.mail()
    office.set(mail, state=DeliveryState(state), due_at=None)
    office.do(lambda tx: orders.withdraw(tx, mail.document_id, WHO, WHY))
    assert office.delivery(mail.id).state == state
    assert office.facts("document.withdrawn")[0]["mail_that_left"] == ([mail.id] if left else [])


def test_a_document_is_withdrawn_once(office: Office) -> None:
    (document,) = office.sealed()
    office.do(lambda tx: orders.withdraw(tx, document, WHO, WHY))
    with pytest.raises(Conflict):
        office.do(lambda tx: orders.withdraw(tx, document, WHO, WHY))


def test_an_order_about_nothing_is_not_found(office: Office) -> None:
    for order in (orders.cancel, orders.release, orders.send_again, orders.withdraw):
        with pytest.raises(NotFound):
            office.do(lambda tx, o=order: o(tx, "dlv_none", WHO, WHY))  # type: ignore[misc]
    with pytest.raises(NotFound):
        office.do(lambda tx: orders.retry(tx, "dlv_none", WHO))
