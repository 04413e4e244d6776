"""One data connection of an FTPS session (RFC 959, 4217): a listing or a file goes out or in; we look how it ends.

FTP has no word for "I have all of it". So after the last byte we say close_notify, end our half of the connection and
wait for the client's end: its close_notify or FIN, with nothing unacknowledged, means that every byte arrived, and
only then the file counts as read. Whatever else happens counts as sent, not as read.

A file that comes in is whole when the client said close_notify behind it. A FIN without it could be anybody's: the
upload is discarded and answered 426.
"""

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

import pyftpdlib.ioloop  # noqa: F401 -- first: it imports asyncore without its warning
import structlog
from OpenSSL import SSL
from pyftpdlib.handlers.ftp.data import DTPHandler
from pyftpdlib.handlers.ftp.dispatchers import PassiveDTP
from pyftpdlib.handlers.ftps.data import TLS_DTPHandler

from ..dropfolder.nodes import File
from ..dropfolder.uploads import Upload
from ..dropfolder.visit import Visit
from ..errors import GatewayError
from .ftps_tls import is_resumed, take_whole_writes

if TYPE_CHECKING:
    from .ftps_control import FtpsSession

log = structlog.get_logger(__name__)
HANDSHAKE_SECONDS = 20
PIECES_AT_ONCE = 16  # of 64 KB
NO_ROOM = {"disk_full": 452, "disk": 452, "quota": 552, "too_large": 552, "too_many_files": 552}  # RFC 959 4.2
_CUT = "426 The data connection was cut; the upload is discarded."
_BROKEN = "426 The data connection's TLS was broken."
_OUR_END = 1  # a FIN takes one place in the sequence


class Download:
    """An open file, as pyftpdlib's producer reads it."""

    def __init__(self, visit: Visit, reading: File, path: str, offset: int) -> None:
        self.name = path
        self.closed = False
        self._visit = visit
        self._reading = reading
        self._position = offset

    def read(self, size: int) -> bytes:
        """The next bytes; Unavailable when the disk refuses."""
        data = self._reading.read(self._position, size)
        self._position += len(data)
        return data

    def finish(self, *, has_arrived: bool) -> None:
        """Record what became of it, and let go of the bytes; Unavailable when that cannot be recorded now."""
        if self.closed:
            return
        self.closed = True
        if not has_arrived:
            self._visit.abandon([self._reading])
            return
        try:
            self._visit.close(self._reading)
        except GatewayError:
            self._reading.release()
            raise

    def close(self) -> None:
        """It was never sent."""
        try:
            self.finish(has_arrived=False)
        except GatewayError as error:
            log.warning("entry.read_not_recorded", file=self._reading.name, cause=error.message)


class Incoming:
    """A file that is being received, as pyftpdlib writes it."""

    def __init__(self, upload: Upload) -> None:
        self.name = upload.path
        self.closed = False
        self._upload = upload
        self._position = 0

    def write(self, data: bytes) -> None:
        """The next bytes; Refused over a limit, Unavailable when the disk refuses."""
        self._upload.write(self._position, data)
        self._position += len(data)

    def finish(self) -> None:
        """The client said that this was all of it; see Upload.finish."""
        self.closed = True
        self._upload.finish()

    def close(self) -> None:
        """It was cut."""
        self.closed = True
        self._upload.release()


class DataConnection(TLS_DTPHandler):  # type: ignore[misc]
    """What pyftpdlib makes for each data connection."""

    timeout = 300  # seconds without progress
    cmd_channel: "FtpsSession"
    _ssl_established: bool

    def __init__(self, sock: socket.socket, cmd_channel: "FtpsSession") -> None:
        self._is_ending = False
        self._piece = b""  # on its way: OpenSSL wants the same bytes again until it has taken them all
        super().__init__(sock, cmd_channel)
        if not self._closed and isinstance(self.socket, SSL.Connection):
            take_whole_writes(self.socket)
            self.call_later(HANDSHAKE_SECONDS, self._end_without_handshake)

    def __repr__(self) -> str:
        """Short: pyftpdlib makes one at each step, for a log that is not written."""
        return "<data connection>"

    def _end_without_handshake(self) -> None:
        if not self._ssl_established:
            self.handle_failed_ssl_handshake()

    def modify_ioloop_events(self, events: int, logdebug: bool = False) -> None:
        """While the handshake waits for the client, only what it waits for: to be told that the socket can be written
        to would have the loop spin until the client speaks (48 CPU seconds per 1,000 files with lftp).
        """
        if self._ssl_accepting:
            events = self.ioloop.WRITE if self._ssl_want_write else self.ioloop.READ
        super().modify_ioloop_events(events, logdebug)

    def enable_receiving(self, _type: str, cmd: str) -> None:
        """Bytes as they are, whatever TYPE says."""
        super().enable_receiving("i", cmd)

    def handle_ssl_established(self) -> None:
        """Refuse a session that is nobody's, where the policy asks for it; else go on with what waits."""
        if self.cmd_channel.listener.needs_session_reuse and not is_resumed(self.socket):
            is_awaited = self.file_obj is not None or bool(self.producer_fifo)
            self._finish(has_arrived=False)
            self.cmd_channel.refuse_data(is_awaited=is_awaited)
            return
        if self._is_sending:
            self.initiate_send()
        else:
            self.modify_ioloop_events(self._wanted_io_events)

    @property
    def _is_sending(self) -> bool:
        return self._initialized and not self.receive and not self._is_ending

    def push_with_producer(self, producer: Any) -> None:
        """Begin to send, without waiting to be told that the socket has room."""
        self._initialized = True
        self.producer_fifo.append(producer)
        self.initiate_send()

    def close_when_done(self) -> None:
        """Nothing comes behind what is being sent."""
        super().close_when_done()
        self.initiate_send()

    def initiate_send(self) -> None:
        """Send until the socket is full, or the control connection should be looked at again.

        Nothing before the handshake is over: sending would go on with it behind the loop's back.
        """
        if self._ssl_accepting or self._closed:
            return
        self._ssl_want_read = self._ssl_want_write = False
        for _ in range(PIECES_AT_ONCE):
            self._piece = self._piece or self._next_piece()
            if not self._piece:
                return
            if not self.send(self._piece):
                self._want(self.ioloop.READ if self._ssl_want_read else self.ioloop.WRITE)
                return
            self._piece = b""
        self._want(self.ioloop.WRITE)

    def _next_piece(self) -> bytes:
        """Empty when there is none yet, or when that was all of it."""
        while self.producer_fifo:
            producer = self.producer_fifo[0]
            if producer is None:
                self.producer_fifo.clear()
                self.handle_close()
                break
            if piece := producer.more():
                return bytes(piece)
            del self.producer_fifo[0]
        return b""

    def readable(self) -> bool:
        return self._is_ending or bool(super().readable())

    def writable(self) -> bool:
        return self._is_ending or bool(super().writable())

    def handle_read_event(self) -> None:
        if self._is_ending:
            self._look_for_their_end()
        elif self._ssl_accepting:
            self._shake_hands()
        elif self._is_sending:
            self.initiate_send()
        else:
            super().handle_read_event()

    def handle_write_event(self) -> None:
        if self._is_ending:
            self._say_our_end()
        elif self._ssl_accepting:
            self._shake_hands()
        elif self._is_sending:
            self.initiate_send()
        else:
            super().handle_write_event()

    def _shake_hands(self) -> None:
        self._do_ssl_handshake()
        if self._ssl_accepting:
            self.modify_ioloop_events(self._wanted_io_events)

    def abort(self, answer: str) -> None:
        """The client wants no more of it; `answer` if it waits for one."""
        if answer:
            self._resp = (answer, log.warning)
        self.close()

    def close(self) -> None:
        """Everything that ends a transfer comes here; a file that was sent whole waits for the client's end."""
        if self._closed:
            return
        if isinstance(self.file_obj, Incoming) and not self.file_obj.closed:
            self._receive_end(self.file_obj)
            return
        if self.transfer_finished and self._ssl_established and not (self._error or self._is_ending):
            self._is_ending = True
            self.call_later(self.cmd_channel.listener.settings.confirm_seconds, self._finish, has_arrived=False)
            self._say_our_end()
        else:
            self._finish(has_arrived=False)

    def _receive_end(self, file: Incoming) -> None:
        """Keep what is whole; the answer comes after that."""
        is_said = self._ssl_established and self.socket.get_shutdown() & SSL.RECEIVED_SHUTDOWN
        if self._error or not self.transfer_finished or not is_said:
            if not self._error:
                self._resp = (_CUT, log.warning)
            file.close()
        else:
            try:
                file.finish()
            except GatewayError as error:
                self._resp = (_refused(error), log.warning)
            with contextlib.suppress(SSL.Error, OSError):
                self.socket.shutdown()  # our close_notify
        self._finish(has_arrived=False)

    def _say_our_end(self) -> None:
        try:
            self.socket.shutdown()  # sends close_notify
            self.socket.sock_shutdown(socket.SHUT_WR)
        except SSL.WantWriteError:
            self._want(self.ioloop.WRITE)
            return
        except (SSL.Error, OSError):
            self._finish(has_arrived=False)
            return
        if isinstance(self.file_obj, Download):
            self._want(self.ioloop.READ)
        else:
            self._finish(has_arrived=True)  # a listing proves nothing

    def _want(self, events: int) -> None:
        self._wanted_io_events = events
        self.modify_ioloop_events(events)

    def _look_for_their_end(self) -> None:
        try:
            while self.socket.recv(4096):
                pass  # what a client says during a download means nothing
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            is_end = True
        except SSL.SysCallError as error:
            is_end = error.args[0] == -1  # a FIN without close_notify
        except SSL.Error as error:
            is_end = "unexpected eof" in str(error)  # the same, as OpenSSL 3 says it
        is_taken = _unacknowledged(self.socket) <= _OUR_END
        if not is_taken:  # a reset alone says less: a client that closes before it reads our close_notify causes one
            self._resp = ("426 The data connection was cut.", log.warning)
        self._finish(has_arrived=is_end and is_taken)

    def _finish(self, *, has_arrived: bool) -> None:
        """Record, answer, close. The answer comes last: what the client does next finds its read."""
        if self._closed:
            return
        if isinstance(self.file_obj, Download):
            try:
                self.file_obj.finish(has_arrived=has_arrived)
            except GatewayError as error:
                self._resp = (f"451 The file was sent, but not recorded as read: {error.message}.", log.warning)
        self._ssl_established = self._ssl_accepting = self._ssl_closing = False
        DTPHandler.close(self)

    def handle_error(self) -> None:
        """Bytes that the disk refuses; or what nobody foresaw, with its trace in our log."""
        self._error = True
        error = sys.exc_info()[1]
        if isinstance(error, GatewayError):
            self._resp = (_refused(error), log.warning)
            self.close()
        elif isinstance(error, SSL.Error):
            self._resp = (_CUT if isinstance(self.file_obj, Incoming) else _BROKEN, log.warning)
            self.close()
        else:
            DTPHandler.handle_error(self)


def _refused(error: GatewayError) -> str:
    return f"{NO_ROOM.get(error.code, 426)} Transfer aborted: {error.message}."


class NoPassivePort(Exception):
    """Every configured port for data connections is in use."""


class PassiveListener(PassiveDTP):  # type: ignore[misc]
    """Where a data connection is awaited: on a configured port, or nowhere (pyftpdlib would take any that is free)."""

    def __repr__(self) -> str:
        return "<passive listener>"

    def bind_af_unspecified(self, _address: tuple[str, int]) -> int:
        """The family of an address, which pyftpdlib finds by a socket that it throws away: the session's own."""
        self.socket = socket.socket()
        family: int = self.cmd_channel.socket.family
        return family

    def bind(self, addr: tuple[str, int]) -> None:
        """NoPassivePort when pyftpdlib gives up on the configured ones."""
        if addr[1] == 0 and self.cmd_channel.passive_ports is not None:
            self.close()
            raise NoPassivePort
        super().bind(addr)


def _unacknowledged(connection: Any) -> int:
    """Bytes that the client's machine has not acknowledged yet (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    count: int = struct.unpack("i", answer)[0]
    return count
