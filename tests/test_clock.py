"""Time goes on, days are the issuer's, identifiers sort by their making."""

import datetime as dt
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo

import pytest

from gateway import clock

PARIS = ZoneInfo("Europe/Paris")


def test_now_is_utc_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One patch stops time for everybody."""
    assert abs(clock.now().timestamp() - time.time()) < 5
    monkeypatch.setattr(time, "time", lambda: 1_781_515_800.25)
    assert clock.now() == dt.datetime(2026, 6, 15, 9, 30, 0, 250_000, dt.UTC)
    assert clock.now().tzinfo is dt.UTC


def test_the_monotonic_clock_never_steps_back() -> None:
    """Leases and deadlines end by it."""
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
def test_a_step_of_the_clock_is_seen_once(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody set it, or a time server did: leases do not mind, but people must hear of it."""
    steps, real = clock.Steps(), time.time
    assert abs(steps.look()) < 1
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    assert abs(steps.look() - seconds) < 1
    assert abs(steps.look()) < 1


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-06-14T22:00:00Z", "2026-06-15"),  # summer: two hours ahead
        ("2026-06-14T21:59:59.999999Z", "2026-06-14"),
        ("2026-12-31T23:00:00Z", "2027-01-01"),  # winter: one
        ("2026-12-31T22:59:59Z", "2026-12-31"),
        ("2026-03-29T00:30:00Z", "2026-03-29"),  # the night without 2 o'clock
    ],
)
def test_a_day_is_the_issuers(instant: str, day: str) -> None:
    """An invoice of midnight in Paris is not yesterday's."""
    assert clock.day_of(dt.datetime.fromisoformat(instant), PARIS) == dt.date.fromisoformat(day)


def test_an_identifier_is_plain_and_says_what_it_is() -> None:
    """It stands in file names, URLs and log lines: lower case, digits, one underscore; no letters to mix up."""
    made = {clock.new_id("dlv") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"dlv_[0-9a-hjkmnp-tv-z]{26}", id_) for id_ in made)


def test_identifiers_sort_in_the_order_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a millisecond, over the next one, and when the clock steps back."""
    times = iter([1000.0, 1000.0, 1000.0, 1000.001, 1000.5, 400.0, 999.0, 1000.5, 1000.501])
    monkeypatch.setattr(time, "time", lambda: next(times))
    monkeypatch.setattr(clock, "_last", 0)
    made = [clock.new_id("x") for _ in range(9)]
    assert made == sorted(made)
    assert len(set(made)) == 9


def test_an_identifier_holds_its_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of several gateways sort by time too, to the millisecond."""
    monkeypatch.setattr(clock, "_last", 0)
    monkeypatch.setattr(time, "time", lambda: 1_781_515_800.123)
    letters = clock.new_id("x").removeprefix("x_")
    value = 0
    for letter in letters:
        value = value * 32 + clock._ALPHABET.index(letter)
    assert value >> 82 == 1_781_515_800_123


def test_threads_never_get_one_identifier_twice_or_out_of_order() -> None:
    """A page by key would skip what sorts before its last id."""
    ready = threading.Barrier(8)

    def make(_: int) -> list[str]:
        ready.wait()
        return [clock.new_id("x") for _ in range(2000)]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert all(ids == sorted(ids) for ids in made)
    assert len({id_ for ids in made for id_ in ids}) == 16_000
