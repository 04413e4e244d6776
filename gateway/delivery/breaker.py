"""The relay's circuit breaker: while the relay itself is in trouble, one message at a time tries it, the others wait.

So an outage spends no attempts of the messages behind the one that found it, and a relay that comes back is not met
by all of them at once. In memory: a daemon that starts finds out anew.
"""

import structlog

from .. import clock
from .outbox import Result

log = structlog.get_logger(__name__)
FIRST_SECONDS, LONGEST_SECONDS = 5.0, 60.0  # between two that try it


class Breaker:
    """Closed: mail goes on. Open: after a wait, which doubles, one message tries."""

    def __init__(self) -> None:
        self._wait = 0.0  # seconds; 0: closed
        self._tries_at = 0.0

    def room(self, free: int, running: int) -> int:
        """How many messages may be claimed now, of `free` places, while `running` are under way."""
        if not self._wait:
            return free
        return min(free, 1) if not running and clock.monotonic() >= self._tries_at else 0

    def note(self, result: Result) -> None:
        """An attempt ended. What was never handed to the relay (`compose`) says nothing of it."""
        if result.phase == "compose":
            return
        if not result.of_relay:
            if self._wait:
                log.info("relay.back", relay=result.relay)
            self._wait = 0.0
            return
        if not self._wait:
            log.warning("relay.down", relay=result.relay, phase=result.phase, reply=result.reply)
        if clock.monotonic() >= self._tries_at:  # those that were under way together count once
            self._wait = min(self._wait * 2, LONGEST_SECONDS) if self._wait else FIRST_SECONDS
            self._tries_at = clock.monotonic() + self._wait
