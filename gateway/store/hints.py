"""Hints between gateways on one PostgreSQL: "look at this folder", by LISTEN and NOTIFY. Off on SQLite.

A hint comes with the commit of what it is about, and may be lost: while the connection is away nobody hears, and
nothing is said again. Who relies on it looks by itself all the same, a moment later.
"""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

log = structlog.get_logger(__name__)

AROUND_SECONDS = 0.5  # between two looks whether it is over
AGAIN_SECONDS = 5.0  # after a connection that was lost


class Hints:
    """The thread that listens, on a connection of its own. `close` it."""

    def __init__(self, parameters: dict[str, Any], heard: Callable[[str], None]) -> None:
        """`parameters`: what psycopg connects with. `heard` is called from the thread and returns at once."""
        self._parameters = parameters
        self._heard = heard
        self._is_over = threading.Event()
        self.is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-hints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._listen()
            except (psycopg.Error, OSError) as error:
                log.warning("hints.lost", cause=str(error)[:300])
                self.is_listening.clear()
                self._is_over.wait(AGAIN_SECONDS)

    def _listen(self) -> None:
        with psycopg.connect(**self._parameters, autocommit=True) as connection:
            connection.execute("LISTEN gateway_folder")
            self.is_listening.set()
            while not self._is_over.is_set():
                for hint in connection.notifies(timeout=AROUND_SECONDS):
                    self._heard(hint.payload)
