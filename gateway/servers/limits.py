"""How many connections the listeners hold: from one source, before log-in, of one client, in all; how many handles.

One address that opens a thousand idle connections must not shut everyone else out. No I/O, no clock: a listener
closes what is refused here, and what has not logged in in time. Any thread may ask for a connection's place.
"""

import ipaddress
import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ..domain.identifiers import network_address
from ..errors import Unavailable


@dataclass(eq=False)
class Ticket:
    """One connection's place."""

    source: str
    client_id: str | None = None  # once logged in


class ConnectionLimits:
    """The places of all listeners of the drop folders."""

    def __init__(self, *, before_login: int, before_login_per_source: int, total: int, per_client: int) -> None:
        self._before_login = before_login
        self._before_login_per_source = before_login_per_source
        self._total = total
        self._per_client = per_client
        self._waiting: Counter[str] = Counter()  # connections not yet logged in, by source
        self._clients: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, address: str) -> Ticket:
        """A place for a new connection. Unavailable: none is left, with the limit as its code."""
        source = source_of(address)
        with self._lock:
            waiting = self._waiting.total()
            if waiting + self._clients.total() >= self._total:
                raise Unavailable("too many connections", code="connections")
            if waiting >= self._before_login:
                raise Unavailable("too many connections before log-in", code="connections_before_login")
            if self._waiting[source] >= self._before_login_per_source:
                raise Unavailable("too many connections from here", code="connections_before_login_per_source")
            self._waiting[source] += 1
        return Ticket(source)

    def log_in(self, ticket: Ticket, client_id: str) -> None:
        """The connection belongs to a client now. Unavailable: that client has all of its places."""
        with self._lock:
            if self._clients[client_id] >= self._per_client:
                raise Unavailable("too many connections of this client", code="connections_per_client")
            self._drop(self._waiting, ticket.source)
            self._clients[client_id] += 1
            ticket.client_id = client_id

    def leave(self, ticket: Ticket) -> None:
        """The connection is closed."""
        with self._lock:
            if ticket.client_id is None:
                self._drop(self._waiting, ticket.source)
            else:
                self._drop(self._clients, ticket.client_id)

    @staticmethod
    def _drop(counter: Counter[str], key: str) -> None:
        counter[key] -= 1
        if counter[key] <= 0:
            del counter[key]


class Handles:
    """The files and folders that are open: of one session, or of `whole`, all of them."""

    def __init__(self, limit: int, whole: "Handles | None" = None) -> None:
        self.limit = limit
        self._whole = whole
        self._held = 0

    def check(self) -> None:
        """Unavailable: no other may be opened."""
        if self._held >= self.limit:
            of = "in one session" if self._whole else "in all"
            raise Unavailable(f"at most {self.limit} files and folders can be open at once {of}", code="handles")
        if self._whole is not None:
            self._whole.check()

    def take(self, count: int = 1) -> None:
        """Opened; a negative count: closed."""
        self._held += count
        if self._whole is not None:
            self._whole.take(count)


@lru_cache(10_000)
def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that an IPv6 site has to itself."""
    parsed = network_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)
