"""The daemon's end of one worker process: start it, send it calls without waiting, read its answers, end it."""

import asyncio
import contextlib
import json
import select
import signal
import socket
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any

from .. import errors
from ..errors import GatewayError
from . import begin

_main_script = threading.Lock()
_LARGEST = 1 << 24  # bytes of an answer


class NotBegun(GatewayError):
    """The worker's initializer failed; the message says how."""


@dataclass(frozen=True)
class Call:
    """What a worker is to do, as it is sent, and who waits for it."""

    function: Callable[..., Any]
    message: bytes
    future: "asyncio.Future[Any]"


class Channel:
    """A process that has begun. `calls` were sent and are not answered yet; the first of them is being done.

    It belongs to a loop only while there are any.
    """

    def __init__(
        self,
        context: ForkServerContext,
        name: str,
        begin_with: tuple[Callable[..., None], tuple[Any, ...]],
        within_seconds: float,
    ) -> None:
        """Blocks until it has begun; NotBegun, EOFError, OSError, TimeoutError.

        It may have to wait until the fork server has loaded its modules.
        """
        self.calls: deque[Call] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent, self._received = bytearray(), bytearray()
        self._socket, theirs = socket.socketpair()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._process = context.Process(target=begin.work, args=(theirs, *begin_with), name=name, daemon=True)
        try:
            with theirs, _without_main_script(), _without_interrupts():
                self._process.start()
            self._wait_until_begun(within_seconds)
        except BaseException:
            self._socket.close()  # that ends it
            raise

    def _wait_until_begun(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        with self._socket.makefile("rb") as file:
            reason = begin.read(file)
        if reason:
            raise NotBegun(reason.decode())
        self._socket.setblocking(False)

    def is_over(self) -> bool:
        """Whether it ended while it had nothing to do: all that can be read of it then is its end."""
        return not self.calls and bool(self._poll.poll(0))

    def send(self, call: Call, readable: Callable[["Channel"], None]) -> None:
        """Send a call, as far as there is room for it now, and the rest later; `readable` is called for answers."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, readable, self)
        self.calls.append(call)
        self._unsent += call.message
        self._flush(self._loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except ConnectionError:  # it ended, as will be read
            self._unsent.clear()
        if self._unsent:
            loop.add_writer(self._socket, self._flush, loop)
        else:
            loop.remove_writer(self._socket)

    def answered(self) -> Iterator[tuple[Call, Any]]:
        """The calls that were answered by now; EOFError or ConnectionError when the process ended instead."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            if not (received := self._socket.recv(1 << 18)):
                raise EOFError
        self._received += received
        while len(self._received) >= begin.LENGTH.size:
            end = begin.LENGTH.size + begin.LENGTH.unpack_from(self._received)[0]
            if end > _LARGEST or not self.calls:
                raise EOFError  # none of ours says that
            if len(self._received) < end:
                break
            answer = bytes(self._received[begin.LENGTH.size : end])
            del self._received[:end]
            call = self.calls.popleft()
            yield call, _content(call, answer)

    def set_deadline(self, seconds: float, late: Callable[["Channel"], None]) -> None:
        """`late` is called when the first call is not answered within that time; with no call left, nothing is."""
        self._stop_timer()
        if self._loop is not None and self.calls:
            self._timer = self._loop.call_later(seconds, late, self)
        else:
            self._leave_loop()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave_loop(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._loop = None

    def end(self) -> deque[Call]:
        """Kill it; the calls that it did not answer."""
        self._stop_timer()
        self._leave_loop()
        self._process.kill()
        self._socket.close()
        return self.calls


_KINDS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GatewayError)
}


def _content(call: Call, answer: bytes) -> tuple[bool, Any]:
    """The result, or why there is none. Values only, never a pickle: a document may have taken the worker over."""
    try:
        if answer.startswith(begin.DONE):
            return True, begin.result_of(call.function).validate_json(answer.removeprefix(begin.DONE))
        name, text, *rest = json.loads(answer.removeprefix(begin.FAILED))
        if not rest:
            return False, (str(name), str(text))
        code, facts = rest
        return False, _KINDS[name](str(text), code=str(code), **facts)
    except Exception as error:  # noqa: BLE001 -- that call failed, not those behind it
        return False, (type(error).__name__, "the answer cannot be read")


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """The fork server, which the first process starts, leaves Ctrl-C to the daemon even while it loads its modules."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main_script() -> Iterator[None]:
    """A process that is started meanwhile does not run our main script again, nor import the command line with it."""
    with _main_script:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script
