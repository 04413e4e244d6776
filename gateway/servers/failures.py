"""Failed log-ins and negotiations on their way to the database, from any thread, without making a listener wait.

A listener notes one; its sweep writes what was noted, in one transaction. Of one source so many a day are kept, and
while the database is away the newest WAITING. A restart forgets what was not written yet.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

import structlog

from .. import clock
from ..dropfolder.failures import Failure
from ..errors import GatewayError
from ..pools import ThreadPool
from .limits import source_of

log = structlog.get_logger(__name__)
WAITING = 1000
_MOST_SOURCES = 10_000  # counted in one day; of others nothing is kept


class Failures:
    """Of all listeners of the drop folders."""

    def __init__(self, keep: Callable[[Sequence[Failure]], object], per_source: int) -> None:
        """`keep` writes to the database, and may wait; `per_source`: a day."""
        self._keep = keep
        self._per_source = per_source
        self._waiting: deque[Failure] = deque(maxlen=WAITING)
        self._day = clock.now().date()
        self._kept: Counter[str] = Counter()  # of each source, on that day
        self._lock = threading.Lock()

    def note(self, protocol: str, address: str, user_name: str, code: str, cause: str, banner: str = "") -> None:
        """One failed. Texts may be a stranger's."""
        now = clock.now()
        with self._lock:
            if now.date() != self._day:
                self._day = now.date()
                self._kept.clear()
            source = source_of(address)
            is_full = len(self._kept) >= _MOST_SOURCES and source not in self._kept
            if is_full or self._kept[source] >= self._per_source:
                return
            self._kept[source] += 1
            user_name, cause, banner = (printable(text) for text in (user_name, cause, banner))
            self._waiting.append(Failure(now, protocol, address, user_name, code, cause, banner))

    async def flush(self, pool: ThreadPool) -> None:
        """Write what was noted; what cannot be written now waits."""
        with self._lock:
            noted = list(self._waiting)
            self._waiting.clear()
        if not noted:
            return
        try:
            await pool.run(self._keep, noted)
        except GatewayError as error:
            log.warning("failures.not_kept", count=len(noted), cause=error.message)
            with self._lock:
                room = WAITING - len(self._waiting)
                self._waiting.extendleft(reversed(noted[-room:] if room else []))
        except Exception:  # what ends sessions comes after this in a sweep
            log.exception("failures.lost", count=len(noted))


def printable(text: str) -> str:
    """What a client wrote without what no database or terminal takes."""
    return "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "backslashreplace").decode())
