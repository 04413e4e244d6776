"""The form of `manifest/index-YYYY-MM.csv`: a folder's numbers as CSV (RFC 4180), UTF-8, one header, CRLF.

A line holds facts of its event that never change, so that a file only grows at its end and a line can be made again.
Spreadsheets run what begins with `= + - @`: such a field gets an apostrophe in front, which no name or number of ours
begins with.
"""

import csv
import datetime as dt
import io
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from .events import Event

COLUMNS = ("sequence", "event", "at", "kind", "number", "name", "path", "format", "size", "sha256")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def header() -> bytes:
    """The first line."""
    return _lines([COLUMNS])


def lines(events: Iterable[Event]) -> bytes:
    """One line for each event. `path`: where the archive has it, from the home, unless it is withdrawn later."""
    return _lines(
        (
            one.sequence,
            one.event.value,
            one.at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            one.kind.value,
            harmless(one.number),
            harmless(one.name),
            f"archive/{one.month[:4]}/{one.month[5:]}/{one.name}",
            one.format,
            one.size,
            one.sha256,
        )
        for one in events
    )


def harmless(text: str) -> str:
    """A field that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unharmed(text: str) -> str:
    """The field as it was before `harmless`."""
    return text[1:] if text.startswith(tuple(f"'{first}" for first in _FORMULA)) else text


def month_of(instant: dt.datetime, zone: ZoneInfo) -> str:
    """The issuer's month of an instant, `YYYY-MM`; months sort as text."""
    return f"{instant.astimezone(zone):%Y-%m}"


def month_after(month: str) -> str:
    """The next one."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def start_of(month: str, zone: ZoneInfo) -> dt.datetime:
    """Its first instant."""
    return dt.datetime(int(month[:4]), int(month[5:]), 1, tzinfo=zone).astimezone(dt.UTC)


def _lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
