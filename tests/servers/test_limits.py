"""Nobody takes every place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unavailable
from gateway.servers.limits import ConnectionLimits, Ticket, source_of


def limits() -> ConnectionLimits:
    return ConnectionLimits(before_login=4, before_login_per_source=2, total=6, per_client=3)


def code(refusal: "pytest.ExceptionInfo[Unavailable]") -> str:
    return refusal.value.code


def test_one_source_leaves_places_for_the_others() -> None:
    """A thousand idle connections from one address shut everyone out of a default OpenSSH."""
    door = limits()
    for _ in range(2):
        door.enter("192.0.2.1")
    with pytest.raises(Unavailable) as refusal:
        door.enter("192.0.2.1")
    assert code(refusal) == "connections_before_login_per_source"
    door.enter("192.0.2.2")


def test_many_sources_together_have_a_limit_before_log_in() -> None:
    """And whoever has logged in no longer counts towards it."""
    door = limits()
    tickets = [door.enter(f"192.0.2.{i}") for i in range(4)]
    with pytest.raises(Unavailable) as refusal:
        door.enter("192.0.2.9")
    assert code(refusal) == "connections_before_login"
    door.log_in(tickets[0], "cli_1")
    door.enter("192.0.2.9")


def test_a_client_has_its_places_and_no_more() -> None:
    """A pool that leaks connections blocks itself alone."""
    door = limits()
    tickets = []
    for _ in range(3):
        tickets.append(door.enter("192.0.2.1"))
        door.log_in(tickets[-1], "cli_1")
    late = door.enter("192.0.2.1")
    with pytest.raises(Unavailable) as refusal:
        door.log_in(late, "cli_1")
    assert code(refusal) == "connections_per_client"
    door.leave(tickets[0])
    door.log_in(late, "cli_1")


def test_there_is_a_limit_in_all() -> None:
    """Descriptors and memory end somewhere."""
    door = limits()
    for i in range(6):
        door.log_in(door.enter(f"192.0.2.{i}"), f"cli_{i}")
    with pytest.raises(Unavailable) as refusal:
        door.enter("192.0.2.9")
    assert code(refusal) == "connections"


@given(st.lists(st.tuples(st.sampled_from("elx"), st.integers(0, 3)), max_size=60))
def test_places_come_back(moves: list[tuple[str, int]]) -> None:
    """Whatever order connections come, log in and go: when all are gone, the door is as new."""
    door = limits()
    inside: list[Ticket] = []
    for move, number in moves:
        try:
            if move == "e":
                inside.append(door.enter(f"192.0.2.{number}"))
            elif move == "l" and inside and inside[-1].client_id is None:
                door.log_in(inside[-1], f"cli_{number}")
            elif move == "x" and inside:
                door.leave(inside.pop(number % len(inside)))
        except Unavailable:
            pass
    for ticket in inside:
        door.leave(ticket)
    assert _counts(door) == _counts(limits())


def _counts(door: ConnectionLimits) -> dict[str, object]:
    return {name: value for name, value in vars(door).items() if name != "_lock"}


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_site_is_one_source(address: str, source: str) -> None:
    """An IPv6 site has 2^64 addresses to itself."""
    assert source_of(address) == source
