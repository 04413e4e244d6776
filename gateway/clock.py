"""Time and identifiers, in one place, so that one patch stops time.

Instants are timezone-aware UTC; days belong to the issuer's time zone (`day_of`). Intervals that decide
when something ends are measured on the monotonic clock.
"""

import datetime as dt
import itertools
import random
import threading
import time
from zoneinfo import ZoneInfo

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
_PAIRS = ["".join(pair) for pair in itertools.product(_ALPHABET, repeat=2)]  # ten bits each
ID_LENGTH = 26
_SHIFTS = range(5 * ID_LENGTH - 10, -1, -10)


def now() -> dt.datetime:
    """The instant, UTC, microseconds."""
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


def monotonic() -> float:
    """Seconds that never step back; only differences mean something."""
    return time.monotonic()


class Steps:
    """How far the clock was set, by somebody or by a time server: it against the monotonic one."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def look(self) -> float:
        """Seconds that it was set forward (below 0: back) since the last look."""
        before, self._offset = self._offset, time.time() - time.monotonic()
        return self._offset - before


def day_of(instant: dt.datetime, zone: ZoneInfo) -> dt.date:
    """The issuer's calendar day of an instant."""
    return instant.astimezone(zone).date()


_last = 0
_one_at_a_time = threading.Lock()


def new_id(prefix: str) -> str:
    """`prefix_` + 26 lower-case base32 characters: 48 bits of milliseconds, then 82 random bits.

    Sorts by time of creation to the millisecond; within one process it also never goes back, so that
    identifiers made one after the other sort in that order. They are unique, not secret: the generator is Python's
    own (seeded by the system, again in each fork), which asks the system for nothing more.
    """
    global _last
    with _one_at_a_time:
        value = (int(time.time() * 1000) << 82) | random.getrandbits(82)
        if value <= _last:
            value = _last + 1 + random.getrandbits(32)
        _last = value
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])}"
