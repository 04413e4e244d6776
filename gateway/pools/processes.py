"""A pool of worker processes: for what computes, or reads what may be hostile."""

import asyncio
import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from ..errors import GatewayError, Unavailable
from . import begin
from .channel import Call, Channel
from .threads import STOPPING

log = structlog.get_logger(__name__)
T = TypeVar("T")
_preloaded: set[str] = set()
_BEGIN_SECONDS = 60.0  # the first one waits for the fork server to load its modules
_AHEAD = 4  # calls that a process has at once: so it need not wait for the loop between two of them


class WorkerDied(GatewayError):
    """The worker process ended, or was ended at its deadline, before it answered."""

    code = "worker_died"


class WorkerProcesses:
    """`count` processes, started by `forkserver` (never `fork`: keys and threads do not survive it).

    One is started when there is something to do and none is idle, or by `start`. Each is sent a few calls ahead and
    answers them one by one, so that it is known which of them it died of: the others go to another process. A call
    may therefore be begun twice. The deadline is that of one call, from the answer before it on.
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
        self._begin_with = (initializer, initargs)
        self._context = multiprocessing.get_context("forkserver")
        # The fork server loads what every pool of this process needs, once; its workers begin with it, and share it.
        _preloaded.update((begin.__name__, initializer.__module__))
        self._context.set_forkserver_preload(sorted(_preloaded))
        self._waiting: deque[Call] = deque()
        self._channels: list[Channel] = []
        self._starts: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """`call`'s result from a worker; waits for a free one. WorkerDied, Unavailable, or what the call raised."""
        return await self.submit(call, *arguments)

    def submit(self, call: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """The same as a future. When it is cancelled, the process that works on it is ended."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(Unavailable(STOPPING))
            return future
        self._waiting.append(Call(call, begin.message(pickle.dumps((call, arguments))), future))
        future.add_done_callback(self._end_if_cancelled)
        self._dispatch()
        return future

    async def start(self) -> None:
        """Start every process now, so that the first calls need not wait for them; whether they began is told there."""
        self._start(self.count - len(self._channels) - len(self._starts))
        await asyncio.gather(*self._starts, return_exceptions=True)

    def close(self) -> None:
        """End every process; what they were doing (Unavailable) is done again after the next start."""
        self._closed = True
        for channel in self._channels:
            self._waiting += channel.end()
        self._channels.clear()
        self._refuse_waiting(Unavailable(STOPPING))

    def _dispatch(self) -> None:
        """Give what waits to the process with the least to do; start another one while all have something."""
        for channel in [one for one in self._channels if one.is_over()]:
            self._remove(channel)
        # While a process is still to come, what could be sent ahead is better off there.
        room = _AHEAD if len(self._channels) == self.count else 1
        while self._waiting and self._channels:
            channel = min(self._channels, key=lambda one: len(one.calls))
            if len(channel.calls) >= room:
                break
            self._send(channel, self._waiting.popleft())
        missing = min(self.count - len(self._channels), len(self._waiting))
        self._start(missing - len(self._starts))

    def _send(self, channel: Channel, call: Call) -> None:
        if not call.future.done():
            channel.send(call, self._settle)
            if len(channel.calls) == 1:
                channel.set_deadline(self._deadline, self._end_late)

    def _settle(self, channel: Channel) -> None:
        """Tell the calls that were answered; a process that ended instead died of the first that was not."""
        is_answer = False
        try:
            for call, (is_done, result) in channel.answered():
                is_answer = True
                if not call.future.done():
                    self._tell(call.future, is_done, result)
        except (EOFError, ConnectionError):
            self._lose(channel, "the worker process ended: the document exceeds its limits of memory or time")
        else:
            if is_answer:  # a part of one gives no more time
                channel.set_deadline(self._deadline, self._end_late)
                self._dispatch()

    def _tell(self, future: "asyncio.Future[Any]", is_done: bool, result: Any) -> None:
        if is_done:
            future.set_result(result)
        elif isinstance(result, GatewayError):
            future.set_exception(result)
        else:
            # The process answered, with an error nobody foresaw: a defect of ours, not a dead worker.
            name, trace = result
            log.error("worker.failed", pool=self.name, cause=trace)
            future.set_exception(WorkerDied(f"the document could not be processed ({name})"))

    def _end_late(self, channel: Channel) -> None:
        first = channel.calls[0]
        self._settle(channel)  # the answer may be here already
        if channel.calls and channel.calls[0] is first:
            self._lose(channel, f"not done within {self._deadline:g} s: too complex to be a normal document")

    def _end_if_cancelled(self, future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            for channel in self._channels:
                if channel.calls and channel.calls[0].future is future:
                    self._lose(channel, "")
                    return

    def _lose(self, channel: Channel, cause: str) -> None:
        """End a process: its first call is told the cause, the others go to another one."""
        calls = self._remove(channel)
        if calls and not (future := calls.popleft().future).done():
            future.set_exception(WorkerDied(cause))
        self._waiting.extendleft(reversed(calls))
        self._dispatch()

    def _remove(self, channel: Channel) -> deque[Call]:
        log.warning("worker.replaced", pool=self.name)
        self._channels.remove(channel)
        return channel.end()

    def _start(self, count: int) -> None:
        for _ in range(count):
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._open_channel))
            self._starts.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: "asyncio.Task[None]") -> None:
        self._starts.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is None:
            self._dispatch()
            return
        log.error("worker.not_started", pool=self.name, cause=str(error))
        if not self._channels:
            self._refuse_waiting(Unavailable(f"a worker process could not start: {error}", code="worker_start"))

    def _open_channel(self) -> None:
        channel = Channel(self._context, self.name, self._begin_with, _BEGIN_SECONDS)
        self._channels.append(channel)
        if self._closed:  # meanwhile, maybe without this one
            channel.end()
            self._channels.clear()

    def _refuse_waiting(self, error: Unavailable) -> None:
        for call in self._waiting:
            if not call.future.done():
                call.future.set_exception(error)
        self._waiting.clear()
