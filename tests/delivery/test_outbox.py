"""The outbox: a claim is a lease, a result is its holder's to write, and what nobody knows is uncertain."""

import datetime as dt
import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from gateway import clock
from gateway.config import DeliverySettings
from gateway.delivery import orders, outbox
from gateway.delivery.outbox import Claim, Result
from gateway.domain.states import (
    DELIVERY_MOVES,
    DOCUMENT_MOVES,
    FINAL_MAIL,
    MAIL_MOVES,
    Channel,
    DeliveryState,
    DocumentState,
    advance_delivery,
    advance_document,
)
from gateway.errors import Conflict
from tests.delivery.conftest import Office, Time

SETTINGS = DeliverySettings(retry_minutes=(10,), retry_jitter_percent=0, give_up_hours=2)
WHO = "tok_operator"
EVENTS = {event for moves in DELIVERY_MOVES.values() for _, event in moves}
ACCEPTED = Result("accepted", "dot", "250 2.0.0 queued", "127.0.0.1:25", "4XyZ", "TLSv1.3", 12)
DEFERRED = Result("deferred", "rcpt", "451 4.7.1 later")
UNCERTAIN = Result("uncertain", "dot", "the connection ended after the final dot")
FAILED = Result("failed", "rcpt", "550 5.1.1 no such user")
HELD = Result("held", "compose", "size: over the limit")


def claim(office: Office, limit: int = 10) -> list[Claim]:
    return office.do(lambda tx: outbox.claim(tx, limit, SETTINGS.lease_seconds))


def claimed(office: Office) -> Claim:
    """A new document's mail, under way."""
    office.sealed()
    (found,) = claim(office)
    return found


def settle(office: Office, of: Claim, result: Result) -> DeliveryState:
    return office.do(lambda tx: outbox.settle(tx, of, result, SETTINGS))


def expire(office: Office, *, all_of_them: bool = False) -> int:
    return office.do(lambda tx: outbox.expire_leases(tx, SETTINGS, all_of_them=all_of_them))


# The table of moves, by its complement.


@pytest.mark.parametrize("channel", Channel)
def test_a_move_that_is_not_in_the_table_is_refused(channel: Channel) -> None:
    """States move by one table each; every pair that is not in it is a Conflict."""
    for state, event in set(product(DeliveryState, EVENTS)) - set(DELIVERY_MOVES[channel]):
        with pytest.raises(Conflict):
            advance_delivery(channel, state, event)


def test_a_document_s_move_that_is_not_in_the_table_is_refused() -> None:
    for state, event in set(product(DocumentState, {event for _, event in DOCUMENT_MOVES})) - set(DOCUMENT_MOVES):
        with pytest.raises(Conflict):
            advance_document(state, event)


def test_every_state_of_mail_can_be_reached_and_left_or_is_final() -> None:
    """No state is a trap: what is not final has a move, what is final is left only by later news or an operator."""
    reached = {DeliveryState.PLANNED}
    for _ in MAIL_MOVES:
        reached |= {after for (before, _), after in MAIL_MOVES.items() if before in reached}
    assert reached == {state for state, _ in MAIL_MOVES} | set(MAIL_MOVES.values())
    assert reached - FINAL_MAIL <= {state for state, _ in MAIL_MOVES}
    assert {event for state, event in MAIL_MOVES if state in FINAL_MAIL} == {"delivered", "bounced", "retried"}


ORDERS: dict[str, Callable[..., Any]] = {
    "retried": orders.retry,
    "cancelled": orders.cancel,
    "released": orders.release,
}
_REFUSED = [(state, event) for state, event in product(DeliveryState, ORDERS) if (state, event) not in MAIL_MOVES]


def test_an_order_that_the_table_does_not_allow_is_refused_and_changes_nothing(office: Office) -> None:
    """For every state: neither the row nor the ledger moves."""
    mail = office.mail()
    for state, event in _REFUSED:
        office.set(mail, state=state)
        before, records = office.delivery(mail.id), len(office.records())
        arguments = (WHO,) if event == "retried" else (WHO, "because")
        with pytest.raises(Conflict):
            office.do(lambda tx, order=ORDERS[event], given=arguments: order(tx, mail.id, *given))  # type: ignore[misc]
        assert office.delivery(mail.id) == before, (state, event)
        assert len(office.records()) == records


# Claiming.


def test_a_claim_registers_its_attempt_and_its_lease_before_anything_is_sent(office: Office) -> None:
    of = claimed(office)
    row = office.delivery(of.delivery.id)
    assert (row.state, row.attempts, row.due_at) == (DeliveryState.ATTEMPTING, 1, None)
    assert row.lease_owner == of.attempt_id
    assert row.lease_until is not None and row.lease_until > clock.now() + dt.timedelta(
        seconds=SETTINGS.lease_seconds - 60
    )
    (attempt,) = office.attempts()
    assert (attempt.id, attempt.number, attempt.outcome, attempt.ended_at) == (of.attempt_id, 1, "", None)
    assert office.events(subject=row.id) == ["delivery.planned", "delivery.attempting"]


def test_what_is_not_due_held_final_or_of_a_folder_is_not_claimed(office: Office) -> None:
    """Only planned, deferred and uncertain mail whose time has come."""
    mail = office.mail()
    office.set(mail, due_at=clock.now() + dt.timedelta(minutes=5))
    assert claim(office) == []
    due = clock.now() - dt.timedelta(minutes=5)
    claimable = set()
    for state in DeliveryState:
        office.set(mail, state=state, due_at=due)
        if claim(office):
            claimable.add(state)
    assert claimable == {DeliveryState.PLANNED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN}


def test_the_oldest_are_claimed_first_and_no_more_than_asked(office: Office) -> None:
    documents = office.sealed(5)
    office.set(office.mail(documents[3]), due_at=clock.now() - dt.timedelta(hours=1))
    assert [one.delivery.document_id for one in claim(office, 2)] == [documents[3], documents[0]]
    assert [one.delivery.document_id for one in claim(office, 9)] == [documents[1], documents[2], documents[4]]
    assert claim(office, 9) == []


def test_two_that_claim_at_once_never_get_the_same(office: Office) -> None:
    """Two gateways: each delivery is attempted by one."""
    office.sealed(30)
    start = threading.Barrier(4)
    found: list[str] = []

    def gateway() -> None:
        start.wait()
        while mine := claim(office, 3):
            found.extend(one.delivery.id for one in mine)

    threads = [threading.Thread(target=gateway) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # SKIP LOCKED may leave one to a claimer that had already looked; nobody gets one twice.
    found.extend(one.delivery.id for one in claim(office, 30))
    assert sorted(found) == sorted(one.id for one in office.deliveries(channel=Channel.EMAIL))


# Results.


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (ACCEPTED, DeliveryState.ACCEPTED),
        (DEFERRED, DeliveryState.DEFERRED),
        (UNCERTAIN, DeliveryState.UNCERTAIN),
        (FAILED, DeliveryState.FAILED),
        (HELD, DeliveryState.HELD),
    ],
    ids=lambda value: value.outcome if isinstance(value, Result) else "",
)
def test_a_result_moves_the_delivery_and_ends_the_attempt(
    office: Office, at: Time, result: Result, state: DeliveryState
) -> None:
    """With what the relay said, when it is tried again, and whether it may arrive twice."""
    of = claimed(office)
    assert settle(office, of, result) is state
    row = office.delivery(of.delivery.id)
    assert (row.state, row.lease_owner, row.lease_until) == (state, None, None)
    assert (row.last_reply, row.remote_queue_id) == (result.reply, result.remote_queue_id)
    is_retried = state in (DeliveryState.DEFERRED, DeliveryState.UNCERTAIN)
    assert row.due_at == (at.now + dt.timedelta(minutes=10) if is_retried else None)
    assert row.final_at == (at.now if state in FINAL_MAIL else None)
    assert row.maybe_sent is (state is DeliveryState.UNCERTAIN)
    assert row.state_reason == (result.reply if result in (FAILED, HELD) else "")
    (attempt,) = office.attempts()
    assert (attempt.outcome, attempt.phase, attempt.reply) == (result.outcome, result.phase, result.reply)
    assert (attempt.ended_at, attempt.late) == (at.now, False)
    assert office.events(subject=row.id)[-1] == f"delivery.{state}"


def test_an_uncertain_one_is_tried_again_and_said_to_be_a_possible_repeat(office: Office, at: Time) -> None:
    """And stays one that may have arrived, whatever comes then."""
    of = claimed(office)
    settle(office, of, UNCERTAIN)
    at.pass_(minutes=10)
    (second,) = claim(office)
    assert second.delivery.maybe_sent and second.delivery.attempts == 2
    assert [said["maybe_again"] for said in office.facts("delivery.attempting")] == [False, True]
    settle(office, second, ACCEPTED)
    assert office.delivery(of.delivery.id).maybe_sent


def test_it_is_given_up_after_the_hours_of_the_settings(office: Office, at: Time) -> None:
    """At the first deferral after them; an operator's retry counts anew."""
    claims = [claimed(office)]
    states = []
    while claims:
        states.append(settle(office, claims[0], DEFERRED))
        at.pass_(minutes=10)
        claims = claim(office)
    # A first attempt, one each ten minutes of two hours, the last when the two hours are over.
    assert states == [DeliveryState.DEFERRED] * 12 + [DeliveryState.FAILED]
    (row,) = office.deliveries(channel=Channel.EMAIL)
    assert (row.state_reason, row.due_at) == ("given up after 2 h", None)
    office.do(lambda tx: orders.retry(tx, row.id, WHO))
    (again,) = claim(office)
    assert settle(office, again, DEFERRED) is DeliveryState.DEFERRED


# Leases.


def test_a_lease_that_ends_makes_the_delivery_uncertain(office: Office, at: Time) -> None:
    """Its worker died, and nobody knows whether the final dot was sent."""
    of = claimed(office)
    at.pass_(seconds=SETTINGS.lease_seconds)
    assert expire(office) == 0
    at.pass_(seconds=1)
    assert expire(office) == 1
    row = office.delivery(of.delivery.id)
    assert (row.state, row.maybe_sent, row.lease_owner) == (DeliveryState.UNCERTAIN, True, None)
    assert row.due_at == at.now + dt.timedelta(minutes=10)
    (attempt,) = office.attempts()
    assert (attempt.outcome, attempt.ended_at) == ("uncertain", at.now)
    assert office.events(subject=row.id)[-1] == "delivery.uncertain"
    assert expire(office) == 0


def test_the_only_daemon_ends_every_lease_at_its_start(office: Office) -> None:
    """They belong to a process that is gone: nothing waits for a quarter of an hour."""
    claimed(office)
    assert expire(office, all_of_them=True) == 1
    assert expire(office, all_of_them=True) == 0


def test_a_lease_that_ends_on_a_delivery_too_old_fails_it(office: Office, at: Time) -> None:
    of = claimed(office)
    at.pass_(hours=3)
    expire(office)
    row = office.delivery(of.delivery.id)
    assert (row.state, row.due_at, row.final_at) == (DeliveryState.FAILED, None, at.now)


@pytest.mark.parametrize("result", [ACCEPTED, DEFERRED, UNCERTAIN, FAILED, HELD], ids=lambda one: one.outcome)
def test_a_late_result_is_a_fact_and_only_a_2yz_moves(office: Office, at: Time, result: Result) -> None:
    """A relay that has accepted has accepted; nothing else is known better than uncertain."""
    of = claimed(office)
    at.pass_(seconds=SETTINGS.lease_seconds + 1)
    expire(office)
    before = office.delivery(of.delivery.id)
    state = settle(office, of, result)
    row = office.delivery(of.delivery.id)
    assert state is row.state is (DeliveryState.ACCEPTED if result is ACCEPTED else DeliveryState.UNCERTAIN)
    if result is ACCEPTED:
        assert (row.due_at, row.final_at, row.last_reply) == (None, at.now, result.reply)
    else:
        assert row == before
    (attempt,) = office.attempts()
    assert attempt.late and attempt.outcome == result.outcome
    assert "attempt.ended_late" in office.events(subject=row.id)


def test_a_late_result_leaves_the_attempt_after_it_alone(office: Office, at: Time) -> None:
    """Even a 2yz: the second attempt is under way, and its holder will say."""
    first = claimed(office)
    at.pass_(seconds=SETTINGS.lease_seconds + 1)
    expire(office)
    at.pass_(minutes=10)
    (second,) = claim(office)
    assert settle(office, first, ACCEPTED) is DeliveryState.ATTEMPTING
    row = office.delivery(first.delivery.id)
    assert (row.lease_owner, row.state) == (second.attempt_id, DeliveryState.ATTEMPTING)
    assert settle(office, second, ACCEPTED) is DeliveryState.ACCEPTED


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("result", [ACCEPTED, DEFERRED, UNCERTAIN, FAILED, HELD], ids=lambda one: one.outcome)
def test_a_result_that_is_written_twice_is_one_result(office: Office, at: Time, result: Result, late: bool) -> None:
    """The connection to the database was lost during the commit, so nobody knew that it had been done."""
    of = claimed(office)
    if late:
        at.pass_(seconds=SETTINGS.lease_seconds + 1)
        expire(office)
    state = settle(office, of, result)
    before, attempts, events = office.delivery(of.delivery.id), office.attempts(), office.events()
    at.pass_(seconds=5)
    assert settle(office, of, result) is state
    assert (office.delivery(of.delivery.id), office.attempts(), office.events()) == (before, attempts, events)


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_a_reply_leaves_no_address_in_the_ledger(office: Office, at: Time, late: bool) -> None:
    """Relays quote whom they refuse; a record is for ever, and the person's address must be erasable."""
    of = claimed(office)
    if late:
        at.pass_(seconds=SETTINGS.lease_seconds + 1)
        expire(office)
    said = "550 5.1.1 <jeanne@acme.example>: Recipient address rejected"
    settle(office, of, Result("failed", "rcpt", said))
    assert "jeanne" not in "".join(record.body for record in office.records())
    assert "<(address)>: Recipient address rejected" in office.records()[-1].body
    assert office.attempts()[0].reply == said, "the row says it as long as the address stands beside it"


def test_another_result_of_the_same_attempt_is_a_fact(office: Office) -> None:
    """Nothing but the very same result is a repeat."""
    of = claimed(office)
    settle(office, of, DEFERRED)
    settle(office, of, UNCERTAIN)
    assert office.events(subject=of.delivery.id)[-2:] == ["delivery.deferred", "attempt.ended_late"]


def test_a_message_is_noted_by_the_lease_s_holder_alone(office: Office, at: Time) -> None:
    """False: somebody else has the delivery by now, and nothing may be sent."""
    of = claimed(office)
    office.do(lambda tx: outbox.composed(tx, of, "a" * 64, 5, "id@gateway.example", "Subject: x"))
    at.pass_(seconds=SETTINGS.lease_seconds + 1)
    expire(office)
    assert not office.do(lambda tx: outbox.composed(tx, of, "b" * 64, 5, "other@gateway.example", ""))
    row = office.delivery(of.delivery.id)
    assert (row.message_sha256, row.message_id) == ("a" * 64, "id@gateway.example")


# A document that is withdrawn while its mail is under way.


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (DEFERRED, DeliveryState.CANCELLED),
        (UNCERTAIN, DeliveryState.CANCELLED),
        (HELD, DeliveryState.CANCELLED),
        (ACCEPTED, DeliveryState.ACCEPTED),
        (FAILED, DeliveryState.FAILED),
    ],
    ids=lambda value: value.outcome if isinstance(value, Result) else "",
)
def test_mail_of_a_document_that_was_withdrawn_meanwhile_is_not_tried_again(
    office: Office, result: Result, state: DeliveryState
) -> None:
    """What was accepted has left, and the record of the withdrawal says so."""
    of = claimed(office)
    document = of.delivery.document_id
    office.do(lambda tx: orders.withdraw(tx, document, WHO, "wrong recipient"))
    assert office.facts("document.withdrawn")[0]["mail_that_left"] == [of.delivery.id]
    assert settle(office, of, result) is state
    row = office.delivery(of.delivery.id)
    assert (row.due_at, row.final_at is not None) == (None, True)


def test_the_same_when_its_worker_dies(office: Office, at: Time) -> None:
    """An uncertain mail would be sent again to the wrong recipient."""
    of = claimed(office)
    document = of.delivery.document_id
    office.do(lambda tx: orders.withdraw(tx, document, WHO, "wrong recipient"))
    at.pass_(seconds=SETTINGS.lease_seconds + 1)
    expire(office)
    row = office.delivery(of.delivery.id)
    assert (row.state, row.due_at, row.maybe_sent) == (DeliveryState.CANCELLED, None, True)
    at.pass_(hours=1)
    assert claim(office) == []


def test_messages_go_some_days_after_the_final_state(office: Office, at: Time) -> None:
    """Those of deliveries that may still be attempted stay."""
    done, waiting = claimed(office), claimed(office)
    for of, result in ((done, ACCEPTED), (waiting, DEFERRED)):
        office.do(lambda tx, o=of: outbox.composed(tx, o, "a" * 64, 5, "id@x.example", ""))  # type: ignore[misc]
        settle(office, of, result)
    before = at.now
    assert office.do(lambda tx: outbox.messages_to_forget(tx, before, 9)) == []
    at.pass_(seconds=1)
    found = office.do(lambda tx: outbox.messages_to_forget(tx, at.now, 9))
    assert [row.id for row in found] == [done.delivery.id]
    office.do(lambda tx: outbox.note_forgotten(tx, [done.delivery.id]))
    assert office.do(lambda tx: outbox.messages_to_forget(tx, at.now, 9)) == []
    assert office.events(subject=done.delivery.id)[-1] == "message.forgotten"
