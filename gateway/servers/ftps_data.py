"""One data connection of an FTPS session (RFC 959, 4217): a listing or a file goes out or in; we look how it ends.

FTP has no word for "I have all of it". So after the last byte we say close_notify, end our half of the connection and
wait for the client's end: its close_notify or FIN, with nothing unacknowledged, means that every byte arrived, and
only then the file counts as read. Whatever else happens counts as sent, not as read.

A file that comes in is whole when the client said close_notify behind it. A FIN without it could be anybody's: the
upload is discarded and answered 426.

On the loop; what has to be recorded, and what comes in, is an errand (ftps_loop.py). It has nothing of pyftpdlib's own
data connections, whose way through their events costs more than the bytes do.
"""

import contextlib
import enum
import fcntl
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

import structlog
from OpenSSL import SSL

from .. import clock
from ..errors import GatewayError
from .ftps_cargo import Cargo, Incoming, Lines
from .ftps_tls import is_resumed, take_whole_writes, write

if TYPE_CHECKING:
    from .ftps_control import FtpsSession

log = structlog.get_logger(__name__)
HANDSHAKE_SECONDS = 20
STALL_SECONDS = 300  # without progress
PIECE = 256 * 1024  # bytes that are read and written at once
PIECES_AT_ONCE = 4  # until other sessions get their turn
RECORDS_AT_ONCE = 16  # the same of what nobody wants to hear
NO_ROOM = {"disk_full": 452, "disk": 452, "quota": 552, "too_large": 552, "too_many_files": 552}  # RFC 959 4.2
DONE = "226 Transfer complete."
NOT_RESUMED = "522 A data connection must resume the TLS session of its control connection."
_HANDSHAKE = "522 The TLS handshake of the data connection failed."
_UPLOAD_CUT = "426 The data connection was cut; the upload is discarded."
_CUT = "426 The data connection was cut."
_BROKEN = "426 The data connection's TLS was broken."
_STALLED = "421 Data connection timed out."
_UNASKED = (_HANDSHAKE, _STALLED)  # said though nothing went over it
_FAILED = "426 Internal error; transfer aborted."
_OUR_END = 1  # a FIN takes one place in the sequence
_RECORD = 16 * 1024  # bytes at most


class Phase(enum.Enum):
    """Where it is; one after the other, but that any of them may end it."""

    HANDSHAKE = enum.auto()
    IDLE = enum.auto()  # nothing is asked for yet
    SENDING = enum.auto()
    RECEIVING = enum.auto()
    ENDING = enum.auto()  # all was sent: the client's end is awaited
    SETTLING = enum.auto()  # what became of it is being recorded
    OVER = enum.auto()


class DataConnection:
    """An accepted data connection. Its session learns what became of it by `data_is_over`."""

    def __init__(self, sock: socket.socket, session: "FtpsSession") -> None:
        self.deadline = clock.monotonic() + HANDSHAKE_SECONDS
        self._session = session
        self._loop = session.ioloop
        self._cargo: Cargo | None = None
        self._phase = Phase.HANDSHAKE
        self._piece = b""  # on its way: OpenSSL wants the same bytes again until it has taken them all
        self._sock = sock
        sock.setblocking(False)
        self._tls: Any = SSL.Connection(session.ssl_context, sock)
        self._tls.set_accept_state()
        take_whole_writes(self._tls)
        self._fileno = sock.fileno()
        self._events = self._loop.READ
        self._loop.register(self._fileno, self, self._events)
        self._loop.watch(self)

    @property
    def is_free(self) -> bool:
        """Whether nothing goes over it yet."""
        return self._cargo is None

    @property
    def has_sent_all(self) -> bool:
        """Whether there is nothing to abort: only the client's end is awaited, or that it is recorded."""
        return self._phase in (Phase.ENDING, Phase.SETTLING)

    def carry(self, cargo: Cargo) -> None:
        """What goes over it: from now on, or once the handshake is over. Once."""
        self._cargo = cargo
        if self._phase is Phase.IDLE:
            try:
                self._begin()
            except Exception:  # noqa: BLE001 - as the loop does: the session goes on
                self.handle_error()

    def abort(self, answer: str) -> None:
        """No more of it is wanted; `answer` if the client waits for one."""
        self._finish(answer)

    def close(self) -> None:
        """The session ends; what went over it is recorded."""
        self._finish("")

    def overdue(self) -> None:
        """See Timed."""
        if self._phase is Phase.HANDSHAKE:
            self._finish(_HANDSHAKE)
        elif self._phase is Phase.ENDING:
            self._finish(DONE)
        else:
            self._finish(_STALLED)
            self._session.end_after_errands()

    # -- what the loop calls

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def handle_read_event(self) -> None:
        """Go on with what it waits for."""
        if self._phase is Phase.SENDING:
            self._send()
        elif self._phase is Phase.ENDING:
            self._look_for_their_end()
        elif self._phase is Phase.HANDSHAKE:
            self._shake_hands()
        elif self._phase is Phase.RECEIVING:
            self._receive()
        elif self._phase is Phase.IDLE:
            self._finish("")  # what comes before it is asked for is the client's end

    def handle_write_event(self) -> None:
        """The same."""
        if self._phase is Phase.ENDING:
            self._say_our_end()
        else:
            self.handle_read_event()

    handle_close = handle_read_event  # whoever reads or writes learns how it was lost

    def handle_error(self) -> None:
        """Bytes that the disk refuses; TLS that the client broke; or what nobody foresaw."""
        error = sys.exc_info()[1]
        if isinstance(error, GatewayError):
            self._finish(_refused(error))
        elif isinstance(error, SSL.SysCallError):
            self._finish(self._cut)
        elif isinstance(error, SSL.Error):
            self._finish(self._cut if isinstance(self._cargo, Incoming) else _BROKEN)
        else:
            self._session.log_exception(self)
            self._finish(_FAILED)

    @property
    def _cut(self) -> str:
        return _UPLOAD_CUT if isinstance(self._cargo, Incoming) else _CUT

    def _want(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._loop.modify(self._fileno, events)

    # -- the handshake

    def _shake_hands(self) -> None:
        """Only what it waits for is polled: to be told that there is room to write would have the loop spin."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._want(self._loop.READ)
        except SSL.WantWriteError:
            self._want(self._loop.WRITE)
        except SSL.SysCallError:
            self._finish(_CUT)
        except SSL.Error:
            self._finish(_HANDSHAKE)
        else:
            self._has_shaken_hands()

    def _has_shaken_hands(self) -> None:
        """Refuse a session that is nobody's, where the policy asks for it; else go on with what waits."""
        self.deadline = clock.monotonic() + STALL_SECONDS
        if self._session.listener.needs_session_reuse and not is_resumed(self._tls):
            if self.is_free:
                self._session.data_was_refused()
            self._finish("" if self.is_free else NOT_RESUMED)
            return
        self._phase = Phase.IDLE
        if not self.is_free:
            self._begin()

    def _begin(self) -> None:
        if isinstance(self._cargo, Incoming):
            self._phase = Phase.RECEIVING
            self._receive()
        else:
            self._phase = Phase.SENDING
            # Records that leave together cost the client and us one round through the network, not one each; the end
            # of our half sends what is left.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            self._send()

    # -- sending

    def _send(self) -> None:
        """Until the socket is full, or other sessions should get their turn."""
        self.deadline = clock.monotonic() + STALL_SECONDS
        try:
            for _ in range(PIECES_AT_ONCE):
                if not self._piece and not self._take_piece():
                    return
                if self._piece:
                    write(self._tls, self._piece)
                    self._piece = b""
        except SSL.WantReadError:
            self._want(self._loop.READ)
        except SSL.WantWriteError:
            self._want(self._loop.WRITE)
        else:
            self._want(self._loop.WRITE)

    def _take_piece(self) -> bool:
        """False when there is none now: that was all, or it is being fetched."""
        cargo = self._cargo
        assert cargo is not None and not isinstance(cargo, Incoming)
        if not cargo.is_at_hand:
            self._pause()
            self._session.errands.run(lambda: cargo.next(PIECE), lambda done: self._fetched(done.result))
            return False
        return self._took(cargo.next(PIECE))

    def _took(self, piece: bytes | None) -> bool:
        if piece is None:
            self._phase = Phase.ENDING
            self.deadline = clock.monotonic() + self._session.listener.settings.confirm_seconds
            self._say_our_end()
            return False
        self._piece = piece
        return True

    def _fetched(self, piece: Any) -> None:
        if self._phase is not Phase.SENDING:
            return
        try:
            self._go_on()
            if self._took(piece()):
                self._send()
        except Exception:  # noqa: BLE001 - as the loop does
            self.handle_error()

    def _say_our_end(self) -> None:
        try:
            self._tls.shutdown()  # sends close_notify
            self._sock.shutdown(socket.SHUT_WR)
        except SSL.WantWriteError:
            self._want(self._loop.WRITE)
        except (SSL.Error, OSError):
            self._finish(_CUT)
        else:
            if isinstance(self._cargo, Lines):
                self._finish(DONE)  # a listing proves nothing
            else:
                self._want(self._loop.READ)

    def _look_for_their_end(self) -> None:
        try:
            for _ in range(RECORDS_AT_ONCE):
                self._tls.recv(_RECORD)  # what a client says during a download means nothing
            return  # it may say more for ever: others first
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            is_end = True
        except SSL.SysCallError as error:
            is_end = error.args[0] == -1  # a FIN without close_notify
        except SSL.Error as error:
            is_end = "unexpected eof" in str(error)  # the same, as OpenSSL 3 says it
        # A reset alone says less: a client that closes before it reads our close_notify causes one.
        is_taken = _unacknowledged(self._sock) <= _OUR_END
        self._finish(DONE if is_taken else _CUT, has_arrived=is_end and is_taken)

    # -- receiving

    def _receive(self) -> None:
        """What has come, written in one go."""
        pieces: list[bytes] = []
        is_whole: bool | None = None  # None: there may be more
        try:
            while len(pieces) < PIECE // _RECORD:
                pieces.append(self._tls.recv(_RECORD))
        except SSL.WantReadError:
            self._want(self._loop.READ)
        except SSL.WantWriteError:
            self._want(self._loop.WRITE)
        except SSL.ZeroReturnError:
            is_whole = True
        except SSL.Error:
            is_whole = False
        if pieces and is_whole is not False:
            self._keep(b"".join(pieces), is_whole=is_whole is True)
        elif is_whole is not None:
            self._has_come(is_whole=is_whole)

    def _keep(self, data: bytes, *, is_whole: bool) -> None:
        """What comes meanwhile waits in the socket."""
        cargo = self._cargo
        assert isinstance(cargo, Incoming)
        self._pause()
        self._session.errands.run(lambda: cargo.write(data), lambda done: self._kept(done.result, is_whole=is_whole))

    def _kept(self, result: Any, *, is_whole: bool) -> None:
        if self._phase is not Phase.RECEIVING:
            return
        try:
            result()
            if is_whole:
                self._has_come(is_whole=True)
            else:
                self._go_on()
                self._receive()  # what OpenSSL holds already wakes no loop
        except Exception:  # noqa: BLE001 - as the loop does
            self.handle_error()

    def _has_come(self, *, is_whole: bool) -> None:
        self._finish(DONE if is_whole else _UPLOAD_CUT, has_arrived=is_whole)

    def _pause(self) -> None:
        """Until an errand is over: no event, no deadline."""
        self._loop.unregister(self._fileno)
        self.deadline = float("inf")

    def _go_on(self) -> None:
        self._loop.register(self._fileno, self, self._events)
        self.deadline = clock.monotonic() + STALL_SECONDS

    # -- the end

    def _finish(self, answer: str, *, has_arrived: bool = False) -> None:
        """Record, answer, close. The answer comes last: what the client does next finds its read."""
        if self._phase in (Phase.SETTLING, Phase.OVER):
            return
        self._phase = Phase.SETTLING
        self._loop.forget(self)
        self._loop.unregister(self._fileno)
        cargo = self._cargo
        if cargo is None:
            self._end(answer if answer in _UNASKED else "")
        elif cargo.settle_at_once(has_arrived=has_arrived):
            self._end(answer)
        else:
            self._session.errands.run(
                lambda: cargo.settle(has_arrived=has_arrived), lambda done: self._settled(done.exception(), answer)
            )

    def _settled(self, error: BaseException | None, answer: str) -> None:
        if isinstance(error, GatewayError):
            is_upload = isinstance(self._cargo, Incoming)
            unread = f"451 The file was sent, but not recorded as read: {error.message}."
            answer = answer and (_refused(error) if is_upload else unread)
            if not answer:
                log.warning("entry.read_not_recorded", cause=error.message)
        elif error is not None:
            log.error("ftps.failed", address=self._session.remote_ip, exc_info=error)
            answer = answer and _FAILED
        self._end(answer)

    def _end(self, answer: str) -> None:
        if isinstance(self._cargo, Incoming) and answer == DONE:
            self._say_we_have_it()
        self._phase = Phase.OVER
        self._sock.close()
        self._tls = None
        self._session.data_is_over(self, answer)

    def _say_we_have_it(self) -> None:
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.shutdown()  # our close_notify


def _refused(error: GatewayError) -> str:
    return f"{NO_ROOM.get(error.code, 426)} Transfer aborted: {error.message}."


def _unacknowledged(connection: socket.socket) -> int:
    """Bytes that the client's machine has not acknowledged yet (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    count: int = struct.unpack("i", answer)[0]
    return count
