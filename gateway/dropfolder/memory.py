"""How much the folders' indexes may hold in memory, all together, and what goes first: what was used longest ago.

Each holder says what it holds whenever that changes or is used. Over the bound, and after an hour in any case, the
longest unused are told to forget. What was used in the last seconds stays, whatever its size: a folder that is larger
than the bound works, and two that are too large for it are not read anew for each file.
"""

import threading
from collections import OrderedDict
from typing import Protocol

from .. import clock

FORGET_SECONDS = 3600.0
IN_USE_SECONDS = 10.0


class Holder(Protocol):
    """An index, or a month of its archive."""

    def forget(self) -> None:
        """Let go of what can be read again."""


class Memory:
    """Any thread may use it."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Holder, tuple[int, float]] = OrderedDict()  # bytes, last use; longest unused first
        self._total = 0

    @property
    def held(self) -> int:
        """Bytes, as the holders estimate them."""
        return self._total

    def hold(self, holder: Holder, size: int) -> None:
        """`holder` is in use, and holds so many bytes now."""
        now = clock.monotonic()
        with self._lock:
            self._drop(holder)
            self._held[holder] = size, now
            self._total += size
            surplus = self._surplus(now)
        for one in surplus:
            one.forget()  # outside the lock: it frees thousands of objects

    def release(self, holder: Holder) -> None:
        """It holds nothing any more."""
        with self._lock:
            self._drop(holder)

    def _drop(self, holder: Holder) -> None:
        size, _ = self._held.pop(holder, (0, 0.0))
        self._total -= size

    def _surplus(self, now: float) -> list[Holder]:
        surplus = []
        while self._held:
            oldest, (_, used) = next(iter(self._held.items()))
            unused = now - used
            if unused <= IN_USE_SECONDS or (unused <= FORGET_SECONDS and self._total <= self._limit):
                break
            self._drop(oldest)
            surplus.append(oldest)
        return surplus
