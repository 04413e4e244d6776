"""One SFTP channel of an SSH connection: requests are answered in their order, and only as fast as they are taken.

Requests wait as requests, a few bytes each, while the client's window or the network is full; so pipelining
thousands of READs costs no memory. When many wait, or large ones, reading from the channel pauses. A Call of the
engine runs in the folder pool; the requests behind it wait. A file that is open when the channel ends was not read
to its end.
"""

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING

import asyncssh
import structlog

from . import ssh_transport
from .sftp_engine import Call, Engine, failure
from .sftp_packets import MAX_PACKET, Malformed, Request, Splitter, Type
from .ssh_window import Window

if TYPE_CHECKING:
    from .sftp_connection import SftpConnection

log = structlog.get_logger(__name__)

TURN = 16  # requests answered before other sessions get the loop
MANY = 256  # waiting requests that pause reading
FEW = 64  # and that let it go on
MANY_BYTES, FEW_BYTES = 192 * 1024, 64 * 1024  # the same of their bytes: a WRITE may carry more by itself
MOST_BYTES = (
    MAX_PACKET + 32 * 1024
)  # held at once, window apart: a packet that is not whole, and what came with its end


class SftpChannel(asyncssh.SSHServerSession[bytes]):
    """Requests in, answers out."""

    def __init__(self, engine: Engine, connection: "SftpConnection") -> None:
        self._engine = engine
        self._connection = connection
        self._chan: asyncssh.SSHServerChannel[bytes]
        self._splitter = Splitter()
        self._requests: deque[Request] = deque()
        self._waiting_bytes = 0  # of those requests, and of the one that a Call is about
        self._window: Window
        self._sent = 0  # bytes of answers that asyncssh has passed on
        self._refusal = ""
        self._is_busy = False  # a Call is under way
        self._is_full = False  # the client's window is
        self._is_congested = False  # the network is
        self._is_reading = True
        self._is_pumping = False
        self._is_at_end = False  # the client will ask nothing more
        self._is_closed = False  # nothing can be sent any more
        self._has_left = False
        self.is_open = False

    @property
    def is_transferring(self) -> bool:
        """Whether the client holds a file open, or waits for an answer."""
        return bool(self._engine.open_files or self._requests or self._is_busy)

    @property
    def held(self) -> int:
        """Bytes of requests that are in memory, the one that is being done included."""
        return self._waiting_bytes + self._splitter.held

    # -- what asyncssh calls

    def connection_made(self, chan: "asyncssh.SSHServerChannel[bytes]") -> None:
        self._chan = chan
        self._window = Window(chan)
        self._send = ssh_transport.writer(chan)
        self.is_open = True
        # Any byte that has to wait stops the answers; the next one is made when all have gone. So a CLOSE is
        # answered, and its file counted as read, only after the client's window has taken every byte before it.
        chan.set_write_buffer_limits(0, 0)

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def exec_requested(self, command: str) -> bool:
        """Refused; but the old scp protocol with a word of advice, which its users otherwise never get."""
        if not command.startswith("scp "):
            return False
        self._refusal = "This account serves SFTP only: use sftp, or scp of OpenSSH 9 or newer, without -O.\n"
        return True

    def session_started(self) -> None:
        if self._refusal:
            self._chan.write_stderr(self._refusal.encode())
            self._chan.exit(1)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._connection.touch()
        if self._refusal:
            return
        try:
            for request in self._splitter.feed(data):
                self._requests.append(request)
                self._waiting_bytes += len(request.body)
        except Malformed:
            self._give_up("not SFTP")
            return
        self.pump()

    def eof_received(self) -> bool:
        self._is_at_end = True
        self.pump()
        return True  # answers that are under way are still sent

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._sent = self._engine.position
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """What the client asked before it went is done all the same: lftp sends its last CLOSE and is gone.

        But for what comes after bytes that were not taken: nothing may count as read because of it.
        """
        self._engine.taken(self._window.taken(self._sent))
        if self._is_full or self._is_congested:
            self._requests.clear()
        self._requests = deque(itertools.takewhile(lambda request: request.body[0] != Type.READ, self._requests))
        self._is_closed, self._is_full, self._is_congested = True, False, False
        self.pump()

    # -- answering

    def congested(self, *, is_congested: bool) -> None:
        """The connection's own buffer is full, or has room again."""
        self._is_congested = is_congested
        if not is_congested:
            self.pump()

    def pump(self) -> None:
        """Answer what waits, a turn of it."""
        if self._is_pumping:
            return
        self._is_pumping = True
        self._engine.taken(self._window.taken(self._sent))
        try:
            self._answer_some()
        finally:
            self._is_pumping = False
        self._steer()

    def _answer_some(self) -> None:
        for _ in range(TURN):
            if not self._can_answer():
                return
            try:
                request = self._requests.popleft()
                answer = self._engine.answer(request)
            except Malformed:
                self._give_up("not SFTP version 3")
                return
            if isinstance(answer, Call):
                self._is_busy = True
                self._connection.spawn(self._wait_for(answer, len(request.body)))
            else:
                self._waiting_bytes -= len(request.body)
                self._write(answer)
        if self._can_answer():
            asyncio.get_running_loop().call_soon(self.pump)

    def _can_answer(self) -> bool:
        return bool(self._requests) and not (self._is_busy or self._is_full or self._is_congested)

    def _steer(self) -> None:
        """Take more requests, fewer, or none any more."""
        waiting, is_idle = len(self._requests), not self._requests and not self._is_busy
        if self._is_closed:
            if is_idle:
                self._leave()
            return
        held = 0 if is_idle else self.held  # a packet that waits for its end must get it
        if self._is_reading and (waiting > MANY or held > MANY_BYTES):
            self._is_reading = False
            self._chan.pause_reading()
        elif not self._is_reading and waiting < FEW and held < FEW_BYTES:
            self._is_reading = True
            self._chan.resume_reading()
        if self._is_at_end and is_idle and not self._chan.is_closing():
            self._chan.exit(0)

    async def _wait_for(self, call: Call, size: int) -> None:
        try:
            answer = self._engine.finish(call, await self._connection.run(call.run))
        except Exception as error:  # noqa: BLE001 - whatever happens, a request has an answer
            call.failed()
            answer = failure(call.request_id, error)
            self._engine.position += len(answer)
            if not call.request_id:
                self._give_up("the session could not begin")
        self._is_busy = False
        self._waiting_bytes -= size
        self._write(answer)
        self.pump()

    def _write(self, answer: bytes) -> None:
        if self._is_closed:
            return
        try:
            self._send(answer)
        except OSError:  # the client has closed it; asyncssh calls connection_lost in a moment
            self._is_closed = True
            self._requests.clear()
            return
        if not self._is_full:
            self._sent = self._engine.position

    def _give_up(self, reason: str) -> None:
        log.info("sftp.channel_refused", reason=reason)
        self._requests.clear()
        if not self._is_closed:
            self._is_closed = True
            self._chan.exit(1)

    def _leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._connection.left(self, self._engine.leave())
