"""A worker's loop: take a turn, and when there was nothing to do, sleep until woken or until the next poll.

A wake-up is a hint that may be lost; the poll finds the work anyway. A turn that is told "not now"
(Unavailable) is tried again after a growing wait; any other error ends the daemon, which systemd restarts.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from .errors import Unavailable

log = structlog.get_logger(__name__)
_LONGEST_WAIT = 5.0  # seconds: the work goes on within this of the database's return


class Worker:
    """`turn` does a bounded piece of work and returns how many things it did; 0 means nothing was left."""

    def __init__(self, name: str, turn: Callable[[], Awaitable[int]], poll_seconds: float) -> None:
        self.name = name
        self._turn = turn
        self._poll = poll_seconds
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be work; to be called on the loop's thread."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; a turn that began is finished."""
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            try:
                done = await self._turn()
                failures = 0
            except Unavailable as error:
                failures += 1
                if failures == 1:
                    log.warning("worker.waiting", worker=self.name, cause=error.message)
                await self._sleep(stop, min(_LONGEST_WAIT, 0.2 * 2 ** min(failures, 10)))
                continue
            if not done:
                await self._sleep(stop, self._poll)

    async def _sleep(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(stop.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*waits, return_exceptions=True)
