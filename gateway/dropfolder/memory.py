"""How much the folders' indexes may hold in memory, all together, and what goes first: what was used longest ago.

Each holder says what it holds whenever that changes or is used. Over the bound, and after an hour in any case, the
longest unused are told to forget. An index that was used in the last seconds stays, whatever its size: a folder that is
larger than the bound works, and two that are too large for it are not read anew for each file. Months of an archive may
go at once: who lists them holds what it lists.
"""

import threading
from collections import OrderedDict
from typing import Protocol

from .. import clock

FORGET_SECONDS = 3600.0
IN_USE_SECONDS = 10.0


class Holder(Protocol):
    """An index, or a month of its archive."""

    is_read_at_once: bool
    """Whether reading it again delays nobody but who lists it: then it may go while it is in use."""

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
        surplus: list[Holder] = []
        total = self._total
        for holder, (size, used) in self._held.items():  # longest unused first
            unused = now - used
            if unused <= FORGET_SECONDS and total <= self._limit:
                break
            if unused > IN_USE_SECONDS or holder.is_read_at_once:
                surplus.append(holder)
                total -= size
        for holder in surplus:
            self._drop(holder)
        return surplus
