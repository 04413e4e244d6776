"""What failed log-ins cost a source: later answers, then none for a while. The account that was tried costs nothing.

Failures count down with time (so many a minute are forgotten); beyond that each one makes the answers to refused
log-ins from that source a second later, up to a limit, and too many shut the source out. An address behind which many
sit, a company's or a load balancer's, belongs on the safe list; one from which a client logged in within a day is
slowed down and never shut out: others come from there, and a key that is being exchanged fails for a while. In
memory: a restart forgives. Any thread may ask.
"""

import ipaddress
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from .. import clock
from ..domain.identifiers import network_address
from ..errors import Unavailable
from .limits import source_of

_KNOWN_SECONDS = 86_400.0
_MOST_SOURCES = 10_000  # that are remembered


@dataclass
class _Source:
    """`score`: failures not yet forgotten, as of `at`. `known_until`: somebody logged in from there."""

    score: float = 0.0
    at: float = 0.0
    banned_until: float = 0.0
    known_until: float = 0.0


class Penalties:
    """Of all listeners of the drop folders."""

    def __init__(
        self, *, per_minute: int, ban_after: int, ban_minutes: float, longest_delay: float, safe: Sequence[str]
    ) -> None:
        """`safe`: networks that are neither delayed nor banned; ValueError when one is none."""
        self._per_minute = per_minute
        self._ban_after = ban_after
        self._ban_seconds = ban_minutes * 60
        self._longest_delay = longest_delay  # seconds
        self._safe = [ipaddress.ip_network(one) for one in safe]
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Unavailable (`banned`) while the source is shut out."""
        with self._lock:
            known = self._sources.get(source_of(address))
        if known is not None and known.banned_until > clock.monotonic():
            raise Unavailable("too many failed log-ins from here; try again later", code="banned")

    def delay(self, address: str) -> float:
        """Seconds by which a refused log-in from there is answered later now."""
        with self._lock:
            known = self._sources.get(source_of(address))
            return 0.0 if known is None else self._delay(self._score(known, clock.monotonic()))

    def failed(self, address: str) -> float:
        """A log-in from there failed; the delay of its answer. The one that is too many shuts the source out."""
        if self._is_safe(address):
            return 0.0
        now = clock.monotonic()
        with self._lock:
            known = self._seen(address, now)
            known.score, known.at = self._score(known, now) + 1, now
            delay = self._delay(known.score)
            if known.score >= self._ban_after:
                if known.known_until > now:
                    known.score = min(known.score, self._per_minute + self._longest_delay)
                else:
                    known.banned_until, known.score = now + self._ban_seconds, 0.0
            return delay

    def succeeded(self, address: str) -> None:
        """A client logged in from there."""
        now = clock.monotonic()
        with self._lock:
            self._seen(address, now).known_until = now + _KNOWN_SECONDS

    def _seen(self, address: str, now: float) -> _Source:
        """What is known of the address's source, which is the last one now."""
        self._make_room(now)
        source = source_of(address)
        known = self._sources.pop(source, None) or _Source(at=now)
        self._sources[source] = known
        return known

    def _is_safe(self, address: str) -> bool:
        parsed = network_address(address)
        return parsed is not None and any(parsed in network for network in self._safe)

    def _score(self, known: _Source, now: float) -> float:
        return max(0.0, known.score - (now - known.at) * self._per_minute / 60)

    def _delay(self, score: float) -> float:
        return min(self._longest_delay, max(0.0, score - self._per_minute))

    def _make_room(self, now: float) -> None:
        """Forget what has no effect any more; in a flood from everywhere, those that failed longest ago."""
        if len(self._sources) < _MOST_SOURCES:
            return
        self._sources = {
            name: one
            for name, one in self._sources.items()
            if max(one.banned_until, one.known_until) > now or self._score(one, now) > 0
        }
        while len(self._sources) >= _MOST_SOURCES:
            del self._sources[next(iter(self._sources))]
