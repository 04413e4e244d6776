"""Failed log-ins: who guesses waits and is shut out; who sits beside him, or made a mistake, is not for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.errors import Unavailable
from gateway.servers import penalties
from gateway.servers.penalties import Penalties

ATTACKER, OTHER = "192.0.2.9", "198.51.100.7"


class Time:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def made(*safe: str) -> Penalties:
    return Penalties(per_minute=5, ban_after=20, ban_minutes=10, longest_delay=20, safe=safe)


def is_banned(of: Penalties, address: str) -> bool:
    try:
        of.check(address)
    except Unavailable as error:
        return error.code == "banned"
    return False


def test_five_a_minute_cost_nothing_and_each_one_more_a_second(at: Time) -> None:
    """Who mistypes is not punished; who guesses gets slower."""
    of = made()
    assert [of.failed(ATTACKER) for _ in range(8)] == [0, 0, 0, 0, 0, 1, 2, 3]
    assert of.delay(ATTACKER) == 3
    assert (of.delay(OTHER), of.failed(OTHER)) == (0, 0)


def test_twenty_shut_the_source_out_for_ten_minutes_and_nobody_else(at: Time) -> None:
    """And when they are over, it begins anew."""
    of = made()
    delays = [of.failed(ATTACKER) for _ in range(20)]
    assert delays[-1] == 15 and is_banned(of, ATTACKER) and not is_banned(of, OTHER)
    at.now += 599
    assert is_banned(of, ATTACKER)
    at.now += 2
    assert not is_banned(of, ATTACKER) and of.failed(ATTACKER) == 0


def test_failures_are_forgotten_with_time(at: Time) -> None:
    """A key that is being rotated fails once a minute for weeks: no delay, no ban."""
    of = made()
    for _ in range(2000):
        assert of.failed(ATTACKER) == 0
        at.now += 60
    assert not is_banned(of, ATTACKER)


def test_the_safe_list_is_neither_delayed_nor_banned(at: Time) -> None:
    """Many sit behind one address; written as IPv4 in IPv6 it is the same."""
    of = made("192.0.2.0/28", "2001:db8::/32")
    for address in (ATTACKER, f"::ffff:{ATTACKER}", "2001:db8::1"):
        assert {of.failed(address) for _ in range(50)} == {0}
        assert not is_banned(of, address)


def test_where_a_client_logged_in_from_nobody_is_shut_out_for_a_day(at: Time) -> None:
    """An address that many share, and the new key of one of them, which nobody entered yet: slower, never closed."""
    of = made()
    of.succeeded(ATTACKER)
    delays = [of.failed(ATTACKER) for _ in range(200)]
    assert max(delays) == 20 and not is_banned(of, ATTACKER)
    at.now += 86_400
    for _ in range(20):
        of.failed(ATTACKER)
    assert is_banned(of, ATTACKER)


def test_an_ipv6_site_is_one_source(at: Time) -> None:
    """It has 2^64 addresses to itself."""
    of = made()
    for number in range(20):
        of.failed(f"2001:db8:1:2::{number:x}")
    assert is_banned(of, "2001:db8:1:2:ffff::1") and not is_banned(of, "2001:db8:1:3::1")


def test_a_flood_from_everywhere_takes_bounded_memory(at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first; those that are banned stay as long as there is room."""
    monkeypatch.setattr(penalties, "_MOST_SOURCES", 100)
    of = made()
    for _ in range(20):
        of.failed(ATTACKER)
    for number in range(5000):
        of.failed(f"10.{number >> 8}.{number & 255}.1")
        at.now += 0.01
    assert len(of._sources) <= 100


@given(st.lists(st.floats(min_value=0, max_value=600), max_size=200))
def test_the_delay_is_never_below_zero_or_above_its_limit(waits: list[float]) -> None:
    """Whatever the times between failures are; and a ban needs twenty within what is not forgotten."""
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", lambda: now[0])
        of = made()
        for wait in waits:
            now[0] += wait
            assert 0 <= of.failed(ATTACKER) <= 20
            assert not is_banned(of, ATTACKER) or len(waits) >= 20
