"""A pool of threads: for calls that block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import Unavailable

STOPPING = "the gateway is stopping; try again later"
T = TypeVar("T")


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
            raise Unavailable(STOPPING)
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
                raise Unavailable(STOPPING) from None  # `close` dropped it; nobody cancelled the caller
            raise

    def _count_down(self, future: "asyncio.Future[Any]") -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # a caller that was cancelled does not fetch it

    def close(self) -> None:
        """Wait for the calls that run; drop those that wait: they are Unavailable."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)
