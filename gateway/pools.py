"""Named, bounded pools: threads for what blocks, worker processes for what computes or may be hostile.

A full queue answers Unavailable at once ("try again"); nothing waits unbounded. A worker process that dies or
passes its deadline takes only its own task with it (WorkerDied) and is replaced. A worker that cannot begin, or a
pool that is closed, says nothing about a task: Unavailable.
"""

import asyncio
import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import structlog

from .errors import GatewayError, Unavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")
_preloaded: set[str] = set()
_STOPPING = "the gateway is stopping; try again later"


class WorkerDied(GatewayError):
    """The worker process ended, or was ended at its deadline, before it answered."""

    code = "worker_died"


class _NotBegun(GatewayError):
    """The worker's initializer failed; the message says how."""


_not_begun = ""  # in a worker: why its initializer failed


class ThreadPool:
    """`threads` threads and a queue of at most `queue` calls behind them."""

    def __init__(self, name: str, threads: int, queue: int = 1000) -> None:
        self.name = name
        self._limit = threads + queue
        self._pending = 0
        self._closed = False
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def pending(self) -> int:
        """Calls running and waiting."""
        return self._pending

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """`call`'s result. Unavailable when the queue is full. A call that began is never abandoned half-way."""
        if self._closed:
            raise Unavailable(_STOPPING)
        if self._pending >= self._limit:
            raise Unavailable("too much to do at the moment; try again")
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)
        self._pending += 1
        future.add_done_callback(self._count_down)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if future.cancelled() and not (caller and caller.cancelling()):
                raise Unavailable(_STOPPING) from None  # `close` dropped it; nobody cancelled the caller
            raise

    def _count_down(self, future: "asyncio.Future[Any]") -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # a caller that was cancelled does not fetch it

    def close(self) -> None:
        """Wait for the calls that run; drop those that wait: they are Unavailable."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)


class WorkerProcesses:
    """`count` processes, started by `forkserver` (never `fork`: keys and threads do not survive it).

    Each slot is an executor of one process, so that a death breaks one slot only.
    """

    def __init__(
        self,
        name: str,
        count: int,
        deadline_seconds: float,
        initializer: Callable[..., None],
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self.name = name
        self.count = count
        self._deadline = deadline_seconds
        self._start = (initializer, initargs)
        self._context = multiprocessing.get_context("forkserver")
        # The fork server loads what every pool of this process needs, once; its workers begin with it, and share it.
        _preloaded.add(initializer.__module__)
        self._context.set_forkserver_preload(sorted(_preloaded))
        self._idle: asyncio.LifoQueue[ProcessPoolExecutor] = asyncio.LifoQueue()
        self._slots: set[ProcessPoolExecutor] = set()
        self._closed = False
        for _ in range(count):
            self._add_slot()

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """`call`'s result from a worker; waits for a free one. WorkerDied, Unavailable, or what the call raised."""
        slot = await self._idle.get()
        broken = True
        try:
            if self._closed:
                raise Unavailable(_STOPPING)
            async with asyncio.timeout(self._deadline):
                with _without_main_script():
                    future = asyncio.get_running_loop().run_in_executor(slot, _answer, call, arguments)
                result = await future
            broken = False
            return result
        except TimeoutError:
            raise WorkerDied(f"not done within {self._deadline:g} s: too complex to be a normal document") from None
        except BrokenProcessPool:
            if self._closed:  # the task did nothing to deserve it
                raise Unavailable(_STOPPING) from None
            raise WorkerDied("the worker process ended: the document exceeds its limits of memory or time") from None
        except _NotBegun as error:
            log.error("worker.not_started", pool=self.name, cause=error.message)
            raise Unavailable(f"a worker process could not start: {error.message}", code="worker_start") from None
        except GatewayError:
            broken = False
            raise
        except Exception as error:
            # The process answered, with an error nobody foresaw: a defect of ours, not a dead worker.
            broken = False
            log.exception("worker.failed", pool=self.name)
            raise WorkerDied(f"the document could not be processed ({type(error).__name__})") from error
        finally:
            if broken and not self._closed:
                self._replace(slot)
            else:
                self._idle.put_nowait(slot)

    def _add_slot(self) -> None:
        slot = ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin, initargs=self._start)
        self._slots.add(slot)
        self._idle.put_nowait(slot)

    def _replace(self, slot: ProcessPoolExecutor) -> None:
        log.warning("worker.replaced", pool=self.name)
        self._slots.discard(slot)
        self._end(slot)
        self._add_slot()

    @staticmethod
    def _end(slot: ProcessPoolExecutor) -> None:
        for process in list((slot._processes or {}).values()):  # there is no public way to end one
            process.kill()
        slot.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End every process; what they were doing (Unavailable) is done again after the next start."""
        self._closed = True
        for slot in self._slots:
            self._end(slot)
        self._slots.clear()


@contextlib.contextmanager
def _without_main_script() -> Iterator[None]:
    """A process that is started meanwhile does not run our main script again, nor import the command line with it."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _begin(initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In the worker: end when the daemon ends, leave Ctrl-C to the daemon, then the pool's own start."""
    global _not_begun
    _end_with_the_daemon()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        initializer(*arguments)
    except GatewayError as error:
        _not_begun = error.message
    except Exception as error:  # noqa: BLE001 -- raised here, it would look as if the first document had killed us
        traceback.print_exc()
        _not_begun = type(error).__name__


def _answer(call: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """In the worker: a call, if there was a beginning."""
    if _not_begun:
        raise _NotBegun(_not_begun)
    return call(*arguments)


def _end_with_the_daemon() -> None:
    """Let the kernel end this process (SIGIO) as soon as the daemon, however it ends, no longer holds its pipe to us.

    PR_SET_PDEATHSIG would watch the wrong process: a worker's parent is the fork server, which lives as long as one
    of its workers does.
    """
    daemon = multiprocessing.parent_process()
    assert daemon is not None
    pipe: int = daemon.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if not daemon.is_alive():  # it ended before we asked
        os._exit(1)
