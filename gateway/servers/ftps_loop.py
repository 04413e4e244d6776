"""The one thread that serves every FTPS session, and the calls of sessions that may wait, in threads of their own.

On the loop runs what touches memory only, as on the event loop of SFTP; a thread for each session would spend more on
taking turns than on serving. What needs the database, a disk that may hang or a costly hash is an errand: those of one
session run one after the other, those of different sessions beside each other, so that nobody waits for somebody
else's. What comes of an errand is told on the loop. When too many wait, the next one fails: "try again".
"""

import collections
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import structlog
from pyftpdlib.ioloop import IOLoop

from .. import clock
from ..errors import Unavailable

log = structlog.get_logger(__name__)
THREADS = 16  # for what may wait
PASSWORDS_AT_ONCE = 2  # each takes a core for a while: other calls must not wait for them
MOST_WAITING = 10_000  # errands of all sessions
_LOOK_SECONDS = 1.0  # how often deadlines are looked at
Then = Callable[["Future[Any]"], None]


class Timed(Protocol):
    """What has to be over at some time."""

    deadline: float  # by the monotonic clock; may move

    def overdue(self) -> None:
        """It is not."""


class Loop(IOLoop):  # type: ignore[misc]
    """Runs in a thread of its own from `start` on; but for `call_soon` and `stop` all of it is for that thread."""

    def __init__(self) -> None:
        super().__init__()
        self.passwords = ThreadPoolExecutor(PASSWORDS_AT_ONCE, "ftps-passwords")
        self.errands = ThreadPoolExecutor(THREADS, "ftps")
        self.pending = 0  # errands that are not over
        self._timed: set[Timed] = set()
        self._is_looking = False
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._waker = _Waker(self)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ftps", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def call_soon(self, call: Callable[[], None]) -> None:
        """From any thread: run this on the loop."""
        self._calls.append(call)
        self._waker.wake()

    def run_calls(self) -> None:
        """What other threads left."""
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:  # one session's; the others are served on
                log.exception("ftps.failed")

    def _run(self) -> None:
        wait: float | None = None
        while not self._is_over.is_set():
            try:
                self.poll(wait)
                wait = self._until_the_next_call()
            except Exception:  # one session's; the others are served on
                log.exception("ftps.failed")
        self.close()

    def _until_the_next_call(self) -> float | None:
        """Seconds; None: there is none. What is due is called."""
        calls = self.sched._tasks
        left: float | None = calls[0].timeout - time.monotonic() if calls else None
        if left is not None and left <= 0:
            left = self.sched.poll()
        return left

    def poll(self, timeout: float | None) -> None:
        """One round. pyftpdlib's own lets an error of one that was closed end the round of all."""
        for fd, event in self._poller.poll(timeout):
            if (one := self.socket_map.get(fd)) is not None:
                try:
                    if event == self.READ:
                        one.handle_read_event()
                    else:
                        self._tell(one, event)
                except Exception:  # noqa: BLE001 - whatever it is, it is that one's
                    one.handle_error()

    def _tell(self, one: Any, event: int) -> None:
        if event & self.READ:
            if one.readable():
                one.handle_read_event()
        elif event & self._ERROR:
            one.handle_close()
            return
        if event & self.WRITE and one.writable():
            one.handle_write_event()

    def stop(self) -> None:
        """Wait until every errand is over, then end the thread. Whoever could begin one must have ended before."""
        self.call_soon(self._stop_when_done)
        self._thread.join()
        self.errands.shutdown()
        self.passwords.shutdown()

    def _stop_when_done(self) -> None:
        if self.pending:
            self.call_later(0.01, self._stop_when_done)
        else:
            self._is_over.set()

    # -- deadlines

    def watch(self, timed: Timed) -> None:
        """Tell it when its deadline is over, a second late at most. A timer for each would be dear: files have four."""
        self._timed.add(timed)
        if not self._is_looking:
            self._is_looking = True
            self.call_later(_LOOK_SECONDS, self._look)

    def forget(self, timed: Timed) -> None:
        """It is over."""
        self._timed.discard(timed)

    def _look(self) -> None:
        self._is_looking = bool(self._timed)
        if self._is_looking:
            self.call_later(_LOOK_SECONDS, self._look)
        now = clock.monotonic()
        for timed in [one for one in self._timed if one.deadline <= now]:
            try:
                timed.overdue()
            except Exception:  # one session's; the others are served on
                log.exception("ftps.failed")


class Errands:
    """One session's calls that may wait, in their order."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: collections.deque[tuple[ThreadPoolExecutor, Callable[[], Any], Then]] = collections.deque()

    @property
    def are_over(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting

    def run(self, call: Callable[[], Any], then: Then, pool: ThreadPoolExecutor | None = None) -> None:
        """Run `call` in a thread, after those before it, then `then` on the loop."""
        self._waiting.append((pool or self._loop.errands, call, then))
        self._loop.pending += 1
        if len(self._waiting) == 1:
            self._begin()

    def _begin(self) -> None:
        pool, call, _ = self._waiting[0]
        future: Future[Any]
        if self._loop.pending > MOST_WAITING:
            future = Future()
            future.set_exception(Unavailable("too much to do at the moment; try again"))
        else:
            future = pool.submit(call)
        future.add_done_callback(lambda done: self._loop.call_soon(lambda: self._over(done)))

    def _over(self, future: "Future[Any]") -> None:
        _, _, then = self._waiting.popleft()
        self._loop.pending -= 1
        if self._waiting:
            self._begin()
        then(future)


class _Waker:
    """Makes the loop look at the calls of other threads."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._is_awake = False
        self._fileno = self._near.fileno()
        loop.register(self._fileno, self, loop.READ)

    def wake(self) -> None:
        """From any thread."""
        if not self._is_awake:
            self._is_awake = True
            with contextlib.suppress(OSError):  # the loop is over, or has enough to read
                self._far.send(b"\0")

    def readable(self) -> bool:
        return True

    def handle_read_event(self) -> None:
        self._near.recv(4096)
        self._is_awake = False  # before the calls: whoever leaves one from now on wakes the loop again
        self._loop.run_calls()

    def handle_error(self) -> None:
        log.error("ftps.failed", exc_info=sys.exc_info()[1])

    def close(self) -> None:
        self._near.close()
        self._far.close()
