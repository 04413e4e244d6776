"""When a delivery that could not be made is tried again, and when nobody tries any more."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import DeliverySettings
from gateway.delivery.retry import next_attempt

NOW = dt.datetime(2026, 3, 2, 8, 0, tzinfo=dt.UTC)
EXACT = DeliverySettings(retry_minutes=(1, 5, 30), retry_jitter_percent=0, give_up_hours=10)


def waits(settings: DeliverySettings, attempts: int) -> list[float]:
    """Minutes until each next attempt."""
    found = [next_attempt(settings, count, NOW, NOW) for count in range(1, attempts + 1)]
    return [(at - NOW).total_seconds() / 60 for at in found if at is not None]


def test_the_delays_are_taken_in_turn_and_the_last_one_repeats() -> None:
    """RFC 5321 4.5.4.1: sooner at first, then rarely."""
    assert waits(EXACT, 5) == [1, 5, 30, 30, 30]


def test_a_delivery_is_given_up_by_its_age_not_by_its_attempts() -> None:
    """To the instant: the age at which it is over is in the settings."""
    last = NOW + dt.timedelta(hours=10)
    assert next_attempt(EXACT, 1, NOW, last) is None
    assert next_attempt(EXACT, 10_000, NOW, last - dt.timedelta(microseconds=1)) is not None


@given(attempts=st.integers(1, 100), jitter=st.floats(0, 99))
def test_a_wait_varies_by_the_jitter_and_never_lies_in_the_past(attempts: int, jitter: float) -> None:
    """What failed together does not come back together."""
    settings = DeliverySettings(retry_minutes=(1, 5, 30), retry_jitter_percent=jitter)
    at = next_attempt(settings, attempts, NOW, NOW)
    assert at is not None and at > NOW
    nominal = (1, 5, 30)[min(attempts, 3) - 1]
    assert abs((at - NOW).total_seconds() / 60 - nominal) <= nominal * jitter / 100 + 1e-6
