"""Days are counted once, and none is lost: the arithmetic under bonds and subscriptions."""

import datetime as dt
import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.parties import periods
from gateway.parties.periods import Span

FIRST = dt.date(2026, 1, 1)
HORIZON = 60  # days looked at one by one
LAST = dt.date.max


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


def days_of(spans: list[Span]) -> set[int]:
    return {number for number in range(HORIZON) for span in spans if span.holds(day(number))}


days = st.integers(0, HORIZON - 20).map(day)
spans = st.builds(
    lambda start, length: Span(start, None if length is None else start + dt.timedelta(days=length)),
    days,
    st.none() | st.integers(-1, 15),  # -1: empty
)


@given(spans, st.lists(spans, max_size=6))
def test_uncovered_are_exactly_the_days_that_nothing_holds(wanted: Span, taken: list[Span]) -> None:
    """A day twice would be two subscriptions of one contract; a day missing would make a duplicate of an original."""
    gaps = periods.uncovered(wanted, taken)
    assert days_of(gaps) == days_of([wanted]) - days_of(taken)
    assert periods.joined(gaps) == gaps, "in order, apart, and none of them empty"


@given(spans, st.lists(spans, max_size=6))
def test_what_was_filled_leaves_nothing_uncovered(wanted: Span, taken: list[Span]) -> None:
    """Subscribing twice changes nothing the second time."""
    assert periods.uncovered(wanted, [*taken, *periods.uncovered(wanted, taken)]) == []


@given(st.lists(spans, max_size=6))
def test_joining_keeps_the_days_and_leaves_gaps_between_spans(some: list[Span]) -> None:
    """A client that holds a contract through two companies in turn holds it without a break."""
    joined = periods.joined(some)
    assert days_of(joined) == days_of(some)
    for one, next_ in itertools.pairwise(joined):
        assert one.to_day is not None
        assert next_.from_day > one.to_day + dt.timedelta(days=1)


@given(spans, spans)
def test_common_days_are_those_in_both(one: Span, other: Span) -> None:
    """A client holds a contract on the days of both bonds."""
    both = periods.common(one, other)
    assert days_of([both] if both else []) == days_of([one]) & days_of([other])


@given(spans, st.none() | days)
def test_a_cut_takes_away_the_days_after_it_and_no_other(span: Span, to_day: dt.date | None) -> None:
    """Ending a subscription before it begins leaves a row that never comes into force."""
    kept = span.cut(to_day)
    assert kept.from_day == span.from_day
    assert days_of([kept]) == {n for n in days_of([span]) if to_day is None or day(n) <= to_day}
    assert kept.cut(to_day) == kept


def test_the_calendars_last_day_is_no_trap() -> None:
    """`date.max` has no next day: adding one to it raises."""
    assert periods.uncovered(Span(FIRST), [Span(FIRST, LAST)]) == []
    assert periods.joined([Span(FIRST, LAST), Span(LAST)]) == [Span(FIRST)]
    assert Span(FIRST, LAST).cut(LAST) == Span(FIRST)
    assert periods.common(Span(FIRST, LAST), Span(FIRST)) == Span(FIRST)
