"""Whether a PostgreSQL answers at all: one that hangs is told from one that is slow, and nobody waits for it.

A server that is stopped refuses; one that hangs (its processes stopped, its disk stuck, the network a black hole)
says nothing, and libpq waits for it as long as TCP does. So one thread asks `SELECT 1` every second on a connection
of its own. No answer within three: the database is silent. Then every statement under way ends with an error, new
ones fail at once, and the first answer ends it. A statement that is slow while the database answers may go on, up
to a minute: what it waits for may hang alone.
"""

import contextlib
import os
import socket
import threading
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.abc import PQGen

from .. import clock

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
SILENT_SECONDS = 3  # libpq takes whole ones, from 2 on
LONGEST_SECONDS = 60.0  # of one statement, while others are answered
T = TypeVar("T")


class Pulse:
    """The thread that asks. `connect` is how an engine makes connections that heed it."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """`parameters`: what psycopg connects with."""
        self.is_silent = False
        self._parameters = {**parameters, "connect_timeout": SILENT_SECONDS}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-pulse", daemon=True)
        self._thread.start()

    def connect(self, _dialect: Any, _record: Any, arguments: Any, parameters: Any) -> "Connection":
        """SQLAlchemy's event `do_connect`. Silent at once while the database is."""
        if self.is_silent:
            raise Silent("the database is silent")
        connection = Connection.connect(*arguments, **parameters)
        connection.pulse = self
        return connection

    def close(self) -> None:
        """Ask no more."""
        self._is_over.set()
        self._thread.join(SILENT_SECONDS + EVERY_SECONDS)

    def _run(self) -> None:
        connection: Connection | None = None
        while True:
            connection = self._ask(connection)
            if self._is_over.wait(EVERY_SECONDS):
                break
        if connection is not None:
            connection.close()

    def _ask(self, connection: "Connection | None") -> "Connection | None":
        """One question; the connection for the next one, None when it has to be made anew."""
        try:
            if connection is None:
                connection = Connection.connect(**self._parameters, autocommit=True)
                connection.longest = SILENT_SECONDS
            connection.execute("SELECT 1")
        except (psycopg.Error, OSError) as error:  # the second: of our own process, without descriptors say
            self._hear(is_silent=isinstance(error, Silent | psycopg.errors.ConnectionTimeout))
            if connection is not None:
                connection.close()
        else:
            self._hear(is_silent=False)
            return connection
        return None

    def _hear(self, *, is_silent: bool) -> None:
        """A refusal is an answer: who asks next is told so itself."""
        if is_silent != self.is_silent:
            log.warning("database.silent" if is_silent else "database.answers")
        self.is_silent = is_silent


class Silent(psycopg.OperationalError):
    """No answer came in time; the connection is closed."""


class Connection(psycopg.Connection[Any]):
    """Whose statements end when the database is silent, and in any case after `longest` seconds."""

    pulse: Pulse | None = None
    longest = LONGEST_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """How psycopg waits for the answer to a statement, a commit or a rollback; looks around every `interval`."""
        return super().wait(self._until_silent(gen), interval, timeout)

    def _until_silent(self, gen: PQGen[T]) -> PQGen[T]:
        """The same generator, left when nothing comes."""
        end = clock.monotonic() + self.longest
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and (clock.monotonic() > end or (self.pulse is not None and self.pulse.is_silent)):
                    self._cut()
                    raise Silent("the database is silent")
                wanted = gen.send(ready)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    def _cut(self) -> None:
        """Close it without a word: libpq would wait until it can take leave of a server that takes nothing."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        self.close()
