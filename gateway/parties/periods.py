"""Spans of days, both ends inclusive, for ever when `to_day` is None. Pure.

An empty span (`to_day` before `from_day`) stands for what was ended before it came into force: it holds on no day.
"""

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlmodel import col

_DAY = dt.timedelta(days=1)


class Span(NamedTuple):
    """Days from `from_day` to `to_day`."""

    from_day: dt.date
    to_day: dt.date | None = None

    @property
    def last(self) -> dt.date:
        """`to_day`, or the calendar's last day."""
        return self.to_day or dt.date.max

    def holds(self, day: dt.date) -> bool:
        """Whether it holds on a day."""
        return self.from_day <= day <= self.last

    def cut(self, to_day: dt.date | None) -> "Span":
        """The same, ended at `to_day` at the latest; empty when that is before its first day."""
        last = min(self.last, to_day or dt.date.max)
        return Span(self.from_day, _open(last) if last >= self.from_day else self.from_day - _DAY)


class Dated(Protocol):
    """A table whose rows hold from a day to a day."""

    from_day: dt.date
    to_day: dt.date | None


def on(table: type[Dated], day: dt.date) -> sa.ColumnElement[bool]:
    """The condition that a row holds on a day."""
    return sa.and_(col(table.from_day) <= day, sa.or_(col(table.to_day).is_(None), col(table.to_day) >= day))


def day_before(day: dt.date) -> dt.date:
    """The last day of what something that begins on `day` replaces."""
    return day - _DAY


def common(one: Span, other: Span) -> Span | None:
    """The days in both; None when there are none."""
    from_day, last = max(one.from_day, other.from_day), min(one.last, other.last)
    return Span(from_day, _open(last)) if from_day <= last else None


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same days as few spans, in order: what overlaps or follows without a gap is one."""
    result: list[Span] = []
    for span in sorted((span for span in spans if span.from_day <= span.last), key=lambda span: span.from_day):
        if result and (result[-1].last == dt.date.max or span.from_day <= result[-1].last + _DAY):
            result[-1] = Span(result[-1].from_day, _open(max(result[-1].last, span.last)))
        else:
            result.append(span)
    return result


def uncovered(wanted: Span, taken: Iterable[Span]) -> list[Span]:
    """The days of `wanted` that no span of `taken` holds, in order."""
    gaps, start = [], wanted.from_day
    for span in joined(taken):
        if start > wanted.last or span.from_day > wanted.last:
            break
        if start < span.from_day:
            gaps.append(Span(start, span.from_day - _DAY))
        if span.last == dt.date.max:
            return gaps
        start = max(start, span.last + _DAY)
    return [*gaps, Span(start, wanted.to_day)] if start <= wanted.last else gaps


def _open(last: dt.date) -> dt.date | None:
    return None if last == dt.date.max else last
