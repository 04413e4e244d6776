"""The words of state move by their tables and in no other way."""

from itertools import product

import pytest

from gateway.domain import states
from gateway.domain.states import Channel, DeliveryState, DocumentState, Kind
from gateway.errors import Conflict

DOCUMENT_EVENTS = {event for _, event in states.DOCUMENT_MOVES}
MAIL_EVENTS = {event for _, event in states.MAIL_MOVES}
FOLDER_EVENTS = {event for _, event in states.FOLDER_MOVES}
EVENTS = {Channel.EMAIL: MAIL_EVENTS | FOLDER_EVENTS, Channel.FOLDER: MAIL_EVENTS | FOLDER_EVENTS}
MOVES = [(channel, *move) for channel, table in states.DELIVERY_MOVES.items() for move in table]
NOT_MOVES = [
    (channel, state, event)
    for channel, table in states.DELIVERY_MOVES.items()
    for state, event in product(DeliveryState, sorted(EVENTS[channel]))
    if (state, event) not in table
]
D = DeliveryState


@pytest.mark.parametrize(("state", "event"), list(states.DOCUMENT_MOVES))
def test_a_document_moves_by_the_table(state: DocumentState, event: str) -> None:
    """`advance_document` reads it and adds nothing."""
    assert states.advance_document(state, event) is states.DOCUMENT_MOVES[state, event]


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(DocumentState, DOCUMENT_EVENTS)) - set(states.DOCUMENT_MOVES))
)
def test_a_document_moves_in_no_other_way(state: DocumentState, event: str) -> None:
    """The complement of the table, each a Conflict that says what was tried."""
    with pytest.raises(Conflict, match=rf"{state} cannot be {event}"):
        states.advance_document(state, event)


@pytest.mark.parametrize(("channel", "state", "event"), MOVES)
def test_a_delivery_moves_by_its_channels_table(channel: Channel, state: DeliveryState, event: str) -> None:
    """`advance_delivery` reads it and adds nothing."""
    assert states.advance_delivery(channel, state, event) is states.DELIVERY_MOVES[channel][state, event]


@pytest.mark.parametrize(("channel", "state", "event"), NOT_MOVES)
def test_a_delivery_moves_in_no_other_way(channel: Channel, state: DeliveryState, event: str) -> None:
    """A mail is not published, a folder entry does not bounce, and the rest of the complement."""
    with pytest.raises(Conflict, match=rf"{state} cannot be {event}"):
        states.advance_delivery(channel, state, event)


def test_a_lease_that_expires_is_always_uncertain() -> None:
    """The worker died: nobody knows whether the final dot was sent."""
    moved = [after for (_, event), after in states.MAIL_MOVES.items() if event == "lease_expired"]
    assert moved == [D.UNCERTAIN]


def test_nothing_but_a_registered_attempt_is_accepted_at_first() -> None:
    """An attempt is registered before the network is touched; the late 2yz is the only other way."""
    before = {state for (state, event), _ in states.MAIL_MOVES.items() if event == "accepted"}
    assert before == {D.ATTEMPTING, D.UNCERTAIN}


def test_what_a_relay_accepted_is_never_sent_again_by_itself() -> None:
    """Only news from outside, or an operator after a bounce, goes on from there."""
    after = {event: to for (state, event), to in states.MAIL_MOVES.items() if state is D.ACCEPTED}
    assert after == {"delivered": D.DELIVERED, "bounced": D.BOUNCED}
    assert D.DELIVERED not in {state for state, _ in states.MAIL_MOVES}


def test_each_channel_uses_its_own_words() -> None:
    """DESIGN's two lists; no state of one channel leaks into the other."""
    mail = {state for (state, _), after in states.MAIL_MOVES.items() for state in (state, after)}
    folder = {state for (state, _), after in states.FOLDER_MOVES.items() for state in (state, after)}
    assert mail == {
        D.PLANNED,
        D.HELD,
        D.ATTEMPTING,
        D.DEFERRED,
        D.UNCERTAIN,
        D.ACCEPTED,
        D.DELIVERED,
        D.BOUNCED,
        D.FAILED,
        D.CANCELLED,
    }
    assert folder == {D.PLANNED, D.HELD, D.PUBLISHED, D.RECEIVED, D.EXPIRED_UNREAD, D.WITHDRAWN, D.CANCELLED}


@pytest.mark.parametrize("channel", Channel)
def test_every_state_is_reached_from_planned(channel: Channel) -> None:
    """A state that nothing leads to is a mistake in the table."""
    reached = {D.PLANNED}
    table = states.DELIVERY_MOVES[channel]
    while more := {after for (state, _), after in table.items() if state in reached} - reached:
        reached |= more
    assert reached == {state for key, after in table.items() for state in (key[0], after)}


def test_final_mail_states_move_on_only_by_news_or_an_operator() -> None:
    """`FINAL_MAIL` is what the composed message's retention waits for."""
    leaving = {event for state, event in states.MAIL_MOVES if state in states.FINAL_MAIL}
    assert leaving <= {"delivered", "bounced", "retried"}
    others = {state for state, _ in states.MAIL_MOVES} - states.FINAL_MAIL
    assert others == {D.PLANNED, D.HELD, D.ATTEMPTING, D.DEFERRED, D.UNCERTAIN}


@pytest.mark.parametrize(("channel", "event"), sorted({(channel, event) for channel, _, event in MOVES}))
def test_states_before_is_the_tables_column(channel: Channel, event: str) -> None:
    """The WHERE of a batch statement says what `advance` would say row by row."""
    before = states.states_before(channel, event)
    assert before
    assert set(before) == {state for (state, name) in states.DELIVERY_MOVES[channel] if name == event}
    assert states.states_before(channel, "unheard_of") == []


def test_three_kinds_have_a_nature() -> None:
    """The last four are kept as received."""
    assert {kind for kind in Kind if kind.is_invoice} == {Kind.INVOICE, Kind.CREDIT_NOTE, Kind.CORRECTED_INVOICE}


def test_a_withdrawn_document_stays_withdrawn() -> None:
    """It went to the wrong recipient, or was rejected: bytes and facts stay, nothing leaves any more."""
    assert DocumentState.WITHDRAWN not in {state for state, _ in states.DOCUMENT_MOVES}
