"""A client in dry run: everything is planned and explained, nothing leaves, and afterwards each goes out once."""

import pytest
from sqlmodel import col, select

from gateway import clock
from gateway.access import Actor, Role
from gateway.delivery import dry_run, orders, outbox
from gateway.delivery.plan import DRY_RUN
from gateway.domain.folders import Entry
from gateway.domain.parties import Mailbox
from gateway.domain.states import Channel, DeliveryState
from gateway.errors import Conflict
from tests.journey import CARD_I, CARD_S

from .conftest import Office

OPERATOR = Actor("tok_operator", "operator", None, Role.OPERATOR)
WHO, WHY = OPERATOR.id, "seen"


def _begin(office: Office) -> int:
    client = office.parties.holder(CARD_S).client
    return office.do(lambda tx: dry_run.begin(tx, OPERATOR, client))


def _end(office: Office, *, cancel: bool = False) -> int:
    client = office.parties.holder(CARD_S).client
    return office.do(lambda tx: dry_run.end(tx, OPERATOR, client, cancel=cancel, reason=WHY))


def _leave(office: Office) -> tuple[int, list[str]]:
    """What publishing and mail take up now."""
    published = office.publisher().turn()
    return published, [claim.delivery.id for claim in office.do(lambda tx: outbox.claim(tx, 100, 60))]


def _entries(office: Office) -> list[str]:
    return list(office.db.read(lambda tx: tx.exec(select(Entry.document_id).order_by(col(Entry.sequence))).all()))


def test_everything_is_planned_and_nothing_leaves(office: Office) -> None:
    """Each delivery is there, held, with the reason that explain gives."""
    _begin(office)
    office.sealed(3)
    found = office.deliveries()
    assert len(found) == 6
    assert {(one.state, one.state_reason, one.due_at) for one in found} == {(DeliveryState.HELD, DRY_RUN, None)}
    assert _leave(office) == (0, [])
    assert _entries(office) == []


def test_what_waited_when_it_began_is_held_too(office: Office) -> None:
    """Also mail that is to be tried again; an attempt that is under way, or may have arrived, is not touched."""
    documents = office.sealed(4)
    deferred, attempting, uncertain = (office.mail(document) for document in documents[:3])
    office.set(deferred, state=DeliveryState.DEFERRED)
    office.set(attempting, state=DeliveryState.ATTEMPTING, due_at=None)
    office.set(uncertain, state=DeliveryState.UNCERTAIN)
    assert _begin(office) == 6
    assert _begin(office) == 0
    assert _leave(office) == (0, [])
    states = [office.delivery(one.id).state for one in (deferred, attempting, uncertain)]
    assert states == [DeliveryState.HELD, DeliveryState.ATTEMPTING, DeliveryState.UNCERTAIN]


def test_when_it_ends_each_goes_out_once_in_the_order_of_planning(office: Office) -> None:
    """Before whatever is planned afterwards."""
    first = office.sealed(2)
    _begin(office)
    second = office.sealed(2)
    assert _end(office) == 8
    assert _end(office) == 0
    third = office.sealed()
    published, mails = _leave(office)
    assert published == 5
    assert _entries(office) == [*first, *second, *third]
    assert [office.delivery(one).document_id for one in mails] == [*first, *second, *third]
    assert _leave(office) == (0, [])
    assert all(office.delivery(one.id).state is not DeliveryState.HELD for one in office.deliveries())


def test_when_it_ends_what_was_held_can_be_cancelled(office: Office) -> None:
    """A trial with last year's documents is not delivered."""
    _begin(office)
    office.sealed(2)
    assert _end(office, cancel=True) == 4
    assert {(one.state, one.state_reason) for one in office.deliveries()} == {(DeliveryState.CANCELLED, WHY)}
    (later,) = office.sealed()
    assert _leave(office)[0] == 1
    assert _entries(office) == [later]


def test_what_is_held_for_another_reason_stays_held(office: Office) -> None:
    """The end of a dry run confirms no address, and mends no bytes."""
    _begin(office)
    mail = office.mail()
    box = office.db.read(lambda tx: tx.get(Mailbox, mail.destination))
    assert box is not None
    office.do(lambda tx: _suspend(tx.get(Mailbox, box.id)))
    broken = office.entry_of(mail.document_id)
    office.set(broken, state_reason="bytes are missing")
    assert _end(office) == 0
    assert "suspended" in office.delivery(mail.id).state_reason
    assert {office.delivery(one.id).state for one in (mail, broken)} == {DeliveryState.HELD}


def _suspend(box: Mailbox | None) -> None:
    assert box is not None
    box.suspended_at, box.suspended_reason = clock.now(), "it bounced"


@pytest.mark.parametrize("channel", Channel)
def test_no_order_lets_anything_leave_meanwhile(office: Office, channel: Channel) -> None:
    """Release is refused, another delivery is held, a retry waits."""
    _begin(office)
    (document,) = office.sealed()
    (delivery,) = office.deliveries(document_id=document, channel=channel)
    with pytest.raises(Conflict, match="dry run"):
        office.do(lambda tx: orders.release(tx, delivery.id, WHO))
    again = office.do(lambda tx: orders.send_again(tx, delivery.id, WHO, WHY))
    assert office.delivery(again).state is DeliveryState.HELD
    if channel is Channel.EMAIL:
        office.set(delivery, state=DeliveryState.FAILED, state_reason="")
        office.do(lambda tx: orders.retry(tx, delivery.id, WHO))
    assert _leave(office) == (0, [])
    office.do(lambda tx: orders.cancel(tx, again, WHO, WHY))


def test_another_client_is_not_concerned(office: Office) -> None:
    """It is one client's trial."""
    _begin(office)
    (document,) = office.sealed(1, CARD_I)
    assert office.parties.holder(CARD_I).client != office.parties.holder(CARD_S).client
    assert _leave(office)[0] == 1
    assert _entries(office) == [document]


def test_it_stands_in_the_ledger(office: Office) -> None:
    """Who let nothing leave, and who ended it."""
    office.sealed()
    _begin(office)
    _end(office)
    (begun,), (ended,) = office.facts("client.dry_run_begun"), office.facts("client.dry_run_ended")
    assert (begun["actor"], begun["held"]) == (WHO, 2)
    assert (ended["outcome"], ended["deliveries"], ended["reason"]) == ("released", 2, WHY)
    assert len(office.facts("delivery.released")) == 2
